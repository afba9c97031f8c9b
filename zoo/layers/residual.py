"""Residual blocks: two or three convolutions and a shortcut around them; names are torchvision's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from zoo.layers.conv import Conv

MakeConv = Callable[..., Conv]
MakeNorm = Callable[[int], nn.Module]
MakeActivation = Callable[[], nn.Module]


class BasicBlock(nn.Module):
    """Two convolutions of kernel 3 and a shortcut.

    Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, figure 5, left.

    Args:
        in_channels: channels of the input.
        width: channels of the first convolution.
        out_channels: channels of the second.
        stride: of the first convolution.
        dilation: of the convolutions before and after the stride.
        shortcut: what brings the input to the shape of the output; None where it has that already.
        conv: makes a convolution.
        norm: makes a normalisation.
        activation: makes an activation.
        groups: of the first convolution.

    Shape:
        ``(N, in_channels, *spatial)`` → ``(N, out_channels, *spatial / stride)``, sizes rounded up.
    """

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        width: int,
        out_channels: int,
        *,
        stride: int,
        dilation: tuple[int, int],
        shortcut: nn.Module | None,
        conv: MakeConv,
        norm: MakeNorm,
        activation: MakeActivation,
        groups: int = 1,
    ) -> None:
        super().__init__()
        before, after = dilation
        self.conv1 = conv(in_channels, width, 3, stride=stride, padding=before, dilation=before, groups=groups)
        self.bn1 = norm(width)
        self.relu = activation()
        self.conv2 = conv(width, out_channels, 3, padding=after, dilation=after)
        self.bn2 = norm(out_channels)
        self.downsample = shortcut

    @property
    def last_norm(self) -> nn.Module:
        """The normalisation just before the sum."""
        return self.bn2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x += shortcut
        return self.relu(x)  # type: ignore[no-any-return]


class BottleneckBlock(nn.Module):
    """Convolutions of kernel 1, 3 and 1 and a shortcut; the stride and the groups are the middle one's.

    Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, figure 5, right; with
    groups: Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017, figure 3c.

    Args:
        in_channels: channels of the input.
        width: channels of the first two convolutions.
        out_channels: channels of the third.
        stride: of the second convolution.
        dilation: of the convolutions before and after the stride; there is none of kernel 3 after it.
        shortcut: what brings the input to the shape of the output; None where it has that already.
        conv: makes a convolution.
        norm: makes a normalisation.
        activation: makes an activation.
        groups: of the second convolution.

    Shape:
        ``(N, in_channels, *spatial)`` → ``(N, out_channels, *spatial / stride)``, sizes rounded up.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        width: int,
        out_channels: int,
        *,
        stride: int,
        dilation: tuple[int, int],
        shortcut: nn.Module | None,
        conv: MakeConv,
        norm: MakeNorm,
        activation: MakeActivation,
        groups: int = 1,
    ) -> None:
        super().__init__()
        before, _ = dilation
        self.conv1 = conv(in_channels, width, 1)
        self.bn1 = norm(width)
        self.conv2 = conv(width, width, 3, stride=stride, padding=before, dilation=before, groups=groups)
        self.bn2 = norm(width)
        self.conv3 = conv(width, out_channels, 1)
        self.bn3 = norm(out_channels)
        self.relu = activation()
        self.downsample = shortcut

    @property
    def last_norm(self) -> nn.Module:
        """The normalisation just before the sum."""
        return self.bn3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        x += shortcut
        return self.relu(x)  # type: ignore[no-any-return]


class PaddedShortcut(nn.Module):
    """Every ``stride``-th position, and channels of zeros behind those that there are: a shortcut without parameters.

    Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 3.3, option A.

    Args:
        extra: how many channels are added.
        stride: the distance of the positions that are kept.
        dims: spatial dimensions.

    Shape:
        ``(N, C, *spatial)`` → ``(N, C + extra, *spatial / stride)``, sizes rounded up.

    >>> tuple(PaddedShortcut(extra=4, stride=2, dims=2)(torch.ones(1, 8, 5, 6)).shape)
    (1, 12, 3, 3)
    """

    def __init__(self, extra: int, stride: int, dims: int) -> None:
        super().__init__()
        self.extra = extra
        self.stride = stride
        self._kept: Any = (slice(None), slice(None), *(slice(None, None, stride) for _ in range(dims)))
        self._padding = (0, 0) * dims + (0, extra)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.pad(x if self.stride == 1 else x[self._kept], self._padding)

    def extra_repr(self) -> str:
        return f"extra={self.extra}, stride={self.stride}"
