"""FeaturePyramid: every map as wide as the others, each told what the coarser ones have seen."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import nn

from zoo.features import Feature, require_maps
from zoo.layers.conv import conv, max_pool, window_size
from zoo.layers.init import Init, InitName
from zoo.layers.norm import Norm, NormName, is_none, norm_maker


class FeaturePyramid(nn.Module):
    """A feature pyramid: from the coarsest map down, each is added to the finer one beside it.

    Source: Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, section 3; the levels P6 and P7 by
    convolutions: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, section 4. A coarser map is brought
    to the finer one's own size, so that sizes need not be multiples of each other. With equal weights it computes what
    ``torchvision.ops.FeaturePyramidNetwork`` does.

    Args:
        in_features: what the stage before gives, maps from fine to coarse; all of them are used.
        channels: width of every result.
        extra: coarser levels besides: ``none``, ``pool`` (one, every second position of the last result) or ``p6p7``
            (two, by 3×3 convolutions of stride 2 with a ReLU between them).
        extra_from: what ``p6p7`` starts from, the last result (``p5``) or the last map that comes in (``c5``).
        norm: normalisation after each convolution of the pyramid, which has a bias only without one.
        init: how the convolutions start.

    Shape:
        maps ``(N, Cᵢ, *spatialᵢ)`` → as many maps ``(N, channels, *spatialᵢ)`` and the extra ones, each half as large
        as the one before, rounded up.

    Raises:
        ShapeError: a vector comes in, or nothing at all.

    >>> maps = (Feature("stage2", channels=128, stride=8), Feature("stage3", channels=256, stride=16))
    >>> neck = FeaturePyramid(maps, channels=64, extra="p6p7")
    >>> [(f.name, f.stride) for f in neck.features]
    [('stage2', 8), ('stage3', 16), ('p6', 32), ('p7', 64)]
    >>> [tuple(m.shape) for m in neck((torch.zeros(1, 128, 25, 20), torch.zeros(1, 256, 13, 10)))]
    [(1, 64, 25, 20), (1, 64, 13, 10), (1, 64, 7, 5), (1, 64, 4, 3)]
    """

    def __init__(
        self,
        in_features: tuple[Feature, ...],
        channels: PositiveInt = 256,
        extra: Literal["none", "pool", "p6p7"] = "none",
        extra_from: Literal["p5", "c5"] = "p5",
        norm: NormName | Norm = "none",
        init: InitName | Init = "lecun",
    ) -> None:
        super().__init__()
        *_, coarsest = require_maps(in_features)
        dims = coarsest.dims
        make_norm = norm_maker(norm, dims=dims)

        def layer(width: int, kernel_size: int) -> nn.Sequential:
            made = nn.Sequential()
            padding, bias = kernel_size // 2, is_none(norm)
            made.add_module(
                "conv", conv(width, channels, kernel_size, dims=dims, padding=padding, bias=bias, init=init)
            )
            made.add_module("norm", make_norm(channels))
            return made

        self.laterals = nn.ModuleList(layer(f.channels, 1) for f in in_features)
        self.outputs = nn.ModuleList(layer(channels, 3) for _ in in_features)
        self.features = tuple(Feature(f.name, channels, f.stride, f.size, f.dims) for f in in_features)
        self.pool: nn.Module | None = None
        self.p6: nn.Module | None = None
        self.p7: nn.Module | None = None
        self._from_input = extra_from == "c5"
        if extra == "pool":
            self.pool = max_pool(1, dims=dims, stride=2)
            self.features += (_halved(self.features[-1], "pool"),)
        elif extra == "p6p7":
            width = coarsest.channels if self._from_input else channels
            self.p6 = conv(width, channels, 3, dims=dims, stride=2, padding=1, init=init)
            self.p7 = conv(channels, channels, 3, dims=dims, stride=2, padding=1, init=init)
            self.features += (_halved(self.features[-1], "p6"),)
            self.features += (_halved(self.features[-1], "p7"),)

    def forward(self, maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        above = self.laterals[-1](maps[-1])
        pyramid = [self.outputs[-1](above)]
        for index in range(len(maps) - 2, -1, -1):
            beside = self.laterals[index](maps[index])
            above = beside + nn.functional.interpolate(above, size=beside.shape[2:], mode="nearest")
            pyramid.insert(0, self.outputs[index](above))
        if self.pool is not None:
            pyramid.append(self.pool(pyramid[-1]))
        if self.p6 is not None and self.p7 is not None:
            p6 = self.p6(maps[-1] if self._from_input else pyramid[-1])
            pyramid += [p6, self.p7(nn.functional.relu(p6))]
        return tuple(pyramid)


def _halved(feature: Feature, name: str) -> Feature:
    strides = None if feature.stride is None else tuple(2 * stride for stride in feature.strides)
    return Feature(name, feature.channels, strides, window_size(feature.size, 3, stride=2, padding=1), feature.dims)
