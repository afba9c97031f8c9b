"""Conv1x1: every map to a smaller width, at each position by itself."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import nn

from zoo.features import Feature, require_maps
from zoo.layers.activation import ActivationName, activation_maker
from zoo.layers.conv import conv
from zoo.layers.init import Init, InitName
from zoo.layers.norm import Norm, NormName, is_none, norm_maker


class Conv1x1(nn.Module):
    """A convolution of kernel 1 with norm and activation on every map, each map with weights of its own.

    Source: Lin, Chen, Yan, "Network In Network", ICLR 2014, section 3.1; as a reduction: Szegedy et al., "Going
    Deeper with Convolutions", CVPR 2015, section 4.

    Args:
        in_features: what the stage before gives, maps of one to three axes alone.
        out_channels: width of each result.
        norm: normalisation after each convolution, which has a bias only without one.
        activation: activation after each normalisation.
        init: how the convolutions start.

    Shape:
        maps ``(N, Cᵢ, *spatialᵢ)`` → as many maps ``(N, out_channels, *spatialᵢ)``.

    Raises:
        ShapeError: a vector comes in.

    >>> bottleneck = Conv1x1((Feature("stage4", channels=512, stride=32),), out_channels=64)
    >>> [tuple(m.shape) for m in bottleneck((torch.zeros(2, 512, 7, 7),))]
    [(2, 64, 7, 7)]
    """

    def __init__(
        self,
        in_features: tuple[Feature, ...],
        out_channels: PositiveInt = 256,
        norm: NormName | Norm = "batch",
        activation: ActivationName = "relu",
        init: InitName | Init = "kaiming",
    ) -> None:
        super().__init__()
        make_activation = activation_maker(activation)
        self.layers = nn.ModuleList()
        for feature in require_maps(in_features):
            layer = nn.Sequential()
            layer.add_module(
                "conv", conv(feature.channels, out_channels, 1, dims=feature.dims, bias=is_none(norm), init=init)
            )
            layer.add_module("norm", norm_maker(norm, dims=feature.dims)(out_channels))
            layer.add_module("activation", make_activation())
            self.layers.append(layer)
        self.features = tuple(Feature(f.name, out_channels, f.stride, f.size, f.dims) for f in in_features)

    def forward(self, maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return tuple(layer(m) for layer, m in zip(self.layers, maps, strict=True))
