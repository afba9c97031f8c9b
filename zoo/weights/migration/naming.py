"""named: the tensors of a file from elsewhere by our names, which its graph tells, if it has one, or its own names."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from zoo.budget import Budget
from zoo.builder import assemble
from zoo.model import Model
from zoo.spec import ParsedSpec, merge, parse
from zoo.weights.checkpoint import Checkpoint
from zoo.weights.migration.recognise import Comparison
from zoo.weights.migration.report import MigrationReport
from zoo.weights.reading import told_by_graph


def named(
    checkpoint: Checkpoint,
    parsed: ParsedSpec,
    path: Path,
    keymap: str | None = None,
    *,
    model: Model | None = None,
    target: str = "",
    mapped: bool = True,
    anew: Collection[str] = (),
) -> tuple[Checkpoint, MigrationReport]:
    """Return the tensors of a file from elsewhere under the names that a model has for them, and the account of it.

    Args:
        checkpoint: what is in the file.
        parsed: the checked spec of the model.
        path: the file.
        keymap: the library whose names the file has; all are tried unless given.
        model: the model, where it is composed already; the meta device will do.
        target: how the model is called; empty if it has no name.
        mapped: whether tensors may stay in the file.
        anew: parts of the model that take nothing from the file; a graph must not go on where they are.

    Raises:
        AlignmentError: it is an ONNX graph, and not one of this model.
        ZooError: all that :meth:`zoo.weights.migration.recognise.Comparison.recognised` raises.
    """
    if told_by_graph(path, keymap):
        from zoo.weights.alignment.load import from_graph  # of no use for any other file

        rest = parse(merge(parsed.dump(), dict.fromkeys(anew))) if anew else parsed
        return from_graph(path, checkpoint, rest, target, mapped=mapped)
    found, report = Comparison(checkpoint, parsed, model or _composed(parsed), path, keymap).recognised(anew)
    return found, replace(report, target=f"{target} ({report.target})") if target else report


def as_in_the_file(
    checkpoint: Checkpoint, parsed: ParsedSpec, path: Path, keymap: str | None = None
) -> ParsedSpec | None:
    """Return a spec with what a file from elsewhere tells otherwise, its number of classes above all.

    Args:
        checkpoint: what is in the file.
        parsed: the checked spec.
        path: the file.
        keymap: the library whose names the file has; all are tried unless given.

    Returns:
        The spec; None if the file tells nothing else.
    """
    if told_by_graph(path, keymap):
        from zoo.weights.alignment.load import classes_declared

        return classes_declared(path, parsed)
    changes = Comparison(checkpoint, parsed, _composed(parsed), path, keymap).changes()
    return parse(merge(parsed.dump(), changes)) if changes else None


def _composed(parsed: ParsedSpec) -> Model:
    return assemble(parsed, "meta", initialise=False, budget=Budget.of_machine())
