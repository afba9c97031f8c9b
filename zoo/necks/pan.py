"""PathAggregation: a feature pyramid, and a short way back up it for what the fine maps saw."""

from __future__ import annotations

from itertools import pairwise

import torch
from pydantic import PositiveInt
from torch import nn

from zoo.errors import ShapeError
from zoo.features import Feature, require_maps
from zoo.layers.activation import ActivationName, activation_maker
from zoo.layers.conv import conv
from zoo.layers.init import Init, InitName
from zoo.layers.norm import Norm, NormName, is_none, norm_maker
from zoo.layers.resize import resize
from zoo.necks.fpn import FeaturePyramid


class PathAggregation(nn.Module):
    """A feature pyramid, then a path from its finest map up: each result, strided, is added to the coarser map.

    Source: Liu, Qi, Qin, Shi, Jia, "Path Aggregation Network for Instance Segmentation", CVPR 2018, section 3.1; the
    pyramid is :class:`zoo.necks.fpn.FeaturePyramid`. Where a strided map has not the size of the coarser one, which
    may have been rounded down, it is resized to it.

    Args:
        in_features: what the stage before gives, maps from fine to coarse; all of them are used.
        channels: width of every result.
        norm: normalisation after each convolution, which has a bias only without one.
        activation: activation after each convolution of the way up.
        init: how the convolutions start.

    Shape:
        maps ``(N, Cᵢ, *spatialᵢ)`` → as many maps ``(N, channels, *spatialᵢ)``.

    Raises:
        ShapeError: a vector comes in, nothing at all, or maps whose strides are not each a multiple of the one before.

    >>> maps = (Feature("stage2", channels=128, stride=8), Feature("stage3", channels=256, stride=16))
    >>> neck = PathAggregation(maps, channels=64)
    >>> [tuple(m.shape) for m in neck((torch.zeros(1, 128, 25, 20), torch.zeros(1, 256, 12, 10)))]
    [(1, 64, 25, 20), (1, 64, 12, 10)]
    """

    def __init__(
        self,
        in_features: tuple[Feature, ...],
        channels: PositiveInt = 256,
        norm: NormName | Norm = "none",
        activation: ActivationName = "relu",
        init: InitName | Init = "lecun",
    ) -> None:
        super().__init__()
        dims = self.dims = require_maps(in_features)[0].dims
        require_maps(in_features, dims)
        steps = [_step(fine, coarse) for fine, coarse in pairwise(in_features)]
        make_norm, make_activation = norm_maker(norm, dims=dims), activation_maker(activation)

        def layer(stride: tuple[int, ...]) -> nn.Sequential:
            made = nn.Sequential()
            made.add_module(
                "conv", conv(channels, channels, 3, dims=dims, stride=stride, padding=1, bias=is_none(norm), init=init)
            )
            made.add_module("norm", make_norm(channels))
            made.add_module("activation", make_activation())
            return made

        self.pyramid = FeaturePyramid(in_features, channels, norm=norm, init=init)
        self.downs = nn.ModuleList(layer(step) for step in steps)
        self.outputs = nn.ModuleList(layer((1,) * dims) for _ in steps)
        self.features = self.pyramid.features

    def forward(self, maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        below, *rest = self.pyramid(maps)
        results = [below]
        for down, output, beside in zip(self.downs, self.outputs, rest, strict=True):
            below = output(beside + resize(down(below), beside.shape[2:], dims=self.dims, mode="nearest"))
            results.append(below)
        return tuple(results)


def _step(fine: Feature, coarse: Feature) -> tuple[int, ...]:
    """Return the stride, for each axis, that leads from one map to the next.

    Raises:
        ShapeError: no whole number does.
    """
    if any(there % here for here, there in zip(fine.strides, coarse.strides, strict=True)):
        raise ShapeError(
            f"the map {coarse.name!r} of stride {coarse.stride} after {fine.name!r} of stride {fine.stride}",
            "maps from fine to coarse, the stride of each a multiple of the one before",
        )
    return tuple(there // here for here, there in zip(fine.strides, coarse.strides, strict=True))
