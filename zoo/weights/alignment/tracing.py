"""traced: the graph of a model from one run of it on the meta device; torch's exporter is not even imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from zoo.counting import multiply_adds
from zoo.metakernels import OnMeta
from zoo.weights.alignment.graph import Constant, Graph
from zoo.weights.alignment.operators import FRESH, OPERATORS, PASSING, UNARY
from zoo.weights.alignment.recording import Recording, UntraceableError
from zoo.weights.checkpoint import tied


class Traced(NamedTuple):
    """What a run did.

    Attributes:
        graph: its operators; None if one of them is not known here.
        activations: how many numbers the model made for one sample.
        products: how often it multiplied and added for one sample, in convolutions and products.
        largest: how many numbers the largest thing has that it made for one sample.
    """

    graph: Graph | None
    activations: int
    products: int
    largest: int


_BATCH = 2


def traced(model: nn.Module, size: Sequence[int], channels: int) -> Traced:
    """Run a model once on the meta device and return what it did, in the operators of ONNX.

    Args:
        model: the model, on the meta device and in evaluation mode.
        size: the length of each axis of the input but batch and channels.
        channels: of the input.

    Raises:
        ZooError: the model refuses an input of this size.
    """
    x = torch.zeros(_BATCH, channels, *size, device="meta")
    trace = _Trace(model, x)
    with torch.no_grad(), trace:
        outputs = tree_leaves(model(x))
    amounts = (trace.made // _BATCH, trace.products // _BATCH, -(-trace.largest // _BATCH))
    try:
        trace.require()
        graph = trace.graph
        names = tuple(
            graph.name(each) if graph.known(each) else graph.node("Shape", _INPUT)  # it can depend on sizes alone
            for each in outputs
            if isinstance(each, torch.Tensor)
        )
    except UntraceableError:
        return Traced(None, *amounts)
    return Traced(Graph(tuple(graph.nodes), graph.constants, {_INPUT: ()}, names), *amounts)


_INPUT = "the input"


class _Trace(OnMeta):
    """Records every operator that a model calls."""

    def __init__(self, model: nn.Module, x: torch.Tensor) -> None:
        super().__init__()
        self.graph = Recording()
        self.made = self.products = self.largest = 0
        self._failed: UntraceableError | None = None
        state = model.state_dict(keep_vars=True)
        aliases = tied(state)
        held = {**dict(model.named_buffers()), **{name: t for name, t in state.items() if name not in aliases}}
        for name, tensor in held.items():
            dtype = torch.float32 if tensor.is_floating_point() else torch.int64  # of ours the kind is enough
            parameter = name if name in state else None
            self.graph.constants[name] = Constant(name, tuple(tensor.shape), None, dtype, parameter)
            self.graph.learn(tensor, name)
        self.graph.learn(x, _INPUT)

    def require(self) -> None:
        """Raise what stopped the recording, if something did."""
        if self._failed is not None:
            raise self._failed

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        taken = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        given = self.computed(func, args, kwargs, taken)
        results = [each for each in tree_leaves(given) if isinstance(each, torch.Tensor)]
        op = func._schema.name.rpartition("::")[2]
        sizes = [each.numel() for each in results]
        self.made += sum(sizes)
        self.largest = max(self.largest, *sizes, 0)
        self.products += multiply_adds(op, args, tuple(results[0].shape)) if results else 0
        if self._failed is None and op not in FRESH and any(self.graph.known(each) for each in taken):
            try:
                names = self._translated(op.rstrip("_"), args, kwargs, results)
            except UntraceableError as error:
                self._failed = error
                return given
            for tensor, name in zip(results, names, strict=False):
                self.graph.learn(tensor, name, inplace=op.endswith("_"))
        return given

    def _translated(
        self, op: str, args: Sequence[Any], kwargs: Mapping[str, Any], results: Sequence[torch.Tensor]
    ) -> Sequence[str]:
        if not results:
            raise UntraceableError(op)
        shape = tuple(results[0].shape)
        if op in OPERATORS:
            made = OPERATORS[op](self.graph, shape, *args, **kwargs)
            return (made,) if isinstance(made, str) else made
        first = self.graph.name(args[0]) if args and isinstance(args[0], torch.Tensor) else ""
        if op in PASSING and first:
            return (self.graph.node("Reshape", first, shape=shape),)
        if op in UNARY and first:
            return (self.graph.node(UNARY[op], first),)
        raise UntraceableError(op)
