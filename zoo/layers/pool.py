"""Pooling to a fixed size by dimension: the operators of torch, and an export of those that ONNX cannot say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn

PoolName = Literal["avg", "max"]

_AVERAGES: Mapping[int, Any] = {
    1: nn.functional.adaptive_avg_pool1d,
    2: nn.functional.adaptive_avg_pool2d,
    3: nn.functional.adaptive_avg_pool3d,
}
_MAXIMA: Mapping[int, Any] = {
    1: nn.functional.adaptive_max_pool1d,
    2: nn.functional.adaptive_max_pool2d,
    3: nn.functional.adaptive_max_pool3d,
}


def global_average(x: torch.Tensor, dims: int) -> torch.Tensor:
    """Average a map of ``dims`` spatial axes, one to three, to one number a channel.

    The operator is torchvision's, adaptive pooling to a size of one: a mean over the axes rounds differently.

    Shape:
        ``(N, C, *spatial)`` → ``(N, C)``.

    >>> global_average(torch.ones(2, 3, 4, 5, 6), dims=3).shape
    torch.Size([2, 3])
    """
    pooled: torch.Tensor = _AVERAGES[dims](x, 1)
    return pooled.flatten(1)


def global_maximum(x: torch.Tensor, dims: int) -> torch.Tensor:
    """Reduce a map of ``dims`` spatial axes, one to three, to its largest number a channel.

    Shape:
        ``(N, C, *spatial)`` → ``(N, C)``.
    """
    return x.amax(tuple(range(2, 2 + dims)))


class AdaptivePooling(nn.Module):
    """Pool a map to a fixed size, whatever its own is.

    Window ``i`` of ``k`` over an axis of ``n`` is from ``floor(i·n / k)`` to ``ceil((i + 1)·n / k)``, as in torch.

    Args:
        size: the result's, one number for each axis.
        pool: ``avg`` or ``max``.

    Shape:
        ``(N, C, *spatial)`` → ``(N, C, *size)``.
    """

    def __init__(self, size: tuple[int, ...], pool: PoolName) -> None:
        super().__init__()
        self.size = size
        self.pool = pool

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dims = len(self.size)
        if torch.compiler.is_exporting() and (self.pool == "max" or dims == 3 or _varies(x)):
            # Of maxima and of three axes ONNX has no operator, and torch's way to average is right at one size alone.
            return pooled_by_index(x, self.size, self.pool)
        pooled: torch.Tensor = (_MAXIMA if self.pool == "max" else _AVERAGES)[dims](x, self.size)
        return pooled

    def extra_repr(self) -> str:
        return f"{self.pool} to {'×'.join(str(n) for n in self.size)}"


def _varies(x: torch.Tensor) -> bool:
    """Tell whether a graph is being made for maps of any size."""
    return any(isinstance(n, torch.SymInt) for n in x.shape[2:])


def pooled_by_index(x: torch.Tensor, size: tuple[int, ...], pool: PoolName) -> torch.Tensor:
    """Pool a map as :class:`AdaptivePooling` does, by indices alone: the same maxima, averages up to rounding.

    Shape:
        ``(N, C, *spatial)`` → ``(N, C, *size)``.

    >>> x = torch.randn(1, 2, 7, 5)
    >>> torch.equal(pooled_by_index(x, (3, 2), "max"), nn.functional.adaptive_max_pool2d(x, (3, 2)))
    True
    """
    for axis, count in enumerate(size, start=2):
        n = x.shape[axis]
        window = torch.arange(count, device=x.device).unsqueeze(1)
        start, end = window * n // count, ((window + 1) * n + count - 1) // count
        # No window is longer; in a shorter one the last element stands in, which changes no maximum.
        index = start + torch.arange(n // count + 2, device=x.device)
        picked = x.index_select(axis, index.minimum(end - 1).flatten())
        picked = picked.reshape(*x.shape[:axis], count, -1, *x.shape[axis + 1 :])
        if pool == "max":
            x = picked.amax(axis + 1)
        else:
            trailing = [1] * (x.dim() - axis - 1)
            inside = (index < end).view(count, -1, *trailing)
            x = torch.where(inside, picked, 0).sum(axis + 1) / (end - start).view(count, *trailing)
    return x
