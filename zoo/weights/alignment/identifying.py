"""models_of_graph: which named models an ONNX file of elsewhere can be, told from its graph; nothing of it is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zoo.builder import assemble
from zoo.errors import ZooError
from zoo.model import Model
from zoo.spec import ParsedSpec, merge, of_classes, parse
from zoo.weights.alignment.canonical import canonical
from zoo.weights.alignment.endings import cut
from zoo.weights.alignment.graph import Graph
from zoo.weights.alignment.layers import Layout
from zoo.weights.alignment.matching import LEVELS, matches
from zoo.weights.alignment.port import port_of
from zoo.weights.alignment.reading import read_graph, read_output_shapes
from zoo.weights.alignment.safety import following
from zoo.weights.alignment.tracing import traced
from zoo.weights.alignment.unfolding import COUNTER
from zoo.weights.checkpoint import Checkpoint, tied

_MOST_COUNTS = 4


class GraphFit(NamedTuple):
    """A model whose graph a file has.

    Attributes:
        name: of the model.
        spec: its spec, with the classes and channels of the file.
        level: how closely they fit, a place in ``LEVELS``: 0 is operator for operator.
    """

    name: str
    spec: dict[str, Any]
    level: int


def models_of_graph(path: Path, checkpoint: Checkpoint, models: Mapping[str, ParsedSpec]) -> list[GraphFit]:
    """Return the models whose graphs fit that of a file, those that fit most closely.

    Args:
        path: the file.
        checkpoint: its initializers.
        models: the models to try, by name.

    Raises:
        AlignmentError: the graph cannot be followed.
        FileFormatError: it is damaged.
    """
    with following(path):
        return _models_of_graph(path, checkpoint, models)


def _models_of_graph(path: Path, checkpoint: Checkpoint, models: Mapping[str, ParsedSpec]) -> list[GraphFit]:
    graph = read_graph(path, checkpoint.state_dict(), mapped=True)
    file = canonical(graph, path)
    held = {each.constant.name: each.count for layer in file.layers if (each := layer.slots.get("weight")) is not None}
    weights = Counter(held.values())
    counts = _counts(file, path)
    found: dict[str, GraphFit] = {}
    for name, parsed in models.items():
        for spec in _specs(parsed, graph, counts):
            try:
                model = assemble(parse(spec), "meta", initialise=False).eval()
                level = _level(model, graph, file, weights, path)
            except ZooError:
                continue
            if level is not None:
                found.setdefault(repr(model.spec), GraphFit(name, dict(model.spec), level))
                break
    best = min((each.level for each in found.values()), default=0)
    return [each for each in found.values() if each.level == best]


def _counts(file: Layout, path: Path) -> list[int]:
    """Return the numbers of classes that a file may have: the width of its last layer, or what its outputs declare."""
    last = [file.layers[edge.source] for layer in file.layers if layer.kind == "output" for edge in layer.inputs]
    declared = [n for shape in read_output_shapes(path).values() for n in (*shape[-1:], *shape[1:2]) if n]
    return list(dict.fromkeys([*(each.out for each in last if each.kind == "affine"), *declared]))[:_MOST_COUNTS]


def _specs(parsed: ParsedSpec, graph: Graph, counts: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Give the specs that a model can have with this graph: with its channels, and with each number of classes."""
    spec = parsed.dump()
    (shape,) = graph.inputs.values()
    if len(shape) > 1 and shape[1]:
        spec = merge(spec, {"input": {"channels": shape[1]}})
    stated = (spec["head"] or {}).get("num_classes")
    if isinstance(stated, int):
        for count in counts:
            yield merge(spec, of_classes(spec, count))
    if stated not in counts:
        yield spec


def _level(model: Model, graph: Graph, file: Layout, weights: Counter[int], path: Path) -> int | None:
    """Return how closely a model fits, or None; models with other weights are not run at all."""
    own = Counter(tensor.numel() for tensor in model.state_dict().values() if tensor.dim() > 1)
    if weights - own or sum(weights.values()) > sum(own.values()):
        return None
    run = traced(model, port_of(model, graph, path).size, model.spec["input"]["channels"])
    if run.graph is None:
        return None
    end = cut(graph, run.graph, path)
    if end.graph.outputs != graph.outputs:
        file = canonical(end.graph, path)
    ours = canonical(run.graph, path)
    told = {name for layer in ours.layers for name in layer.parameters}
    state = model.state_dict(keep_vars=True)
    if any(name not in told for name in state.keys() - tied(state).keys() if not name.endswith(COUNTER)):
        return None  # a head for training alone, of which a file has nothing
    fitting = (i for i, level in enumerate(LEVELS) if next(iter(matches(ours, file, level)), None) is not None)
    return next(fitting, None) if len(ours.outputs) == len(file.outputs) else None
