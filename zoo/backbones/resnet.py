"""ResNet: residual stages of basic or bottleneck blocks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import nn

from zoo.features import Feature
from zoo.layers.activation import ActivationName, activation_maker
from zoo.layers.conv import conv, require_dims, window_size
from zoo.layers.init import Init, InitName
from zoo.layers.norm import Norm, NormName, norm_maker
from zoo.layers.parameters import Widths

_MakeConv = Callable[..., nn.Module]
_MakeNorm = Callable[[int], nn.Module]
_MakeActivation = Callable[[], nn.Module]


class _BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut (figure 5, left)."""

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        shortcut: nn.Module | None,
        *,
        conv: _MakeConv,
        norm: _MakeNorm,
        activation: _MakeActivation,
    ) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, width, 3, stride=stride, padding=1)
        self.bn1 = norm(width)
        self.relu = activation()
        self.conv2 = conv(width, width, 3, padding=1)
        self.bn2 = norm(width)
        self.downsample = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x += shortcut
        return self.relu(x)  # type: ignore[no-any-return]


class _BottleneckBlock(nn.Module):
    """1×1, 3×3 and 1×1 convolutions and a shortcut (figure 5, right); the stride is the 3×3's."""

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int,
        shortcut: nn.Module | None,
        *,
        conv: _MakeConv,
        norm: _MakeNorm,
        activation: _MakeActivation,
    ) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, width, 1)
        self.bn1 = norm(width)
        self.conv2 = conv(width, width, 3, stride=stride, padding=1)
        self.bn2 = norm(width)
        self.conv3 = conv(width, width * self.expansion, 1)
        self.bn3 = norm(width * self.expansion)
        self.relu = activation()
        self.downsample = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        x += shortcut
        return self.relu(x)  # type: ignore[no-any-return]


_BLOCKS: dict[str, type[_BasicBlock] | type[_BottleneckBlock]] = {"basic": _BasicBlock, "bottleneck": _BottleneckBlock}


class ResNet(nn.Module):
    """A stem and residual stages, each half the resolution and twice the width of the one before.

    Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, table 1 and section 4.2.
    Departure: in a bottleneck block the 3×3 convolution strides, not the first 1×1 (as in torchvision and "ResNet
    v1.5"). At the paper's numbers all parameters have torchvision's names, in its order.

    Args:
        in_channels: channels of the input.
        in_size: spatial size of the input, where it is known.
        block: ``basic`` (ResNet-18, 34) or ``bottleneck`` (50, 101, 152), whose output is four times as wide.
        layers: how many blocks each stage has; the default is ResNet-18's.
        width: channels of the first stage, before a bottleneck block's expansion.
        stem: ``7x7`` with stride 2 and a max pooling, for photographs; ``3x3`` without either, for small images.
        norm: normalisation after each convolution.
        activation: activation after each normalisation.
        init: how the convolutions start.

    Shape:
        ``(N, in_channels, H, W)`` → one map for each stage. Strides are 4, 8, 16, 32 with the ``7x7`` stem and 1, 2,
        4, 8 with the ``3x3`` one, sizes rounded up.

    >>> net = ResNet(in_channels=3, layers=(1, 1), width=8, stem="3x3")
    >>> [tuple(m.shape) for m in net(torch.zeros(2, 3, 32, 32))]
    [(2, 8, 32, 32), (2, 16, 16, 16)]
    """

    def __init__(
        self,
        in_channels: int,
        in_size: tuple[int, ...] | None = None,
        block: Literal["basic", "bottleneck"] = "basic",
        layers: Widths = (2, 2, 2, 2),
        width: PositiveInt = 64,
        stem: Literal["7x7", "3x3"] = "7x7",
        norm: NormName | Norm = "batch",
        activation: ActivationName = "relu",
        init: InitName | Init = "kaiming",
    ) -> None:
        super().__init__()
        require_dims(in_size, 2)
        make_norm, make_activation = norm_maker(norm, dims=2), activation_maker(activation)
        make_conv = partial(conv, bias=False, init=init)
        kernel_size, stride = (7, 2) if stem == "7x7" else (3, 1)
        self.conv1 = make_conv(in_channels, width, kernel_size, stride=stride, padding=kernel_size // 2)
        self.bn1 = make_norm(width)
        self.relu = make_activation()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if stem == "7x7" else nn.Identity()
        size = window_size(in_size, kernel_size, stride, kernel_size // 2)
        if stem == "7x7":
            size, stride = window_size(size, 3, stride=2, padding=1), 4

        make_block = partial(_BLOCKS[block], conv=make_conv, norm=make_norm, activation=make_activation)
        expansion = _BLOCKS[block].expansion
        features, channels = [], width
        for index, depth in enumerate(layers):
            inner, step = width * 2**index, 1 if index == 0 else 2
            stage = nn.Sequential()
            for position in range(depth):
                step_here = step if position == 0 else 1
                shortcut = None
                if step_here != 1 or channels != inner * expansion:
                    shortcut = nn.Sequential(
                        make_conv(channels, inner * expansion, 1, stride=step_here), make_norm(inner * expansion)
                    )
                stage.append(make_block(channels, inner, step_here, shortcut))
                channels = inner * expansion
            self.add_module(f"layer{index + 1}", stage)
            stride, size = stride * step, window_size(size, 3, step, 1)
            features.append(Feature(f"stage{index + 1}", channels, stride, size))
        self.features = tuple(features)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        maps = []
        for index in range(len(self.features)):
            x = self.get_submodule(f"layer{index + 1}")(x)
            maps.append(x)
        return tuple(maps)
