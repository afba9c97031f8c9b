"""The size budget: how large the model of a spec may become, checked while it is composed on the meta device.

Specs come from strangers. On the meta device a layer of any width costs nothing, so what is too wide is found before
anything is allocated; what is too long is found by counting, while it is still short.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as registration

from zoo.errors import SizeBudgetError, ZooError
from zoo.held import weight

MAX_BYTES = "ZOO_MAX_BYTES"
"""The environment variable that says how many bytes the tensors of a model may have: ``64GB``, or a number."""

MAX_TENSORS = "ZOO_MAX_TENSORS"
"""The environment variable that says of how many tensors and modules a model may be made."""

_USUAL_TENSORS = 20_000  # ResNet-152 has 1,400, ResNet-1001 9,000; composing so many takes a second
_USUAL_BYTES = 1 << 34  # where the system does not tell how much memory there is
_SLACK = 4  # what a component may hold beside the tensors in its file, as a multiple of them …
_FLOOR = 1 << 24  # … and at least so many elements: who names the wrong spec is told which tensors differ
_WITHOUT_SHAPE = frozenset({nn.UninitializedParameter, nn.UninitializedBuffer})
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
          "KI": 1 << 10, "MI": 1 << 20, "GI": 1 << 30, "TI": 1 << 40}  # fmt: skip


@dataclass(frozen=True)
class Limit:
    """How much there may be of something, where that comes from, and what to do if it is too little."""

    most: int
    source: str
    remedy: str

    def require(self, what: str, found: int, where: str) -> None:
        """Check that there is no more.

        Args:
            what: ``"bytes"``, say.
            found: how much there is.
            where: which part of the spec it is in.

        Raises:
            SizeBudgetError: there is more.
        """
        if found > self.most:
            raise SizeBudgetError(what, found, self.most, self.source, self.remedy, where)


@dataclass(frozen=True)
class Budget:
    """How large a model may become.

    Attributes:
        items: how many tensors and modules it may be made of.
        bytes: how many bytes its tensors may have; None where they are not going to be allocated.
        elements: how many elements its tensors may have, whatever their precision; None where bytes are enough.
    """

    items: Limit
    bytes: Limit | None = None
    elements: Limit | None = None

    @classmethod
    def of_machine(cls, *, allocated: bool = True) -> Budget:
        """Return what this machine can hold: its physical memory, unless the environment says otherwise.

        Args:
            allocated: False for a model that stays on the meta device.

        Raises:
            ZooError: an environment variable is no size.
        """
        return cls(_items(), _memory() if allocated else None)

    @classmethod
    def of_file(cls, path: str | os.PathLike[str], tensors: int, elements: int, nbytes: int) -> Budget:
        """Return what the tensors in a file justify, with some slack for what a state dict does not hold.

        Args:
            path: the file.
            tensors: how many there are.
            elements: how many elements they have.
            nbytes: how many bytes.

        Raises:
            ZooError: an environment variable is no size.
        """
        memory = _memory()
        told = f"{_SLACK} × the {elements:,} elements in {os.fspath(path)}"
        remedy = "this is not the model that its tensors are of: name the right spec, or do not trust the file"
        items = _items()
        return cls(
            items=replace(items, most=max(items.most, _SLACK * tensors)),
            bytes=Limit(max(memory.most, _SLACK * nbytes), memory.source, memory.remedy),  # files are mapped
            elements=Limit(_SLACK * elements + _FLOOR, f"{told} and {_FLOOR:,}", remedy),
        )


class Meter:
    """Counts what modules register while parts are built, and stops it as soon as the budget is passed.

    Args:
        budget: how much is allowed.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._items = self._elements = self._bytes = 0
        self._most = budget.bytes.most if budget.bytes else None
        self._all_seen = True
        self._where = ""
        self._excess: SizeBudgetError | None = None

    @contextmanager
    def watching(self, where: str, *, trusted: bool = False) -> Iterator[None]:
        """Count what this thread registers within the block.

        Args:
            where: which part is being built, for the error.
            trusted: whether a library of models builds it: how much it makes on its way is not for a spec to say, and
                only what comes out counts.

        Raises:
            SizeBudgetError: the budget is passed, even if what is being built catches the error.
        """
        before, self._where = _thread.meter, where
        _hooks.enter()
        _thread.meter = None if trusted else self
        try:
            yield
        finally:
            _thread.meter = before
            _hooks.leave()
        self._all_seen &= not trusted
        if self._excess is not None:
            raise self._excess

    def weigh(self, parts: Mapping[str, nn.Module]) -> None:
        """Check what all parts hold in the end, every tensor counted once and what was only made on the way not.

        Args:
            parts: each part under the name that it has in errors.

        Raises:
            SizeBudgetError: it is too much.
        """
        limits = self.budget.bytes, self.budget.elements
        counted = self._bytes, self._elements
        if self._all_seen and all(limit is None or n <= limit.most for n, limit in zip(counted, limits, strict=True)):
            return
        self._where = max(parts, key=lambda where: weight([parts[where]]), default="")
        elements, nbytes = weight(parts.values())
        self._require("bytes", nbytes, self.budget.bytes)
        self._require("elements", elements, self.budget.elements)

    def count(self) -> None:
        """Count a tensor or a module."""
        self._items += 1
        if self._items > self.budget.items.most:
            self._require("tensors and modules", self._items, self.budget.items)

    def count_tensor(self, tensor: torch.Tensor) -> None:
        """Count a tensor; one alone that is too large is found at once, for the next may be too large for torch."""
        self.count()
        if type(tensor) in _WITHOUT_SHAPE:
            return
        with torch._C.DisableTorchFunction():  # torch.device asks to be told of every call otherwise
            elements = tensor.numel()
            nbytes = elements * tensor.element_size()
        self._elements += elements
        self._bytes += nbytes
        if self._most is not None and nbytes > self._most:
            self._require("bytes", nbytes, self.budget.bytes)

    def _require(self, what: str, found: int, limit: Limit | None) -> None:
        if limit is not None:
            try:
                limit.require(what, found, self._where)
            except SizeBudgetError as excess:
                self._excess = excess
                raise


class _Thread(threading.local):
    meter: Meter | None = None


_thread = _Thread()


class _Hooks:
    """torch's hooks for what modules register: there while anything is metered, and only once.

    The hooks are of the whole process, and other threads may be registering: an ordered dict with one entry can lose
    it while it is iterated over, one with two cannot.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._handles: list[Any] = []

    def enter(self) -> None:
        with self._lock:
            if not self._users:
                self._handles = [
                    registration.register_module_parameter_registration_hook(_tensor_registered),
                    registration.register_module_buffer_registration_hook(_tensor_registered),
                    registration.register_module_module_registration_hook(_module_registered),
                ]
            self._users += 1

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                for handle in self._handles:
                    handle.remove()


_hooks = _Hooks()


def _tensor_registered(_module: nn.Module, _name: str, tensor: torch.Tensor | None) -> None:
    meter = _thread.meter
    if meter is not None and tensor is not None:
        meter.count_tensor(tensor)


def _module_registered(_module: nn.Module, _name: str, child: nn.Module | None) -> None:
    meter = _thread.meter
    if meter is not None and child is not None:
        meter.count()


def _items() -> Limit:
    stated = os.environ.get(MAX_TENSORS)
    most = _USUAL_TENSORS if stated is None else as_bytes(stated, MAX_TENSORS)
    source = "more than any known model has" if stated is None else MAX_TENSORS
    return Limit(most, source, f"if it is meant, set the environment variable {MAX_TENSORS}={2 * most}")


def _memory() -> Limit:
    stated = os.environ.get(MAX_BYTES)
    if stated is not None:
        most, source = as_bytes(stated, MAX_BYTES), MAX_BYTES
    else:
        try:
            most, source = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), "the memory of this machine"
        except (AttributeError, OSError, ValueError):  # not a Unix
            most, source = _USUAL_BYTES, "what is allowed where the system does not tell its memory"
    return Limit(most, source, f"if it is meant, set the environment variable {MAX_BYTES}, such as {MAX_BYTES}=500GB")


def as_bytes(text: str, name: str) -> int:
    """Return the number that a size stands for.

    Args:
        text: a whole number, with a unit or without: ``"500MB"``, ``"64 GiB"``.
        name: what is being read, for the error.

    Raises:
        ZooError: it is no size.

    >>> as_bytes("2GB", "x"), as_bytes("1 KiB", "x")
    (2000000000, 1024)
    """
    found = re.fullmatch(r"\s*([0-9]{1,30})\s*([KMGT]I?)?B?\s*", text.upper(), re.ASCII)
    if found is None:
        raise ZooError(f"{name}={text!r} is no size; expected a number such as 500000000, 500MB or 64GiB")
    return int(found[1]) * _UNITS[found[2] or ""]
