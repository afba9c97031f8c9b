"""Tracing: one run of a model on the meta device, and what each of its modules did."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import torch
from torch import nn

from zoo.anatomy.call import Call
from zoo.anatomy.reach import Reach, constant, of_input, union
from zoo.anatomy.rules import results_of
from zoo.counting import backward_multiply_adds, multiply_adds
from zoo.errors import ZooError
from zoo.metakernels import Layout, OnMeta, layout, storage_id


@dataclass(frozen=True)
class Tensor:
    """One tensor that a module gave.

    Attributes:
        name: where it is in what the module gave: ``""`` of a tensor alone, ``"0"``, ``"logits"``, ``"boxes.1"``.
        shape: its shape.
        reach: what it depends on; None where that is not the input.
    """

    name: str
    shape: tuple[int, ...]
    reach: Reach | None


@dataclass
class Visit:
    """What one module did in a run; calls of modules below it are not counted in.

    Attributes:
        outputs: what it gave, of all calls one after the other.
        calls: how often it was called.
        multiply_adds: of the forward pass.
        backward: multiply-adds of the backward pass.
        kept: bytes of what it made that autograd keeps for the backward pass.
    """

    outputs: list[Tensor] = field(default_factory=list)
    calls: int = 0
    multiply_adds: int = 0
    backward: int = 0
    kept: int = 0


@dataclass(frozen=True)
class Run:
    """What happened in one run.

    Attributes:
        visits: what each module did, by its path; the model itself is ``""``.
        peak: how many bytes of activations were there at most at one time, the input included.
        input_kept: how many bytes of the input autograd keeps.
    """

    visits: Mapping[str, Visit]
    peak: int
    input_kept: int

    @property
    def multiply_adds(self) -> int:
        """Of the whole forward pass."""
        return sum(visit.multiply_adds for visit in self.visits.values())

    @property
    def backward(self) -> int:
        """Multiply-adds of the whole backward pass."""
        return sum(visit.backward for visit in self.visits.values())

    @property
    def kept(self) -> int:
        """How many bytes autograd keeps, the input aside."""
        return sum(visit.kept for visit in self.visits.values())


class FailedRun(Exception):  # noqa: N818 - it never leaves this package
    """A model raised something that is no error of ours; its cause says what.

    Attributes:
        path: the innermost module in which it happened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(path)


def run(model: nn.Module, x: torch.Tensor, *, training: bool) -> Run:
    """Run a model on the meta device.

    Args:
        model: the model, all of it on the meta device, in the mode that it is to run in.
        x: its input.
        training: whether autograd records.

    Raises:
        ZooError: the model refuses the input.
        FailedRun: it raised something else.
    """
    tracer = _Tracer(model, x)
    with tracer.watching(model):
        try:
            if training:
                with torch.enable_grad(), tracer, torch.autograd.graph.saved_tensors_hooks(tracer.keep, lambda t: t):
                    model(x)
            else:
                with torch.no_grad(), tracer:
                    model(x)
        except ZooError:
            raise
        except Exception as error:
            raise FailedRun(tracer.path) from error
    return Run(tracer.visits, tracer.peak, tracer.input_kept)


class _Tracer(OnMeta):
    """Watches every operation; autograd has done its part by then, and composite ones are taken apart.

    What a tensor depends on is kept by its storage and its layout there, for views are new tensors each time.
    """

    def __init__(self, model: nn.Module, x: torch.Tensor) -> None:
        super().__init__()
        self.visits: dict[str, Visit] = {}
        self.input_kept = self.peak = self._alive = 0
        self._stack = [""]
        self._weights = {storage_id(t) for t in (*model.parameters(), *model.buffers())}
        self._reaches: dict[int, dict[Layout, Reach]] = {}
        self._makers: dict[int, str | None] = {}  # of each storage that is alive; None for the input
        self._references: dict[int, weakref.ref[Any]] = {}
        self._kept: set[int] = set()
        self._arrive(x, None)
        self._learn(x, of_input(x.shape), inplace=False)

    @property
    def path(self) -> str:
        """The module that is running."""
        return self._stack[-1]

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Follow which module is running, within the block."""
        handles = []
        for path, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(self._entering(path)))
            handles.append(module.register_forward_hook(self._left))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def keep(self, tensor: torch.Tensor) -> torch.Tensor:
        """Note that autograd keeps a tensor; each storage counts once, for who made it."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._weights and key not in self._kept:
            self._kept.add(key)
            maker = self._makers.get(key, self.path)
            if maker is None:
                self.input_kept += storage.nbytes()
            else:
                self._visit(maker).kept += storage.nbytes()
        return tensor

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        taken = list(_tensors((*args, *kwargs.values())))
        given = self.computed(func, args, kwargs, taken)
        tensors = list(_tensors((given,)))
        for tensor in tensors:
            self._arrive(tensor, self.path)
        if not tensors or not taken:
            return given
        name = func._schema.name.rpartition("::")[2]
        shape = tuple(tensors[0].shape)
        if count := multiply_adds(name, args, shape):
            visit = self._visit(self.path)
            visit.multiply_adds += count
            visit.backward += backward_multiply_adds(name, args, count)
        reaches = {id(t): reach for t in taken if (reach := self._reach(t)) is not None}
        if reaches:
            found = results_of(Call(name, args, kwargs, shape, reaches))
            self._learn_all(tensors, found, inplace=name.endswith("_"))
        return given

    def _learn_all(self, tensors: Sequence[torch.Tensor], found: Reach | list[Reach] | None, inplace: bool) -> None:
        if isinstance(found, list):
            for tensor, reach in zip(tensors, found, strict=True):
                self._learn(tensor, reach, inplace)
        elif found is not None:
            for tensor in tensors:
                alike = found.shape == tuple(tensor.shape)
                self._learn(tensor, found if alike else constant(found, tensor.shape), inplace)

    def _learn(self, tensor: torch.Tensor, reach: Reach, inplace: bool) -> None:
        layouts = self._reaches.setdefault(storage_id(tensor), {})
        mine = layout(tensor)
        layouts[mine] = reach
        for place in list(layouts) if inplace else ():
            if place != mine:  # other views of the same numbers, or of some of them
                other = layouts[place]
                layouts[place] = union([constant(each, other.shape) for each in (other, reach)], other.shape)

    def _reach(self, tensor: torch.Tensor) -> Reach | None:
        layouts = self._reaches.get(storage_id(tensor))
        if not layouts:
            return None
        known = layouts.get(layout(tensor))
        if known is None:  # written through another view
            known = union([constant(each, tensor.shape) for each in layouts.values()], tensor.shape)
        return known

    def _arrive(self, tensor: torch.Tensor, maker: str | None) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._references or key in self._weights:
            return
        size = storage.nbytes()
        self._makers[key] = maker
        self._alive += size
        self.peak = max(self.peak, self._alive)

        def gone(_: Any) -> None:
            self._alive -= size
            self._references.pop(key, None)
            self._makers.pop(key, None)
            self._reaches.pop(key, None)
            self._kept.discard(key)

        self._references[key] = weakref.ref(storage, gone)

    def _visit(self, path: str) -> Visit:
        return self.visits.setdefault(path, Visit())

    def _entering(self, path: str) -> Any:
        def enter(_module: nn.Module, _args: Any) -> None:
            self._visit(path).calls += 1
            self._stack.append(path)

        return enter

    def _left(self, _module: nn.Module, _args: Any, given: Any) -> None:
        self._visit(self._stack.pop()).outputs.extend(
            Tensor(name, tuple(tensor.shape), self._reach(tensor)) for name, tensor in named_tensors(given)
        )


def named_tensors(value: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Give the tensors in what a module returned, each with its place there.

    >>> [name for name, _ in named_tensors({"boxes": [torch.empty(1), torch.empty(1)]})]
    ['boxes.0', 'boxes.1']
    """
    if isinstance(value, torch.Tensor):
        yield name, value
        return
    inner: Iterator[tuple[Any, Any]] = iter(())
    if isinstance(value, Mapping):
        inner = iter(value.items())
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        inner = iter(zip(value._fields, value, strict=True))
    elif isinstance(value, list | tuple):
        inner = iter(enumerate(value))
    elif is_dataclass(value):
        inner = iter((f.name, getattr(value, f.name)) for f in fields(value))
    for key, each in inner:
        yield from named_tensors(each, f"{name}.{key}" if name else str(key))


def _tensors(values: Sequence[Any]) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from (v for v in value if isinstance(v, torch.Tensor))
