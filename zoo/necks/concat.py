"""Concat: all maps at the size of the first, as one."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import nn

from zoo.features import Feature, require_maps
from zoo.layers.activation import ActivationName, activation_maker
from zoo.layers.conv import conv
from zoo.layers.init import Init, InitName
from zoo.layers.norm import Norm, NormName, is_none, norm_maker
from zoo.layers.resize import ResizeMode, resize


class Concat(nn.Module):
    """Bring every map to the size of the first, the finest, and lay them side by side as channels of one.

    Source: Hariharan, Arbeláez, Girshick, Malik, "Hypercolumns for Object Segmentation and Fine-grained Localization",
    CVPR 2015, section 3; the reduction is a 1×1 convolution over all of them.

    Args:
        in_features: what the stage before gives, maps of the same number of axes; all of them are used.
        channels: width of the result, by a 1×1 convolution with norm and activation; None leaves all channels as they
            are.
        mode: how maps are resized, ``linear`` along every axis or ``nearest``.
        norm: normalisation after the convolution, which has a bias only without one.
        activation: activation after the normalisation.
        init: how the convolution starts.

    Shape:
        maps ``(N, Cᵢ, *spatialᵢ)`` → one map ``(N, ΣCᵢ, *spatial₀)``, or ``(N, channels, *spatial₀)``.

    Raises:
        ShapeError: a vector comes in, maps of several dimensions, or nothing at all.

    >>> neck = Concat((Feature("stage1", channels=8, stride=4), Feature("stage2", channels=16, stride=8)))
    >>> [tuple(m.shape) for m in neck((torch.zeros(1, 8, 9, 9), torch.zeros(1, 16, 5, 5)))]
    [(1, 24, 9, 9)]
    """

    def __init__(
        self,
        in_features: tuple[Feature, ...],
        channels: PositiveInt | None = None,
        mode: ResizeMode = "linear",
        norm: NormName | Norm = "batch",
        activation: ActivationName = "relu",
        init: InitName | Init = "kaiming",
    ) -> None:
        super().__init__()
        finest = require_maps(in_features)[0]
        require_maps(in_features, finest.dims)
        self.mode: ResizeMode = mode
        self.dims = finest.dims
        width = sum(feature.channels for feature in in_features)
        self.reduce = nn.Sequential()
        if channels is not None:
            made = conv(width, channels, 1, dims=finest.dims, bias=is_none(norm), init=init)
            self.reduce.add_module("conv", made)
            self.reduce.add_module("norm", norm_maker(norm, dims=finest.dims)(channels))
            self.reduce.add_module("activation", activation_maker(activation)())
            width = channels
        self.features = (Feature(finest.name, width, finest.stride, finest.size, finest.dims),)

    def forward(self, maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        first, *others = maps
        resized = [resize(other, first.shape[2:], dims=self.dims, mode=self.mode) for other in others]
        return (self.reduce(torch.cat([first, *resized], dim=1)),)
