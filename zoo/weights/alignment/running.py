"""run_by_names: the proof of a file whose graph cannot be followed, but whose tensors have our names: it is run."""

from __future__ import annotations

from pathlib import Path

from zoo.errors import AlignmentError, ZooError
from zoo.model import Model
from zoo.spec import ParsedSpec
from zoo.weights.alignment.endings import cut
from zoo.weights.alignment.port import port_of
from zoo.weights.alignment.proof import observe, prove
from zoo.weights.alignment.reading import read_graph
from zoo.weights.alignment.safety import refuse_growing, refuse_unsafe
from zoo.weights.alignment.target import target as target_of
from zoo.weights.checkpoint import Checkpoint
from zoo.weights.migration.report import MigrationReport, Proof, precision_of
from zoo.weights.rebuilding import rebuild


def run_by_names(
    path: Path, checkpoint: Checkpoint, parsed: ParsedSpec, skeleton: Model, target: str, why: AlignmentError
) -> MigrationReport:
    """Compare what an ONNX file computes with the model around its tensors, taken by their names.

    Names alone prove nothing: they may be swapped, or a matrix turned. The file is run only if its graph asks for
    nothing that the model does not.

    Args:
        path: the file.
        checkpoint: its initializers, which have the names and shapes of the model's.
        parsed: the spec of the model.
        skeleton: the model, on the meta device.
        target: how to call the model in the report.
        why: why the graph cannot be followed.

    Returns:
        The account of it.

    Raises:
        AlignmentError: the file is not run here, or computes something else than the model.
    """
    try:
        return _run(path, checkpoint, parsed, skeleton.eval(), target, why)
    except AlignmentError as error:
        if error.reason == why.reason:
            raise why from None
        reason = f"{why.reason}, and it is not believed by its names alone, for it {_told(error)}"
        raise AlignmentError(path, reason, why.in_file, why.in_model) from why
    except ZooError:
        raise
    except Exception as error:  # what a graph that makes no sense leads to is any kind of error
        raise why from error


def _run(
    path: Path, checkpoint: Checkpoint, parsed: ParsedSpec, skeleton: Model, target: str, why: AlignmentError
) -> MigrationReport:
    given = checkpoint.state_dict()
    graph = read_graph(path, given, mapped=True)
    port = port_of(skeleton, graph, path)
    goal = target_of(skeleton, port.size, path)
    refuse_unsafe(graph, goal.graph, sum(tensor.numel() for tensor in given.values()), path)
    refuse_growing(graph, goal.graph, path)
    end = cut(graph, goal.graph, path)
    every = range(len(end.graph.outputs))
    observed = observe(path, port, every, given, end, goal)
    if not observed.varies:
        raise AlignmentError(path, "gives the same for every input that was tried, which proves nothing")
    outputs = prove(rebuild(parsed, checkpoint, path), observed, every, path)
    worst = max(outputs, key=lambda each: each.error / each.limit if each.error == each.error else float("inf"))
    if not worst.holds:
        raise AlignmentError(
            path,
            f"computes something else than the model with these tensors: {worst.error:.2g} apart on {worst.inputs}, "
            f"{worst.limit:.2g} would do",
        )
    size = "×".join(map(str, port.size))
    ran = f"{observed.by} on the file{end.before} and the model agree on {worst.inputs} of {size}"
    proofs = (
        Proof("each tensor of the file has the name and the shape of one of the model's, and none is left over"),
        Proof(f"{ran}, as closely as a run in float64 tells", True, worst.error, worst.limit),
    )
    uncertain = (f"its graph was not laid beside the model's: it {_told(why)}", *end.notes)
    precision = precision_of(given.values())
    return MigrationReport(
        str(path), "onnx", len(given), target, proofs=proofs, uncertain=uncertain, precision=precision
    )


def _told(error: AlignmentError) -> str:
    return str(error).removeprefix(f"{error.path}: ")
