"""Towers: the convolutions that a detector slides over every map alike, and what it predicts at each place."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from zoo.errors import ShapeError
from zoo.features import Feature, require_maps
from zoo.layers.activation import ActivationName, activation_maker
from zoo.layers.conv import Conv, conv
from zoo.layers.init import Init

_START = Init(weight="normal", std=0.01)


def tower(
    channels: int,
    depth: int,
    *,
    norm: Callable[[int], nn.Module],
    activation: ActivationName,
    bias: bool,
) -> nn.Sequential:
    """Make a row of 3×3 convolutions of one width, each with norm and activation.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, section 4; the weights start as there, with
    a standard deviation of 0.01.

    Shape:
        ``(N, channels, H, W)`` → the same.
    """
    layers = nn.Sequential()
    for _ in range(depth):
        layer = nn.Sequential()
        layer.add_module("conv", conv(channels, channels, 3, padding=1, bias=bias, init=_START))
        layer.add_module("norm", norm(channels))
        layer.add_module("activation", activation_maker(activation)())
        layers.append(layer)
    return layers


def predictor(channels: int, width: int, prior: float | None = None) -> Conv:
    """Make the 3×3 convolution that predicts so many numbers at each place.

    Args:
        channels: width of the input.
        width: how many numbers.
        prior: the probability that each of them starts with behind a sigmoid, so that the many places where there is
            nothing do not rule the first steps of training; None for numbers around zero.
    """
    made = conv(channels, width, 3, padding=1, init=_START)
    if prior is not None and made.bias is not None:
        nn.init.constant_(made.bias, -math.log((1 - prior) / prior))
    return made


def by_anchor(prediction: torch.Tensor, width: int) -> torch.Tensor:
    """Lay a map of predictions out by anchor.

    Shape:
        ``(N, A · width, H, W)`` → ``(N, H · W · A, width)``: rows first, then columns, then the anchors of a place.
    """
    return torch.unflatten(prediction, 1, (-1, width)).permute(0, 3, 4, 1, 2).flatten(1, 3)


def sizes_of(maps: Sequence[torch.Tensor], size: Sequence[int]) -> torch.Tensor:
    """Return what is needed to find the places of all anchors.

    Shape:
        ``(N, 1 + maps, 2)`` int64: height and width of the input, then of each map, the same for each sample.
    """
    rows = torch.tensor([list(size), *(list(m.shape[2:]) for m in maps)], device=maps[0].device)
    return rows.expand(maps[0].shape[0], -1, -1)  # len() would fix the batch of an exported graph


def one_width(features: tuple[Feature, ...]) -> int:
    """Return the width of maps of images, which all have to have the same.

    Raises:
        ShapeError: they have not, or something else than maps of images comes in.
    """
    widths = {feature.channels for feature in require_maps(features, dims=2)}
    if len(widths) > 1:
        found = ", ".join(f"{f.name!r} of {f.channels}" for f in features)
        raise ShapeError(
            f"maps of {len(widths)} widths: {found}",
            "one width, for all share the same convolutions; put the neck 'fpn' or the bottleneck 'conv1x1' before it",
        )
    return widths.pop()


def one_stride(feature: Feature) -> int:
    """Return the stride of a map along both of its axes.

    Raises:
        ShapeError: they differ, or it has none that is fixed.
    """
    if feature.stride is None:
        raise ShapeError(
            f"the map {feature.name!r} of a fixed size ({feature.shape_text}), which has no stride",
            "maps that grow with the input, as those of a backbone or of the neck 'fpn' do",
        )
    if not isinstance(feature.stride, int):
        raise ShapeError(f"the map {feature.name!r} of stride {feature.stride}", "the same stride along both axes")
    return feature.stride
