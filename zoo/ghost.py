"""ghost: a twin of a module without weights, on the meta device, run for what it tells about the module."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

M = TypeVar("M", bound=nn.Module)


def ghost(module: M) -> M:
    """Return a copy of a module on the meta device: it has everything but values, and costs next to nothing.

    >>> twin = ghost(nn.Linear(1000, 1000))
    >>> twin.weight.device.type, tuple(twin(torch.empty(2, 1000, device="meta")).shape)
    ('meta', (2, 1000))
    """
    memo: dict[int, Any] = {
        id(p): nn.Parameter(empty(p), requires_grad=p.is_floating_point() or p.is_complex())
        for p in module.parameters()
        if not nn.parameter.is_lazy(p)
    }
    memo |= {id(b): empty(b) for b in module.buffers() if not nn.parameter.is_lazy(b)}
    with torch.device("meta"):
        return copy.deepcopy(module, memo)


def empty(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of the same shape and dtype on the meta device."""
    return torch.empty_like(tensor, device="meta", requires_grad=False)


@contextmanager
def haunting() -> Iterator[None]:
    """Run a ghost within a ``with`` block: what it makes is on the meta device too, and no random number is used up."""
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]), torch.device("meta"):
        yield


def usual_size(model: Any) -> tuple[int, ...]:
    """Return an input size that a model takes: that of its spec or, where any will do, a small one."""
    size = model.spec["input"]["size"]
    least = max(64, getattr(model.backbone, "min_size", 1))
    return tuple(size) if size else (least,) * getattr(model.backbone, "dims", 2)


def ghost_input(model: Any) -> torch.Tensor:
    """Return an input for the ghost of a model: two samples, as BatchNorm needs in training."""
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())
    return torch.empty((2, model.spec["input"]["channels"], *usual_size(model)), dtype=dtype, device="meta")


class _ParametersOnMeta(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = dict(kwargs or {})
        if func in (torch.empty, torch.ones, torch.zeros) and options.get("device") is None:
            options["device"] = "meta"
        return func(*args, **options)


def parameters_on_meta() -> TorchFunctionMode:
    """Return a mode that puts parameters alone on the meta device, and leaves what a constructor computes with."""
    return _ParametersOnMeta()


_SETTING = frozenset(
    getattr(torch.Tensor, name)
    for name in ("add_", "clamp_", "erfinv_", "fill_", "mul_", "normal_", "sub_", "uniform_", "zero_")
)
"""What initialisers set values with; with numbers alone beside the tensor none of them changes its shape."""


class _Still(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = dict(kwargs or {})
        x = args[0] if args else options.get("tensor")
        if isinstance(x, torch.Tensor) and x.is_meta:
            others = (*args[1:], *options.values())
            if getattr(func, "__module__", "") == nn.init.__name__:
                return x
            if func in _SETTING and not any(isinstance(each, torch.Tensor) for each in others):
                return x
        return func(*args, **options)


def still() -> TorchFunctionMode:
    """Return a mode in which initialisers do nothing to tensors on the meta device, which have no values.

    Torch's own kernels for that are written in Python there, and take longer than all else that a constructor does.

    >>> with torch.device("meta"), still():
    ...     nn.init.trunc_normal_(nn.Linear(2, 3).weight).shape
    torch.Size([3, 2])
    """
    return _Still()
