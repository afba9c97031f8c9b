"""Pooling necks: a map of any size becomes one of a fixed size, or one number a channel."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import nn

from zoo.features import Feature, require_maps


class GlobalAveragePool(nn.Module):
    """Average each channel of the last map to one number.

    Source: Lin, Chen, Yan, "Network In Network", ICLR 2014, section 3.2.

    Args:
        in_features: what the stage before gives; only the last one is used.

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
        self.features = (Feature(feature.name, feature.channels, feature.stride, size=()),)

    def forward(self, maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        # The same operator as in torchvision's ResNet: a mean over the axes rounds differently.
        return (nn.functional.adaptive_avg_pool2d(maps[-1], 1).flatten(1),)


class AdaptivePool(nn.Module):
    """Pool the last map to a fixed size, whatever size it comes in.

    Source: He, Zhang, Ren, Sun, "Spatial Pyramid Pooling in Deep Convolutional Networks", ECCV 2014, section 2.2,
    with one level.

    Args:
        in_features: what the stage before gives; only the last one is used.
        size: height and width of the result.
        pool: ``avg`` or ``max``.
        flatten: whether to lay the result out as one vector.

    Shape:
        map ``(N, C, H, W)`` → ``(N, C, size, size)``, or ``(N, C · size²)`` with ``flatten``.

    Raises:
        ShapeError: ``in_features`` is empty or holds a vector.

    >>> neck = AdaptivePool((Feature("stage5", channels=8, stride=32),), size=7, flatten=True)
    >>> [tuple(v.shape) for v in neck((torch.zeros(2, 8, 9, 12),))]
    [(2, 392)]
    """

    def __init__(
        self,
        in_features: tuple[Feature, ...],
        size: PositiveInt = 7,
        pool: Literal["avg", "max"] = "avg",
        flatten: bool = False,
    ) -> None:
        super().__init__()
        feature = require_maps(in_features)[-1]
        self.pool = nn.AdaptiveAvgPool2d(size) if pool == "avg" else nn.AdaptiveMaxPool2d(size)
        self.flatten = flatten
        out = (size, size)
        width = feature.channels * math.prod(out) if flatten else feature.channels
        self.features = (Feature(feature.name, width, feature.stride, size=() if flatten else out),)

    def forward(self, maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        pooled = self.pool(maps[-1])
        return (pooled.flatten(1) if self.flatten else pooled,)
