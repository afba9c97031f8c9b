"""Metakernels: what the commonest operations make on the meta device, without torch's own kernels for it.

Those of convolution, batch norm, max pool, mean and a few others are written in Python, over modules that take a
second or two to import: longer than all the rest takes together. Whatever is not plain here is left to them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from zoo.dispatch import Dispatch

Layout = tuple[int, tuple[int, ...], tuple[int, ...]]
"""Where a tensor lies in its storage: offset, shape, and the stride along each axis that is longer than 1."""

_aten = torch.ops.aten


def made(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return what an operation makes of tensors on the meta device, or None if torch is to say.

    >>> x, weight = torch.empty(1, 3, 9, 9, device="meta"), torch.empty(8, 3, 3, 3, device="meta")
    >>> made(torch.ops.aten.convolution.default, (x, weight, None, [2], [1], [1], False, [0], 1), {}).shape
    torch.Size([1, 8, 5, 5])
    """
    shape = _SHAPES.get(func)
    x = args[0] if args else None
    if shape is None or kwargs or not isinstance(x, torch.Tensor) or not (x.is_meta and x.is_contiguous()):
        return None
    return shape(*args)


class OnMeta(Dispatch):
    """Sees every operation of a model on the meta device.

    What a tensor is can be kept by :func:`storage_id` and :func:`layout`, for views are new tensors each time.
    """

    def computed(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], taken: Sequence[torch.Tensor]) -> Any:
        """Return what an operation makes.

        Args:
            func: the operation.
            args: its positional arguments.
            kwargs: its other arguments.
            taken: the tensors among them.
        """
        given = made(func, args, kwargs)
        if given is not None:
            return given
        if not taken and "device" in kwargs:  # what a model makes on its way, a row of positions say
            kwargs = {**kwargs, "device": torch.device("meta")}
        return func(*args, **kwargs)


def storage_id(tensor: torch.Tensor) -> int:
    """Return what tells the storage of a tensor from every other one that is alive."""
    return int(tensor.untyped_storage()._cdata)


def layout(tensor: torch.Tensor) -> Layout:
    """Return where a tensor lies in its storage; along an axis of length 1 there is no stride to tell."""
    strides = tuple(0 if n == 1 else step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    return int(tensor.storage_offset()), tuple(tensor.shape), strides


def _empty(x: torch.Tensor, shape: Sequence[int], dtype: torch.dtype | None = None) -> torch.Tensor:
    return torch.empty(tuple(shape), dtype=dtype or x.dtype, device="meta")


def _slid(size: Sequence[int], kernel: Sequence[int], *numbers: Sequence[int]) -> list[int] | None:
    """Return the size after a window slid over a map, or None if it does not fit in."""
    found = []
    for axis, (n, k) in enumerate(zip(size, kernel, strict=True)):
        stride, padding, dilation = (each[axis] if len(each) > 1 else each[0] for each in numbers)
        found.append((n + 2 * padding - dilation * (k - 1) - 1) // stride + 1)
    return found if min(found) > 0 else None


def _convolution(
    x: torch.Tensor, weight: torch.Tensor, _bias: Any, stride: Any, padding: Any, dilation: Any, *rest: Any
) -> torch.Tensor | None:
    transposed, _, groups = rest
    if transposed or x.dim() != weight.dim() or x.dtype != weight.dtype or x.shape[1] != weight.shape[1] * groups:
        return None
    size = _slid(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    return None if size is None else _empty(x, (x.shape[0], weight.shape[0], *size))


def _batch_norm(
    x: torch.Tensor, _weight: Any, _bias: Any, _mean: Any, _var: Any, training: bool, *_: Any
) -> tuple[torch.Tensor, ...] | None:
    if training and x.dtype != torch.float32:
        return None  # whose statistics may be of another dtype
    statistics = (x.shape[1] if training else 0,)
    return _empty(x, x.shape), _empty(x, statistics), _empty(x, statistics)


def _max_pool(
    x: torch.Tensor, kernel: Any, stride: Any = (), padding: Any = (0,), dilation: Any = (1,), ceil: bool = False
) -> tuple[torch.Tensor, ...] | None:
    kernel = tuple(kernel) * (2 // len(kernel))
    size = _slid(x.shape[-2:], kernel, stride or kernel, padding, dilation)
    if ceil or size is None:
        return None
    shape = (*x.shape[:-2], *size)
    return _empty(x, shape), _empty(x, shape, torch.int64)


def _mean(x: torch.Tensor, dims: Sequence[int] | None, keepdim: bool = False) -> torch.Tensor | None:
    if not dims:
        return None
    gone = {dim % x.dim() for dim in dims}
    return _empty(x, [1 if dim in gone else n for dim, n in enumerate(x.shape) if keepdim or dim not in gone])


def _add_in_place(x: torch.Tensor, other: Any) -> torch.Tensor | None:
    return x if isinstance(other, torch.Tensor) and other.shape == x.shape else None


def _addmm(_added: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor | None:
    fits = left.dim() == right.dim() == 2 and left.shape[1] == right.shape[0] and left.dtype == right.dtype
    return _empty(left, (left.shape[0], right.shape[1])) if fits else None


_SHAPES: Mapping[Any, Callable[..., Any]] = {
    _aten.convolution.default: _convolution,
    _aten.native_batch_norm.default: _batch_norm,
    _aten.max_pool2d_with_indices.default: _max_pool,
    _aten.mean.dim: _mean,
    _aten.addmm.default: _addmm,
    _aten.add_.Tensor: _add_in_place,
}
