"""ResNet: residual stages of basic or bottleneck blocks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import nn

from zoo.errors import ShapeError
from zoo.features import Feature
from zoo.layers.activation import ActivationName, activation_maker
from zoo.layers.conv import Dims, PerAxis, conv, max_pool, per_axis, require_dims, window_size
from zoo.layers.extractor import chosen
from zoo.layers.init import Init, InitName
from zoo.layers.norm import Norm, NormName, is_none, norm_maker, require_spread
from zoo.layers.parameters import Widths
from zoo.layers.residual import BasicBlock, BottleneckBlock, MakeConv, MakeNorm, PaddedShortcut

_BLOCKS: dict[str, type[BasicBlock] | type[BottleneckBlock]] = {"basic": BasicBlock, "bottleneck": BottleneckBlock}


@dataclass(frozen=True)
class _Stem:
    """What comes before the stages: a convolution and, in some, a max pooling of kernel 3 and stride 2."""

    kernel_size: PerAxis
    stride: PerAxis
    pool: bool
    dims: tuple[int, ...] = (1, 2, 3)


_STEMS = {
    "7x7": _Stem(7, stride=2, pool=True),
    "3x3": _Stem(3, stride=1, pool=False),
    "video": _Stem((3, 7, 7), stride=(1, 2, 2), pool=False, dims=(3,)),
}


@dataclass(frozen=True)
class _Stage:
    """The numbers of one stage: ``step`` is its stride, ``dilation`` that of the convolutions before and after it."""

    depth: int
    width: int
    step: int
    dilation: tuple[int, int]
    feature: Feature


class ResNet(nn.Module):
    """A stem and residual stages, each half the resolution and twice the width of the one before.

    Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, table 1 and section 4.2;
    ``groups`` and ``width_per_group``: Xie et al., "Aggregated Residual Transformations for Deep Neural Networks",
    CVPR 2017, and Zagoruyko, Komodakis, "Wide Residual Networks", BMVC 2016; ``output_stride``: Chen et al.,
    "Rethinking Atrous Convolution for Semantic Image Segmentation", arXiv 1706.05587, section 3.1; ``zero_init_last``:
    Goyal et al., "Accurate, Large Minibatch SGD", arXiv 1706.02677, section 5.1; stem ``video``: Tran et al., "A Closer
    Look at Spatiotemporal Convolutions for Action Recognition", CVPR 2018, table 1.
    Departure: in a bottleneck block the 3×3 convolution strides, not the first 1×1 (as in torchvision and "ResNet
    v1.5"). At the papers' numbers all parameters have torchvision's names, in its order.

    Args:
        in_channels: channels of the input.
        in_size: spatial size of the input, where it is known.
        block: ``basic`` (ResNet-18, 34) or ``bottleneck`` (50, 101, 152), whose output is four times as wide.
        layers: how many blocks each stage has; the default is ResNet-18's.
        width: channels of the first stage, before a bottleneck block's expansion.
        groups: of the middle convolution of a bottleneck block; 32 or 64 in ResNeXt.
        width_per_group: channels of each group in the first stage, where ``width`` is 64, and in proportion elsewhere;
            4 or 8 in ResNeXt, 128 in Wide ResNet. For bottleneck blocks alone.
        stem: ``7x7``, a convolution of kernel 7 and stride 2 and a max pooling, for photographs; ``3x3``, of kernel 3
            without either, for small images; ``video``, of kernel 3×7×7 and stride 1×2×2 without pooling.
        shortcut: what a shortcut does where the shape changes: a 1×1 convolution, ``projection`` (option B of the
            paper), or every second position and channels of zeros, ``padding`` (option A, for small images).
        output_stride: the largest stride of a map; stages that would go beyond dilate their convolutions instead. None
            for no bound.
        out_indices: which stages to give, counted from 0; None gives all. Stages after the last of them are not built.
        zero_init_last: whether the last scale of each block starts at zero, so that the block starts as its shortcut.
        dims: spatial dimensions: 1 for signals, 2 for images, 3 for volumes and video.
        norm: normalisation after each convolution.
        activation: activation after each normalisation.
        init: how the convolutions start.

    Shape:
        ``(N, in_channels, *spatial)`` → one map for each of ``out_indices``. Strides of the stages are 4, 8, 16, 32
        with the ``7x7`` stem and 1, 2, 4, 8 with the ``3x3`` one, up to ``output_stride``; sizes are rounded up.

    Raises:
        ShapeError: the input has other dimensions; there are no such stages, strides or groups.

    >>> net = ResNet(in_channels=3, layers=(1, 1), width=8, stem="3x3")
    >>> [tuple(m.shape) for m in net(torch.zeros(2, 3, 32, 32))]
    [(2, 8, 32, 32), (2, 16, 16, 16)]
    >>> net = ResNet(in_channels=3, layers=(1, 1, 1, 1), width=8, output_stride=8, out_indices=(1, 3))
    >>> [(f.name, f.channels, f.stride) for f in net.features]
    [('stage2', 16, 8), ('stage4', 64, 8)]
    """

    def __init__(
        self,
        in_channels: int,
        in_size: tuple[int, ...] | None = None,
        block: Literal["basic", "bottleneck"] = "basic",
        layers: Widths = (2, 2, 2, 2),
        width: PositiveInt = 64,
        groups: PositiveInt = 1,
        width_per_group: PositiveInt = 64,
        stem: Literal["7x7", "3x3", "video"] = "7x7",
        shortcut: Literal["projection", "padding"] = "projection",
        output_stride: PositiveInt | None = None,
        out_indices: tuple[NonNegativeInt, ...] | None = None,
        zero_init_last: bool = False,
        dims: Dims = 2,
        norm: NormName | Norm = "batch",
        activation: ActivationName = "relu",
        init: InitName | Init = "kaiming",
    ) -> None:
        super().__init__()
        require_dims(in_size, dims)
        _require_fit(block, width, groups, width_per_group, stem, dims)
        if zero_init_last and is_none(norm):
            raise ShapeError("zero_init_last without a norm", "a norm with a scale, such as batch")
        self.dims = dims
        make_conv = partial(conv, dims=dims, bias=False, init=init)
        make_norm, make_activation = norm_maker(norm, dims), activation_maker(activation)

        first = _STEMS[stem]
        padding = tuple(n // 2 for n in per_axis(first.kernel_size, dims))
        strides, size = per_axis(first.stride, dims), window_size(in_size, first.kernel_size, first.stride, padding)
        self.conv1 = make_conv(in_channels, width, first.kernel_size, stride=first.stride, padding=padding)
        self.bn1 = make_norm(width)
        self.relu = make_activation()
        self.maxpool = max_pool(3, dims=dims, stride=2, padding=1) if first.pool else nn.Identity()
        if first.pool:
            strides, size = tuple(2 * n for n in strides), window_size(size, 3, stride=2, padding=1)

        expansion = _BLOCKS[block].expansion
        stages = _planned(layers, width, expansion, strides, size, dims, output_stride)
        self._out = chosen(out_indices, tuple(stage.feature for stage in stages), "resnet_lite")
        self.features = tuple(stages[index].feature for index in self._out)

        for feature in (stage.feature for stage in stages[: self._out[-1] + 1]):
            require_spread(norm, feature)

        make_block = partial(_BLOCKS[block], conv=make_conv, norm=make_norm, activation=make_activation, groups=groups)
        channels = width
        for index, stage in enumerate(stages[: self._out[-1] + 1]):
            inner, out_channels = stage.width * width_per_group // 64 * groups, stage.feature.channels
            blocks = nn.Sequential()
            for position in range(stage.depth):
                step, before = (stage.step, stage.dilation[0]) if position == 0 else (1, stage.dilation[1])
                around = _shortcut(shortcut, channels, out_channels, step, dims, make_conv, make_norm)
                made = make_block(
                    channels,
                    inner,
                    out_channels,
                    stride=step,
                    dilation=(before, stage.dilation[1]),
                    shortcut=around,
                )
                if zero_init_last:
                    nn.init.zeros_(made.last_norm.weight)  # type: ignore[arg-type]
                blocks.append(made)
                channels = out_channels
            self.add_module(f"layer{index + 1}", blocks)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        maps = []
        for index in range(self._out[-1] + 1):
            x = self.get_submodule(f"layer{index + 1}")(x)
            if index in self._out:
                maps.append(x)
        return tuple(maps)


def _planned(
    layers: tuple[int, ...],
    width: int,
    expansion: int,
    strides: tuple[int, ...],
    size: tuple[int, ...] | None,
    dims: int,
    output_stride: int | None,
) -> tuple[_Stage, ...]:
    """Return the numbers of every stage, from the strides and the size after the stem."""
    fitting = [max(strides) * 2**index for index in range(len(layers))]
    if output_stride is not None and output_stride not in fitting:
        raise ShapeError(
            f"output_stride={output_stride}", f"one of {', '.join(map(str, fitting))}, the stages' strides"
        )
    stages, dilation = [], 1
    for index, depth in enumerate(layers):
        step, before = 1 if index == 0 else 2, dilation
        if output_stride is not None and step * max(strides) > output_stride:
            # What follows the stride sees the same positions if it reaches twice as far; what comes before does not.
            step, dilation = 1, step * dilation
        strides, size = tuple(step * n for n in strides), window_size(size, 3, step, 1)
        inner = width * 2**index
        feature = Feature(f"stage{index + 1}", inner * expansion, strides, size, dims)
        stages.append(_Stage(depth, inner, step, (before, dilation), feature))
    return tuple(stages)


def _shortcut(
    type: str, channels: int, out_channels: int, step: int, dims: int, make_conv: MakeConv, make_norm: MakeNorm
) -> nn.Module | None:
    if step == 1 and channels == out_channels:
        return None
    if type == "padding":
        return PaddedShortcut(out_channels - channels, step, dims)
    return nn.Sequential(make_conv(channels, out_channels, 1, stride=step), make_norm(out_channels))


def _require_fit(block: str, width: int, groups: int, width_per_group: int, stem: str, dims: int) -> None:
    """Check the numbers that no part of the network would refuse by itself."""
    if block == "basic" and (groups, width_per_group) != (1, 64):
        raise ShapeError(
            f"groups={groups} and width_per_group={width_per_group} with basic blocks",
            "groups=1 and width_per_group=64, or the block 'bottleneck'",
        )
    if width * width_per_group < 64:
        raise ShapeError(
            f"width_per_group={width_per_group} at width={width}: less than one channel a group",
            f"width_per_group={-(-64 // width)} or more",
        )
    if dims not in _STEMS[stem].dims:
        fitting = " or ".join(repr(name) for name, one in _STEMS.items() if dims in one.dims)
        raise ShapeError(f"the stem {stem!r} with dims={dims}", f"dims=3, or the stem {fitting}")
