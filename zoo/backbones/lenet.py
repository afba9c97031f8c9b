"""LeNet: the convolutions of LeNet-5."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import nn

from zoo.features import Feature
from zoo.layers.activation import ActivationName, activation_maker
from zoo.layers.conv import Dims, avg_pool, conv, max_pool, require_dims, require_size, window_size
from zoo.layers.init import Init, InitName
from zoo.layers.norm import Norm, NormName, norm_maker
from zoo.layers.parameters import Widths


class LeNet(nn.Module):
    """Unpadded convolutions, each followed by an activation and a pooling of 2.

    Source: LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", Proceedings of
    the IEEE 86(11), 1998, section II.B. Departures: every map of C3 sees every map of S2, the pooling has no weights,
    tanh is not scaled. C5 and F6 are the ``mlp`` bottleneck's, the output is the ``linear`` head's.

    Args:
        in_channels: channels of the input.
        in_size: spatial size of the input, where it is known.
        channels: width of each stage.
        kernel_size: of every convolution, along each axis.
        dims: spatial dimensions: 1 for signals, 2 for images, 3 for volumes and video.
        norm: normalisation after each convolution.
        activation: activation after each normalisation.
        pool: ``avg`` as in the paper, or ``max``.
        init: how the convolutions start.

    Shape:
        ``(N, in_channels, H, W)`` → one map for each stage, ``(N, channels[i], Hᵢ, Wᵢ)`` with stride 2, 4, …; one axis
        and three likewise.

    Raises:
        ShapeError: the input is too small or of other dimensions.

    >>> net = LeNet(in_channels=1, in_size=(32, 32))
    >>> [tuple(m.shape) for m in net(torch.zeros(2, 1, 32, 32))]
    [(2, 6, 14, 14), (2, 16, 5, 5)]
    """

    def __init__(
        self,
        in_channels: int,
        in_size: tuple[int, ...] | None = None,
        channels: Widths = (6, 16),
        kernel_size: PositiveInt = 5,
        dims: Dims = 2,
        norm: NormName | Norm = "none",
        activation: ActivationName = "tanh",
        pool: Literal["avg", "max"] = "avg",
        init: InitName | Init = "default",
    ) -> None:
        super().__init__()
        self.min_size = 1
        for _ in channels:
            self.min_size = 2 * self.min_size + kernel_size - 1
        self.dims = dims
        require_dims(in_size, dims)
        require_size(in_size, self.min_size, f"{len(channels)} stages of kernel {kernel_size}")
        make_norm, make_activation = norm_maker(norm, dims), activation_maker(activation)
        features, size = [], in_size
        self.stages = nn.ModuleList()
        for index, width in enumerate(channels, start=1):
            stage = nn.Sequential()
            stage.add_module("conv", conv(in_channels, width, kernel_size, dims=dims, init=init))
            stage.add_module("norm", make_norm(width))
            stage.add_module("activation", make_activation())
            stage.add_module("pool", (avg_pool if pool == "avg" else max_pool)(2, dims=dims))
            self.stages.append(stage)
            size = window_size(window_size(size, kernel_size), 2, stride=2)
            features.append(Feature(f"stage{index}", width, 2**index, size, dims))
            in_channels = width
        self.features = tuple(features)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return tuple(maps)
