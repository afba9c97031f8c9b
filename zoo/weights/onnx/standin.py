"""standin: a model's modules once more around the same tensors, for work that must leave the model as it is."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import nn

from zoo.builder import assemble
from zoo.model import Model
from zoo.spec import parse

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_KINDS = ("_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks_with_kwargs")


def standin(model: Model, convert: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor) -> Model:
    """Return a copy of a model's modules, in evaluation mode, that shares its tensors.

    Whatever is done to the copy short of writing into a tensor, the model does not see: modes, attributes that a
    ``forward`` sets, tensors that are swapped for others while it is traced. Hooks that components install when they
    are built belong to what they compute and are kept; hooks that were added to the model later are not.

    Args:
        model: the model.
        convert: what to take instead of each parameter and buffer; tied ones stay tied.
    """
    return _Copy(_own_hooks(model), convert).module(model)  # type: ignore[return-value] # of a Model it is a Model


class _Copy:
    """The modules and tensors that were met already, so that what is one stays one."""

    def __init__(self, own_hooks: dict[nn.Module, list[Any]], convert: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.own_hooks = own_hooks
        self.convert = convert
        self.modules: dict[int, nn.Module] = {}
        self.tensors: dict[int, torch.Tensor] = {}

    def module(self, module: nn.Module) -> nn.Module:
        if isinstance(module, torch.jit.ScriptModule):  # its state is not Python's to copy
            return module
        known = self.modules.get(id(module))
        if known is not None:
            return known
        copied = self.modules[id(module)] = object.__new__(type(module))
        own = self.own_hooks.get(module, [])
        for name, value in module.__dict__.items():
            if name in ("_parameters", "_buffers"):
                copied.__dict__[name] = {key: self.tensor(each) for key, each in value.items()}
            elif name in _HOOKS:
                copied.__dict__[name] = OrderedDict((key, hook) for key, hook in value.items() if hook in own)
            elif name in _KINDS:
                copied.__dict__[name] = OrderedDict(value)
            else:
                copied.__dict__[name] = self.value(value)
        copied.__dict__["_compiled_call_impl"] = None
        copied.__dict__["training"] = False
        return copied

    def tensor(self, tensor: torch.Tensor | None) -> torch.Tensor | None:
        if tensor is None:
            return None
        if id(tensor) not in self.tensors:
            self.tensors[id(tensor)] = self.convert(tensor)
        return self.tensors[id(tensor)]

    def value(self, value: Any) -> Any:
        """Replace modules and tensors in a plain attribute: within lists, tuples and dicts, and what methods are of."""
        copied = value
        if isinstance(value, nn.Module):
            copied = self.module(value)
        elif isinstance(value, torch.Tensor):
            copied = self.tensor(value)
        elif isinstance(value, tuple) and hasattr(value, "_fields"):
            copied = type(value)(*map(self.value, value))
        elif type(value) in (list, tuple, set):
            copied = type(value)(map(self.value, value))
        elif type(value) in (dict, OrderedDict):
            copied = type(value)((key, self.value(each)) for key, each in value.items())
        elif isinstance(value, MethodType):
            copied = MethodType(value.__func__, self.value(value.__self__))
        elif type(value) is partial:
            copied = partial(self.value(value.func), *map(self.value, value.args), **self.value(value.keywords))
        return copied


def _own_hooks(model: Model) -> dict[nn.Module, list[Any]]:
    """Return, for each module, the hooks that it has from its component: those that a fresh one has as well."""
    hooked = {path: module for path, module in model.named_modules() if any(getattr(module, each) for each in _HOOKS)}
    if not hooked:
        return {}
    fresh = dict(assemble(parse(model.spec), "meta", initialise=False).named_modules())
    own: dict[nn.Module, list[Any]] = {}
    for path, module in hooked.items():
        for kind in _HOOKS:
            expected = [_likeness(hook) for hook in getattr(fresh.get(path), kind, {}).values()]
            for hook in getattr(module, kind).values():
                if _likeness(hook) in expected:
                    expected.remove(_likeness(hook))
                    own.setdefault(module, []).append(hook)
    return own


def _likeness(hook: Any) -> tuple[Any, ...]:
    if isinstance(hook, partial):
        return (partial, *_likeness(hook.func))
    return (type(hook), getattr(hook, "__module__", ""), getattr(hook, "__qualname__", ""))
