"""What a module holds: its tensors, wherever it keeps them, and those that no state dict has."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import nn

_EMPTY = frozenset(nn.Module().__dict__) - {"training"}
"""What every module has, and what in most of them is empty: hooks, say."""

_REGISTERED = frozenset({"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"})
_PLAIN = frozenset({bool, bytes, complex, float, int, str, type, type(None), torch.dtype, torch.device, torch.Size})
_NOT_ENTERED = (nn.Module, type, ModuleType)


def unsaved(module: nn.Module) -> Iterator[torch.Tensor]:
    """Give the tensors of a module and of those below it that no state dict has.

    They are buffers that are not persistent, and whatever is an attribute: a tensor, one in a list, tuple, set, dict
    or object, and one that a hook holds. A parameter that is also in a list is given, too.

    >>> module = nn.Linear(2, 2)
    >>> module.grid = [torch.ones(3)]
    >>> [tensor.numel() for tensor in unsaved(module)]
    [3]
    """
    seen: dict[int, Any] = {}
    for each in module.modules():
        for name in each._non_persistent_buffers_set:
            buffer = each._buffers.get(name)
            if buffer is not None:
                yield buffer
        waiting = [
            value
            for name, value in each.__dict__.items()
            if type(value) not in _PLAIN and name not in _REGISTERED and (name not in _EMPTY or value)
        ]
        if waiting:
            yield from _reachable(waiting, seen)


def weight(modules: Iterable[nn.Module]) -> tuple[int, int]:
    """Return how many elements and how many bytes modules hold, every tensor counted once."""
    found: dict[int, torch.Tensor] = {}
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers(), *unsaved(module)):
            if not is_lazy(tensor):
                found[id(tensor)] = tensor
    return sum(t.numel() for t in found.values()), sum(t.numel() * t.element_size() for t in found.values())


def is_lazy(tensor: torch.Tensor) -> bool:
    """Tell whether a parameter or buffer gets its shape from the first input, and has none yet."""
    return nn.parameter.is_lazy(tensor)


def _reachable(waiting: list[Any], seen: dict[int, Any]) -> Iterator[torch.Tensor]:
    """Give the tensors in values, in what they contain, and so on; modules are left to who asked."""
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor):
            yield value
        elif type(value) not in _PLAIN and not isinstance(value, _NOT_ENTERED) and id(value) not in seen:
            seen[id(value)] = value  # keeps it alive, so that no other value gets its id
            waiting += _within(value)


def _within(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, list | tuple | set | frozenset | deque):
        return value
    if isinstance(value, partial | MethodType | FunctionType):
        return _bound(value)
    if type(value).__module__.partition(".")[0] == "torch":
        return ()  # graphs, say: what torch keeps for itself is no part of a model
    slots = [s for kind in type(value).__mro__ for s in _slot_names(kind)]
    return [*getattr(value, "__dict__", {}).values(), *(getattr(value, s, None) for s in slots)]


def _bound(function: partial[Any] | MethodType | FunctionType) -> list[Any]:
    if isinstance(function, partial):
        return [function.func, *function.args, *function.keywords.values()]
    if isinstance(function, MethodType):
        return [function.__self__]
    found = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # a name that is not bound yet
            found.append(cell.cell_contents)
    return found


def _slot_names(kind: type) -> tuple[str, ...]:
    slots = kind.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)
