"""Extraction: intermediate maps of a model, by the names of features, parts or modules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from threading import get_ident
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from zoo.errors import PartError, UnknownNameError, ZooError
from zoo.ghost import ghost, ghost_input, haunting
from zoo.kinds import PARTS, output_features
from zoo.layers.eager import is_eager
from zoo.layers.sized import predict
from zoo.messages import some
from zoo.sources import alike, feature_names

if TYPE_CHECKING:
    from zoo.model import Model


def extract(model: Model, names: str | Iterable[str]) -> Extraction:
    """Return a module that computes intermediate maps of a model, and no more than it needs for them.

    Args:
        model: the model; it is shared, not copied, and stays as it is.
        names: features, ``"backbone.stage3"``; parts, ``"neck"``, whose outputs are tuples, and ``"head"``; modules,
            ``"backbone.layer1.0.conv1"``, and where a module is called several times, which call:
            ``"backbone.layer1.0.relu#2"``, counted from 1. A feature goes before a module of the same name.

    Raises:
        UnknownNameError: there is neither such a feature nor such a module.
        PartError: a module is not called when the model runs, or several times and the name does not say which call.
        ZooError: nothing is named.

    >>> import zoo
    >>> maps = extract(zoo.build("resnet-lite"), ["backbone.stage1", "backbone.layer2.0.conv1"])
    >>> {name: tuple(each.shape) for name, each in maps(torch.zeros(1, 1, 32, 32)).items()}
    {'backbone.stage1': (1, 16, 32, 32), 'backbone.layer2.0.conv1': (1, 32, 16, 16)}
    """
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    return Extraction(model, (names,) if isinstance(names, str) else tuple(names))


_SLOW = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
"""What takes most of the time on the meta device, where it is made up of many operations."""


@dataclass(frozen=True)
class _Tap:
    """Where one value is taken.

    Attributes:
        name: what it was asked for as.
        path: the module that gives it.
        call: which of its calls; None means the one there is.
        index: which of the tensors of a part it is; None for all that the module gives.
        early: a module inside the part that gives the same, and which of its calls; None if there is none.
        copied: whether it has to be copied, for what comes after writes over it.
        known: whether this was found out by a run; without one a value is copied.
    """

    name: str
    path: str
    call: int | None = None
    index: int | None = None
    early: tuple[str, int] | None = None
    copied: bool = True
    known: bool = False

    def value(self, output: Any) -> Any:
        """Return what is to be taken of what the module gave."""
        taken = output if self.index is None else output[self.index]
        return pytree.tree_map_only(torch.Tensor, torch.clone, taken) if self.copied else taken


class _EnoughError(BaseException):
    """All that was asked for is there. It ends a run and is seen by nobody: what catches errors lets it pass."""


class Extraction(nn.Module):
    """Intermediate maps of a model as a module of its own, made by :func:`zoo.extract`.

    A run ends where the last map that is asked for is there: what comes after is not computed. The weights, the mode
    and what is frozen are the model's. A map that a later layer would write over, as an activation in place does, is
    copied; whether one would was found out by running the model without its weights.

    Attributes:
        model: the model.
        names: what is asked for.

    Shape:
        what the model takes → a dict with an entry for each name, in their order.
    """

    def __init__(self, model: Model, names: tuple[str, ...]) -> None:
        super().__init__()
        if not names:
            raise ZooError("found no names of maps to extract; expected some, such as 'backbone.stage1'")
        self.model = model
        self.names = names
        self._taps = _informed(model, [_tap(model, name) for name in dict.fromkeys(names)])
        parts = [tap.path.partition(".")[0] for tap in self._taps]
        self._whole = any(part not in PARTS for part in parts)
        self._last = max((PARTS.index(part) for part in parts if part in PARTS), default=0)

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        self.model._prepare(x)
        eager = is_eager(x)
        found: dict[str, Any] = {}
        handles = []
        try:
            for tap in self._taps:
                early = tap.early if eager else None
                if early or self._whole or tap.path not in PARTS:
                    module = self.model.get_submodule(early[0] if early else tap.path)
                    handles.append(module.register_forward_hook(self._taker(tap, early, found, eager)))
            self._run(x, found)
        except _EnoughError:
            pass
        finally:
            for handle in handles:
                handle.remove()
        for tap in self._taps:
            if tap.name not in found:
                raise PartError(tap.name, "was not called in this run, so that it gave nothing")
        return {name: found[name] for name in self.names}

    def _run(self, x: torch.Tensor, found: dict[str, Any]) -> None:
        if self._whole:
            self.model(x)
            return
        given: Any = x
        for kind in PARTS[: self._last + 1]:
            part = getattr(self.model, kind)
            if part is not None:
                given = predict(part, given, x.shape[2:]) if kind == "head" else part(given)
                for tap in self._taps:
                    if tap.path == kind and tap.name not in found:
                        found[tap.name] = tap.value(given)

    def _taker(
        self, tap: _Tap, early: tuple[str, int] | None, found: dict[str, Any], eager: bool
    ) -> Callable[[nn.Module, Any, Any], None]:
        """Return a hook that takes the value of a tap, and ends the run where that was the last one."""
        thread = get_ident() if eager else None
        ends = eager and all(each.known for each in self._taps)
        wanted = early[1] if early else tap.call
        count = 0

        def take(_module: nn.Module, _given: Any, output: Any) -> None:
            nonlocal count
            if thread is not None and get_ident() != thread:
                return  # somebody else runs the same model
            count += 1
            if wanted is None and count > 1:
                raise PartError(tap.name, f"is called several times; say which, '{tap.path}#1' or '{tap.path}#2', say")
            if wanted is None or count == wanted:
                found[tap.name] = output if early else tap.value(output)
            if ends and len(found) == len(self._taps):
                raise _EnoughError

        return take


def _tap(model: Model, name: str) -> _Tap:
    features, modules = feature_names(model), dict(model.named_modules(remove_duplicate=False))
    if name in features:
        part, feature = features[name]
        declared = output_features(modules[part]) or ()
        return _Tap(name, part, index=[each.name for each in declared].index(feature))
    path, mark, call = name.partition("#")
    counted = not mark or (call.isascii() and call.isdigit() and int(call) > 0)
    if not path or path not in modules or not counted:
        raise UnknownNameError("feature", name, list(features), alike(path, [*features, *filter(None, modules)]))
    return _Tap(name, path, int(call) if mark else None)


def _informed(model: Model, taps: list[_Tap]) -> tuple[_Tap, ...]:
    """Return taps with what a run of the model's ghost tells; as they are where it cannot run."""
    run = _Run()
    try:
        with haunting(), torch.no_grad():
            run.follow(ghost(model), ghost_input(model))
    except Exception:  # whatever a part raises on the meta device: the taps do without
        return tuple(taps)
    return tuple(run.inform(tap) for tap in taps)


@dataclass(frozen=True)
class _Call:
    """One call of a module: what it gave, and how often each tensor of that had been written to by then."""

    path: str
    number: int
    output: Any
    versions: tuple[int, ...]

    def overwritten(self, index: int | None = None) -> bool:
        """Tell whether something wrote since over what it gave, or over one tensor of it."""
        now = _versions(self.output)
        return now != self.versions if index is None else now[index] != self.versions[index]


class _Run:
    """The calls of all modules in one run, in the order in which they ended."""

    def __init__(self) -> None:
        self.calls: list[_Call] = []

    def follow(self, twin: Model, x: torch.Tensor) -> None:
        """Run a ghost in training mode, where most is written over: by a dropout in place, say."""
        counts: Counter[str] = Counter()

        def recorder(path: str) -> Callable[[nn.Module, Any, Any], None]:
            def record(_module: nn.Module, _given: Any, output: Any) -> None:
                counts[path] += 1
                self.calls.append(_Call(path, counts[path], output, _versions(output)))

            return record

        for path, module in twin.named_modules(remove_duplicate=False):
            module.training = True
            if type(module) in _SLOW:
                module.forward = torch.empty_like  # what it gives is as fresh
            if path:
                module.register_forward_hook(recorder(path))
        twin(x)

    def inform(self, tap: _Tap) -> _Tap:
        """Return a tap that knows which call it waits for, whether it copies, and where else its value is to be had.

        Raises:
            PartError: the module is not called, or not so often, or several times and the tap does not say which.
        """
        calls = [call for call in self.calls if call.path == tap.path]
        if not calls:
            raise PartError(tap.name, "is not called when the model runs, so that it gives nothing")
        if tap.call is None and len(calls) > 1:
            numbered = [f"'{tap.path}#{call.number}'" for call in calls]
            raise PartError(tap.name, f"is called {len(calls)} times; say which: {some(numbered)}")
        if (tap.call or 1) > len(calls):
            raise PartError(tap.name, f"there are {len(calls)} calls of '{tap.path}' when the model runs")
        own = calls[(tap.call or 1) - 1]
        copied = own.overwritten(tap.index)
        early = None if tap.index is None or copied else self._early(own, own.output[tap.index])
        return replace(tap, call=own.number, early=early, copied=copied, known=True)

    def _early(self, part: _Call, value: torch.Tensor) -> tuple[str, int] | None:
        """Return the outermost call inside a part that gave this very tensor, if nothing wrote over it afterwards."""
        for call in reversed(self.calls):
            if call.output is value and call.path.startswith(f"{part.path}."):
                return None if call.overwritten() else (call.path, call.number)
        return None


def _versions(output: Any) -> tuple[int, ...]:
    """Return for each tensor in what a module gave how often it was written to, in the order of a tuple."""
    return tuple(each._version for each in pytree.tree_leaves(output) if isinstance(each, torch.Tensor))
