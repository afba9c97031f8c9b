"""Flatten: the last map as one long vector."""

from __future__ import annotations

import torch
from torch import nn

from zoo.errors import ShapeError
from zoo.features import Feature, last, require_shape
from zoo.layers.eager import is_eager


class Flatten(nn.Module):
    """Lay the last map out as one long vector.

    Args:
        in_features: what the stage before gives; only the last one is used, and its size has to be known.

    Shape:
        map ``(N, C, *spatial)`` → one vector ``(N, C · prod(spatial))``.

    Raises:
        ShapeError: ``in_features`` is empty, or the size of the last one is not known.

    >>> neck = Flatten((Feature("stage2", channels=16, stride=4, size=(5, 5)),))
    >>> [tuple(v.shape) for v in neck((torch.zeros(2, 16, 5, 5),))]
    [(2, 400)]
    """

    def __init__(self, in_features: tuple[Feature, ...]) -> None:
        super().__init__()
        self.source = feature = last(in_features)
        width = feature.numel
        if width is None:
            raise ShapeError(
                f"the map {feature.name!r} ({feature.shape_text}) of unknown size",
                "its size in the spec, such as input.size = [32, 32], or the neck 'gap' or 'adaptive_pool'",
            )
        self.features = (Feature(feature.name, width, feature.stride, size=()),)

    def forward(self, maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        if is_eager(maps[-1]):
            require_shape(maps[-1], self.source)
        return (maps[-1].flatten(1),)
