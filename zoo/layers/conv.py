"""Convolutions initialised once, and the arithmetic of their sizes."""

from __future__ import annotations

from torch import nn

from zoo.errors import ShapeError
from zoo.layers.init import Init, InitName, initialised


def conv2d(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: int = 0,
    bias: bool = True,
    init: InitName | Init = "default",
) -> nn.Conv2d:
    """Make a two-dimensional convolution, initialised once.

    Shape:
        ``(N, in_channels, H, W)`` → ``(N, out_channels, H', W')``, sizes as :func:`window_size` has them.
    """
    return initialised(
        lambda device: nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=bias, device=device),
        init,
    )


def window_size(
    size: tuple[int, ...] | None, kernel_size: int, stride: int = 1, padding: int = 0
) -> tuple[int, ...] | None:
    """Return the spatial size after a convolution or a pooling, None where the size before is not known.

    Each axis gives ``floor((n + 2·padding - kernel_size) / stride) + 1``.

    >>> window_size((224, 224), 7, stride=2, padding=3)
    (112, 112)
    """
    return None if size is None else tuple((n + 2 * padding - kernel_size) // stride + 1 for n in size)


def require_planar(size: tuple[int, ...] | None) -> None:
    """Check that an input has two spatial axes, where its size is known.

    Raises:
        ShapeError: it has more or fewer.
    """
    if size is not None and len(size) != 2:
        raise ShapeError(f"an input of size {list(size)}, {len(size)}-dimensional", "height and width, two numbers")


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
