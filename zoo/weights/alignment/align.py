"""aligned: the tensors of a model from an ONNX file of elsewhere, whose graph is laid beside the model's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch

from zoo.budget import Budget
from zoo.builder import assemble
from zoo.errors import AlignmentError
from zoo.messages import some
from zoo.model import Model
from zoo.spec import ParsedSpec
from zoo.weights.alignment.canonical import canonical
from zoo.weights.alignment.endings import Cut, cut
from zoo.weights.alignment.graph import Graph
from zoo.weights.alignment.layers import Layer, Layout
from zoo.weights.alignment.matching import LEVELS, Level, Pairs, first_differences, matches
from zoo.weights.alignment.port import InputPort, port_of
from zoo.weights.alignment.proof import TRIED, Observed, observe, prove
from zoo.weights.alignment.reading import read_graph
from zoo.weights.alignment.safety import following, refuse_growing, refuse_unsafe
from zoo.weights.alignment.shapes import sized
from zoo.weights.alignment.tables import with_indices
from zoo.weights.alignment.target import target as target_of
from zoo.weights.alignment.unfolding import Unfolded, precisions, unfolded
from zoo.weights.checkpoint import Checkpoint, tied
from zoo.weights.migration.report import Alignment, MigrationReport, Proof, precision_of
from zoo.weights.rebuilding import checkpoint_tensors, rebuild
from zoo.weights.verification.outputs import OutputParity

MAX_TRIALS = 16
"""In how many ways branches that are alike are paired before it is given up."""


NO_GRAPH = "is no graph of this model"


class Aligned(NamedTuple):
    """The tensors of a model from a file, and the account of how they were found."""

    checkpoint: Checkpoint
    report: MigrationReport


class _Sides(NamedTuple):
    model: Layout
    file: Layout


def aligned(
    path: Path, checkpoint: Checkpoint, parsed: ParsedSpec, target: str = "", *, mapped: bool = True
) -> Aligned:
    """Return the tensors of the model of a spec from an ONNX file, whoever exported it.

    The graph of the file is read without running anything, laid beside that of the model, and refused unless layer for
    layer one fits the other. Only then onnxruntime runs the file, to prove that the model computes the same.

    Args:
        path: the file.
        checkpoint: its initializers, read already.
        parsed: the spec of the model.
        target: how to call the model in the report.
        mapped: whether tensors may stay in the file.

    Raises:
        AlignmentError: the graphs do not fit, or the outputs differ.
        FileFormatError: the file is damaged.
        SizeBudgetError: the spec describes a far larger model than the tensors are of.
    """
    with following(path):
        return _aligned(path, checkpoint, parsed, target, mapped=mapped)


def _aligned(path: Path, checkpoint: Checkpoint, parsed: ParsedSpec, target: str, *, mapped: bool) -> Aligned:
    given = checkpoint.state_dict()
    graph = read_graph(path, given, mapped=mapped)
    skeleton = _skeleton(path, given, graph, parsed)
    port = port_of(skeleton, graph, path)
    goal = target_of(skeleton, port.size, path)
    ours = goal.graph
    state = skeleton.state_dict(keep_vars=True)
    aliases = tied(state)
    expected = {name: tensor for name, tensor in state.items() if name not in aliases}
    graph = _safe(graph, ours, sum(tensor.numel() for tensor in expected.values()), port, path)
    end = cut(graph, ours, path)
    named = with_indices(_under_first_names(ours, aliases), skeleton, parsed)
    sides = _Sides(canonical(named, path), canonical(end.graph, path))
    if len(sides.model.outputs) != len(sides.file.outputs):
        raise AlignmentError(
            path, f"gives {len(sides.file.outputs)} outputs; the model gives {len(sides.model.outputs)}"
        )
    level, ways = _ways(sides, path)
    refuse_growing(graph, ours, path)
    observed = observe(path, port, sides.file.outputs, given, end, goal)
    last: AlignmentError | None = None
    for trial, (pairs, unsure) in enumerate(ways):
        found = unfolded(sides.model, sides.file, pairs, unsure, expected, path)
        made = Checkpoint(found.tensors, aliases, order=tuple(state))
        model = rebuild(parsed, made, path)
        outputs = prove(model, observed, sides.model.outputs, path)
        if all(each.holds for each in outputs):
            report = _report(path, checkpoint, target, end, sides, level, found, outputs, trial, port.size, observed)
            return Aligned(made, report)
        last = _disproven(sides, outputs, path)
        del found, made, model
    raise last or AlignmentError(path, "cannot be aligned")


def _skeleton(path: Path, given: Mapping[str, torch.Tensor], graph: Graph, parsed: ParsedSpec) -> Model:
    """Compose the model on the meta device; constants of nodes count for the size that it may have."""
    sizes = [(t.numel(), t.numel() * t.element_size()) for t in checkpoint_tensors(given)]
    sizes += [(n, 4 * n) for each in graph.tensors.values() for n in [torch.Size(each.shape).numel()]]
    budget = Budget.of_machine(allocated=True)
    if sum(n for n, _ in sizes) > 1 << 16:  # a graph may make its weights of nothing, as the light models do
        budget = Budget.of_file(path, len(sizes), sum(n for n, _ in sizes), sum(n for _, n in sizes))
    return assemble(parsed, "meta", initialise=False, budget=budget).eval()


def _safe(graph: Graph, ours: Graph, elements: int, port: InputPort, path: Path) -> Graph:
    """Return a graph that may be run; its sizes are constants where else it could not be told how large it gets.

    Raises:
        AlignmentError: it may not.
    """
    try:
        refuse_unsafe(graph, ours, elements, path)
    except AlignmentError:
        if not any(node.op == "Shape" for node in graph.nodes):
            raise
    else:
        return graph
    batch = port.shape[0] if port.shape and port.shape[0] is not None else TRIED
    graph = sized(graph, (batch, port.channels, *port.size), path)
    refuse_unsafe(graph, ours, elements, path)
    return graph


def _under_first_names(graph: Graph, aliases: Mapping[str, str]) -> Graph:
    """Call tied tensors by the first of their names, whichever the exporter kept."""
    constants = {
        name: replace(each, parameter=aliases.get(each.parameter or "", each.parameter))
        for name, each in graph.constants.items()
    }
    return replace(graph, constants=constants)


def _ways(sides: _Sides, path: Path) -> tuple[Level, Sequence[tuple[Pairs, frozenset[int]]]]:
    """Return the strictest level at which the graphs fit, and the ways in which they do."""
    for level in LEVELS:
        found = list(islice(matches(sides.model, sides.file, level), MAX_TRIALS))
        if found:
            return level, found
    ours, theirs = _first(sides, reversed(LEVELS))
    raise AlignmentError(path, NO_GRAPH, theirs.told() if theirs else "", ours.told() if ours else "")


def _first(sides: _Sides, levels: Iterable[Level]) -> tuple[Layer | None, Layer | None]:
    for level in levels:
        found = first_differences(sides.model, sides.file, level)
        if any(found):
            return found
    return None, None


def _disproven(sides: _Sides, outputs: Sequence[OutputParity], path: Path) -> AlignmentError:
    worst = max(outputs, key=lambda each: each.error if each.error == each.error else float("inf"))
    ours, theirs = _first(sides, reversed(LEVELS))
    return AlignmentError(
        path,
        f"computes something else than the model with its weights: {worst.error:.2g} apart on {worst.inputs}, "
        f"{worst.limit:.2g} would do",
        theirs.told(trails=True) if theirs else "",
        ours.told(trails=True) if ours else "",
    )


def _report(
    path: Path,
    checkpoint: Checkpoint,
    target: str,
    end: Cut,
    sides: _Sides,
    level: Level,
    found: Unfolded,
    outputs: Sequence[OutputParity],
    trial: int,
    size: Sequence[int],
    observed: Observed,
) -> MigrationReport:
    worst = max(outputs, key=lambda each: each.error / each.limit)
    notes = [f"the graphs fit {level.told}"]
    notes += end.notes
    kinds = precisions(sides.file.layers)
    if len(kinds) > 1:
        notes.append(f"its weights are {' and '.join(kinds)}; all became the widest")
    if trial:
        notes.append(f"branches that are alike were paired in {trial + 1} ways; the last one was right")
    counts = Alignment(found.origins).counts
    uncertain = []
    if not observed.varies:
        uncertain.append(
            "what the file gives is the same for every input that was tried, so that its proof proves little"
        )
    if counts.get("batchnorm-folded"):
        uncertain.append(
            "the statistics of the BatchNorms that were folded are lost: the model computes the same, but training "
            "goes on as if they had mean 0 and variance 1; freeze them, or let them find new ones"
        )
    if counts.get("ambiguous"):
        uncertain.append(
            f"{counts['ambiguous']} tensors are of branches that are alike; paired otherwise the model might compute "
            "the same"
        )
    if found.unread:
        uncertain.append(
            f"{len(found.unread)} tables have entries that nothing of the model reads and the file does not have "
            f"({some(found.unread)}); they are zero, which changes nothing that the model computes"
        )
    alignment = Alignment(
        found.origins,
        end.graph.producer,
        sum(layer.nodes for layer in sides.file.layers if layer.kind not in ("input", "output")),
        tuple(notes),
        end.endings,
    )
    proofs = (
        Proof("every layer of the model has one counterpart in the file, and no other is left there"),
        Proof(
            f"{observed.by} on the file{end.before} and the model agree on {worst.inputs} of "
            f"{'×'.join(map(str, size))}, as closely as a run in float64 tells",
            True,
            worst.error,
            worst.limit,
        ),
    )
    return MigrationReport(
        str(path),
        "onnx",
        len(checkpoint.state_dict()),
        target or "a model of this spec",
        alignment=alignment,
        proofs=proofs,
        uncertain=tuple(uncertain),
        precision=precision_of(checkpoint.state_dict().values()),
    )
