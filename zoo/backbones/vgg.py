"""VGG: stages of convolutions of kernel 3, each ended by a pooling."""

from __future__ import annotations

import torch
from torch import nn

from zoo.errors import ShapeError
from zoo.features import Feature
from zoo.layers.activation import ActivationName, activation_maker
from zoo.layers.conv import Dims, conv, max_pool, require_dims, require_size, window_size
from zoo.layers.init import Init, InitName
from zoo.layers.norm import Norm, NormName, is_none, norm_maker
from zoo.layers.parameters import Widths


class VGG(nn.Module):
    """Stages of convolutions of kernel 3, each ended by a max pooling of 2.

    Source: Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015,
    table 1; batch normalisation is not in the paper. The classifier is the ``mlp`` bottleneck's and the ``linear``
    head's. At the paper's numbers the modules of ``layers`` stand in the order of torchvision's ``features``.

    Args:
        in_channels: channels of the input.
        in_size: spatial size of the input, where it is known.
        layers: how many convolutions each stage has; the default is VGG-16's.
        channels: width of each stage.
        dims: spatial dimensions: 1 for signals, 2 for images, 3 for volumes and video.
        norm: normalisation after each convolution.
        activation: activation after each normalisation.
        init: how the convolutions start.

    Shape:
        ``(N, in_channels, H, W)`` → one map for each stage, ``(N, channels[i], H/2ⁱ⁺¹, W/2ⁱ⁺¹)`` rounded down; one axis
        and three likewise.

    Raises:
        ShapeError: ``layers`` and ``channels`` differ in length, or the input is too small or of other dimensions.

    >>> net = VGG(in_channels=1, layers=(1, 1), channels=(8, 16))
    >>> [tuple(m.shape) for m in net(torch.zeros(2, 1, 32, 32))]
    [(2, 8, 16, 16), (2, 16, 8, 8)]
    """

    def __init__(
        self,
        in_channels: int,
        in_size: tuple[int, ...] | None = None,
        layers: Widths = (2, 2, 3, 3, 3),
        channels: Widths = (64, 128, 256, 512, 512),
        dims: Dims = 2,
        norm: NormName | Norm = "none",
        activation: ActivationName = "relu",
        init: InitName | Init = "kaiming",
    ) -> None:
        super().__init__()
        if len(layers) != len(channels):
            raise ShapeError(
                f"layers for {len(layers)} stages and channels for {len(channels)}",
                "one number of each for every stage",
            )
        self.min_size = 2 ** len(layers)
        self.dims = dims
        require_dims(in_size, dims)
        require_size(in_size, self.min_size, f"{len(layers)} stages that each halve it")
        make_norm, make_activation = norm_maker(norm, dims), activation_maker(activation)
        features, size = [], in_size
        self.layers = nn.ModuleList()
        self._ends = set()
        for index, (depth, width) in enumerate(zip(layers, channels, strict=True), start=1):
            for _ in range(depth):
                self.layers.append(conv(in_channels, width, 3, dims=dims, padding=1, init=init))
                if not is_none(norm):
                    self.layers.append(make_norm(width))
                self.layers.append(make_activation())
                in_channels = width
            self._ends.add(len(self.layers))
            self.layers.append(max_pool(2, dims=dims))
            size = window_size(size, 2, stride=2)
            features.append(Feature(f"stage{index}", width, 2**index, size, dims))
        self.features = tuple(features)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps = []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in self._ends:
                maps.append(x)
        return tuple(maps)
