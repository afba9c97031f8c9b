"""from_graph: what loading an ONNX file from elsewhere does, by its graph, or by its names and what it computes."""

from __future__ import annotations

from pathlib import Path

from zoo import kinds
from zoo.budget import Budget
from zoo.builder import assemble
from zoo.errors import AlignmentError, ZooError
from zoo.spec import ParsedSpec, merge, of_classes, parse
from zoo.weights.alignment.align import NO_GRAPH, aligned
from zoo.weights.alignment.identifying import models_of_graph
from zoo.weights.alignment.reading import read_output_shapes
from zoo.weights.alignment.running import run_by_names
from zoo.weights.checkpoint import Checkpoint
from zoo.weights.migration.nearest import Advice, anew_call, tails
from zoo.weights.migration.report import MigrationReport
from zoo.weights.rebuilding import fits


def from_graph(
    path: Path, checkpoint: Checkpoint, parsed: ParsedSpec, target: str, *, mapped: bool
) -> tuple[Checkpoint, MigrationReport]:
    """Return the tensors of a model by our names.

    Args:
        path: an ONNX file that zoo did not write.
        checkpoint: its initializers.
        parsed: the spec of the model.
        target: how the model is called; empty if it has no name.
        mapped: whether tensors may stay in the file.

    Returns:
        The tensors, and how they were found and proven.

    Raises:
        AlignmentError: it is no graph of this model; nor, if it cannot be followed, does it have our names and compute
            the same.
        FileFormatError: it is damaged.
        SizeBudgetError: the spec describes a far larger model than the tensors are of.
    """
    composed = " → ".join(part.type for part in parsed.parts)
    target = f"{target} ({composed})" if target else composed
    try:
        return _from_graph(path, checkpoint, parsed, target, mapped=mapped)
    except AlignmentError as error:
        if error.reason != NO_GRAPH:
            raise
        advice = _advice(path, checkpoint, parsed)
        raise AlignmentError(path, error.reason, error.in_file, error.in_model, *advice) from error


def _advice(path: Path, checkpoint: Checkpoint, parsed: ParsedSpec) -> Advice:
    """Return what to do with a graph that is not of the model: what is advised has been tried, but for the proof."""
    other = classes_declared(path, parsed)
    if other is not None and models_of_graph(path, checkpoint, {"": other}):
        count = other.dump()["head"]["num_classes"]
        call = f"zoo.build(…, weights={str(path)!r}, num_classes={count})"
        return Advice(f"the file says that it gives {count} classes: {call}")
    identify = f"zoo identify {path} tells if it is that of another"
    for anew in tails([kind for kind in kinds.SECTIONS if parsed.dump().get(kind)]):
        rest = parse(merge(parsed.dump(), dict.fromkeys(anew)))
        if any(fit.spec == rest.dump() for fit in models_of_graph(path, checkpoint, {"": rest})):
            return Advice(f"{anew_call(anew, checkpoint, path)}; {identify}", anew)
    return Advice(identify)


def _from_graph(
    path: Path, checkpoint: Checkpoint, parsed: ParsedSpec, target: str, *, mapped: bool
) -> tuple[Checkpoint, MigrationReport]:
    try:
        return aligned(path, checkpoint, parsed, target, mapped=mapped)
    except AlignmentError as error:
        given = checkpoint.state_dict()
        model = assemble(parsed, "meta", initialise=False, budget=Budget.of_machine(allocated=True))
        expected = model.state_dict()
        if expected.keys() == given.keys() and all(fits(given[name], each) for name, each in expected.items()):
            return checkpoint, run_by_names(path, checkpoint, parsed, model, target, error)
        raise


def classes_declared(path: Path, parsed: ParsedSpec) -> ParsedSpec | None:
    """Return the spec with as many classes as an ONNX file says that it gives.

    Args:
        path: the file.
        parsed: the spec of the model.

    Returns:
        The spec; None if the file does not say, or says the same.
    """
    spec = parsed.dump()
    stated = (spec["head"] or {}).get("num_classes")
    try:
        shapes = list(read_output_shapes(path).values())
    except ZooError:
        return None
    count = shapes[0][1] if len(shapes) == 1 and len(shapes[0]) > 1 else None
    if not count or not isinstance(stated, int) or count == stated:
        return None
    return parse(merge(spec, of_classes(spec, count)))
