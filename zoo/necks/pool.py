"""Pooling necks: a map of any size becomes one of a fixed size, or one number a channel."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from annotated_types import MinLen
from pydantic import PositiveInt
from torch import nn

from zoo.errors import ShapeError
from zoo.features import Feature, require_maps
from zoo.layers.pool import AdaptivePooling, global_average, global_maximum

PerAxis = PositiveInt | Annotated[tuple[PositiveInt, ...], MinLen(1)]


class GlobalAveragePool(nn.Module):
    """Average each channel of the last map to one number.

    Source: Lin, Chen, Yan, "Network In Network", ICLR 2014, section 3.2.

    Args:
        in_features: what the stage before gives, maps of one to three axes; only the last one is used.

    Shape:
        map ``(N, C, *spatial)`` → one vector ``(N, C)``.

    Raises:
        ShapeError: ``in_features`` is empty or holds a vector.

    >>> neck = GlobalAveragePool((Feature("stage4", channels=512, stride=32),))
    >>> [tuple(v.shape) for v in neck((torch.zeros(2, 512, 7, 7),))]
    [(2, 512)]
    """

    def __init__(self, in_features: tuple[Feature, ...]) -> None:
        super().__init__()
        feature = require_maps(in_features)[-1]
        self.dims = feature.dims  # known beforehand: a symbolic trace cannot ask a tensor for it
        self.features = (Feature(feature.name, feature.channels, feature.stride, size=()),)

    def forward(self, maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (global_average(maps[-1], self.dims),)


class GlobalMaxPool(nn.Module):
    """Keep the largest number of each channel of the last map.

    Source: Oquab, Bottou, Laptev, Sivic, "Is Object Localization for Free?", CVPR 2015, section 3.2. Where several
    positions share the largest number they share its gradient.

    Args:
        in_features: what the stage before gives, maps of one to three axes; only the last one is used.

    Shape:
        map ``(N, C, *spatial)`` → one vector ``(N, C)``.

    Raises:
        ShapeError: ``in_features`` is empty or holds a vector.

    >>> neck = GlobalMaxPool((Feature("stage4", channels=512, stride=32),))
    >>> [tuple(v.shape) for v in neck((torch.zeros(2, 512, 7, 7),))]
    [(2, 512)]
    """

    def __init__(self, in_features: tuple[Feature, ...]) -> None:
        super().__init__()
        feature = require_maps(in_features)[-1]
        self.dims = feature.dims  # known beforehand: a symbolic trace cannot ask a tensor for it
        self.features = (Feature(feature.name, feature.channels, feature.stride, size=()),)

    def forward(self, maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (global_maximum(maps[-1], self.dims),)


class AdaptivePool(nn.Module):
    """Pool the last map to a fixed size, whatever size it comes in.

    Source: He, Zhang, Ren, Sun, "Spatial Pyramid Pooling in Deep Convolutional Networks", ECCV 2014, section 2.2,
    with one level.

    Args:
        in_features: what the stage before gives, maps of one to three axes; only the last one is used.
        size: of the result: one number for every axis, or one for each.
        pool: ``avg`` or ``max``.
        flatten: whether to lay the result out as one vector.

    Shape:
        map ``(N, C, H, W)`` → ``(N, C, size, size)``, or ``(N, C · size²)`` with ``flatten``; one axis and three
        likewise.

    Raises:
        ShapeError: ``in_features`` is empty or holds a vector, or ``size`` has not one number for each axis.

    >>> neck = AdaptivePool((Feature("stage5", channels=8, stride=32),), size=7, flatten=True)
    >>> [tuple(v.shape) for v in neck((torch.zeros(2, 8, 9, 12),))]
    [(2, 392)]
    """

    def __init__(
        self,
        in_features: tuple[Feature, ...],
        size: PerAxis = 7,
        pool: Literal["avg", "max"] = "avg",
        flatten: bool = False,
    ) -> None:
        super().__init__()
        feature = require_maps(in_features)[-1]
        out = (size,) * feature.dims if isinstance(size, int) else size
        if len(out) != feature.dims:
            raise ShapeError(
                f"size={list(out)} for the map {feature.name!r} ({feature.shape_text})",
                "one number for each of its axes, or one for all of them",
            )
        self.pool = AdaptivePooling(out, pool)
        self.flatten = flatten
        width = feature.channels * math.prod(out) if flatten else feature.channels
        self.features = (Feature(feature.name, width, stride=None, size=() if flatten else out),)

    def forward(self, maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        pooled = self.pool(maps[-1])
        return (pooled.flatten(1) if self.flatten else pooled,)
