"""Convolutions and poolings by dimension, and the arithmetic of their sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from torch import nn

from zoo.errors import ShapeError
from zoo.layers.init import Init, InitName, initialised

Dims = Annotated[int, Ge(1), Le(3)]
"""Spatial axes: 1 for signals, 2 for images, 3 for volumes and video. (A Literal of numbers would take True for 1.)"""

PerAxis = int | tuple[int, ...]
"""One number for every spatial axis, or one for each."""

Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d

_CONVOLUTIONS: Mapping[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class _MaxPool1d(nn.MaxPool1d):
    """Max pooling of signals; torch.export takes the length for a constant where its own operator is used."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not torch.compiler.is_exporting():
            return super().forward(x)  # type: ignore[no-any-return]
        kernel, stride, padding = (per_axis(n, 1)[0] for n in (self.kernel_size, self.stride, self.padding))
        return nn.functional.max_pool2d(x.unsqueeze(2), (1, kernel), (1, stride), (0, padding)).squeeze(2)


_MAX_POOLS: Mapping[int, Any] = {1: _MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_AVG_POOLS: Mapping[int, Any] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
_SIZES = {1: "a length, one number", 2: "height and width, two numbers", 3: "depth, height and width, three numbers"}


def conv(
    in_channels: int,
    out_channels: int,
    kernel_size: PerAxis,
    *,
    dims: int = 2,
    stride: PerAxis = 1,
    padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    bias: bool = True,
    init: InitName | Init = "default",
) -> Conv:
    """Make a convolution over one to three spatial axes, initialised once.

    Shape:
        ``(N, in_channels, *spatial)`` → ``(N, out_channels, *spatial')``, sizes as :func:`window_size` has them.

    Raises:
        ShapeError: ``groups`` does not divide the channels.
    """
    if in_channels % groups or out_channels % groups:
        raise ShapeError(
            f"{groups} groups for a convolution from {in_channels} to {out_channels} channels",
            "a number of groups that divides both",
        )
    made: Conv = initialised(
        lambda device: _CONVOLUTIONS[dims](
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias=bias, device=device
        ),
        init,
    )
    return made


def max_pool(kernel_size: PerAxis, *, dims: int = 2, stride: PerAxis | None = None, padding: PerAxis = 0) -> nn.Module:
    """Make a max pooling over one to three spatial axes; the stride is the kernel's size unless given."""
    pool: nn.Module = _MAX_POOLS[dims](kernel_size, stride, padding)
    return pool


def avg_pool(kernel_size: PerAxis, *, dims: int = 2, stride: PerAxis | None = None, padding: PerAxis = 0) -> nn.Module:
    """Make an average pooling over one to three spatial axes; the stride is the kernel's size unless given."""
    pool: nn.Module = _AVG_POOLS[dims](kernel_size, stride, padding)
    return pool


def per_axis(value: PerAxis, dims: int) -> tuple[int, ...]:
    """Return one number for each spatial axis.

    >>> per_axis(3, 2), per_axis((1, 2, 2), 3)
    ((3, 3), (1, 2, 2))
    """
    return (value,) * dims if isinstance(value, int) else tuple(value)


def window_size(
    size: tuple[int, ...] | None,
    kernel_size: PerAxis,
    stride: PerAxis = 1,
    padding: PerAxis = 0,
    dilation: PerAxis = 1,
) -> tuple[int, ...] | None:
    """Return the spatial size after a convolution or a pooling, None where the size before is not known.

    Each axis gives ``floor((n + 2·padding - dilation·(kernel_size - 1) - 1) / stride) + 1``.

    >>> window_size((224, 224), 7, stride=2, padding=3)
    (112, 112)
    """
    if size is None:
        return None
    axes = zip(size, *(per_axis(value, len(size)) for value in (kernel_size, stride, padding, dilation)), strict=True)
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes)


def require_dims(size: tuple[int, ...] | None, dims: int) -> None:
    """Check that an input has as many spatial axes as a part was made for, where its size is known.

    Raises:
        ShapeError: it has more or fewer.
    """
    if size is not None and len(size) != dims:
        raise ShapeError(f"an input of size {list(size)}, {len(size)}-dimensional", f"{_SIZES[dims]}, for dims={dims}")


def require_size(size: tuple[int, ...] | None, least: int, why: str) -> None:
    """Check that an input is large enough, where its size is known.

    Args:
        size: spatial size.
        least: the smallest that each axis may be.
        why: what needs it, for the message: ``"5 stages"``.

    Raises:
        ShapeError: an axis is smaller.
    """
    if size is not None and min(size) < least:
        found, enough = ("×".join(str(n) for n in each) for each in (size, (least,) * len(size)))
        raise ShapeError(f"an input of {found}", f"at least {enough} for {why}")
