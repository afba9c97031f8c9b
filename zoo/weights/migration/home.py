"""brought_home: weights from elsewhere by our names, for a model that is built and may be changed on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from zoo import kinds
from zoo.errors import AlignmentError, KeymapError, SeveralWeightsError, SizeBudgetError, SpecError, ZooError
from zoo.spec import ParsedSpec
from zoo.weights.checkpoint import Checkpoint
from zoo.weights.migration.naming import as_in_the_file, named
from zoo.weights.migration.report import MigrationReport
from zoo.weights.transfer.changes import Changes


class Home(NamedTuple):
    """Weights from elsewhere by our names.

    Attributes:
        checkpoint: the weights.
        report: how they were recognised; None if they were not, and what does not fit is for others to tell.
        other: of which model they are, if that is none of those that were asked for.
    """

    checkpoint: Checkpoint
    report: MigrationReport | None = None
    other: ParsedSpec | None = None


def brought_home(
    checkpoint: Checkpoint,
    path: Path,
    specs: Sequence[ParsedSpec],
    intended: Changes,
    keymap: str | None,
    *,
    mapped: bool = True,
) -> Home:
    """Return weights from elsewhere by our names.

    They are those of the model as it is to be or, if it is changed, as it was; or as it was but for a part that is
    changed, so that a file of 10 classes comes into a model that had 1000 and is to have 5. What is behind the backbone
    and is changed, or to start anew, may be lacking, or be something else in the file.

    Args:
        checkpoint: what is in the file.
        path: the file.
        specs: that of the model as it is to be and, if it is another, as it was.
        intended: what is changed.
        keymap: the library whose names the file has; all are tried unless given.
        mapped: whether tensors may stay in the file.

    Raises:
        AlignmentError: it is an ONNX graph of none of these models.
        KeymapError: the names of another library come nearest, and do not fit.
        SeveralWeightsError: several parts of the file fit, or one beside other tensors.
        SeveralFitsError: it fits in several ways that are not the same.
    """
    failures: list[ZooError] = []
    unproven: Checkpoint | None = None
    for each in _candidates(checkpoint, path, specs, intended, keymap):
        try:
            tensors, report = named(checkpoint, each, path, keymap, mapped=mapped)
        except (AlignmentError, KeymapError, SeveralWeightsError, SizeBudgetError) as error:
            failures.append(error)
            continue
        if report.proven:
            return Home(tensors, report, None if each in specs else each)
        unproven = unproven or tensors
    behind = [part for part in (*kinds.PARTS, kinds.AUX) if part != "backbone" and part in intended.free]
    for each in specs if behind else ():
        with suppress(AlignmentError, KeymapError, SizeBudgetError, SpecError):  # what did not fit before is told
            tensors, report = named(checkpoint, each, path, keymap, mapped=mapped, anew=behind)
            if report.proven:
                return Home(tensors, report)
    unaligned = [each for each in failures[: len(specs)] if isinstance(each, AlignmentError)]
    if len(unaligned) > 1:
        changed = ", ".join(intended.changed.values())
        tried = [str(each.advising("")).removeprefix(f"{path}: ") for each in unaligned]
        raise AlignmentError(path, f"with the change ({changed}) it {tried[0]}. As the model was before, it {tried[1]}")
    if failures:
        raise failures[0]
    return Home(unproven or checkpoint)


def _candidates(
    checkpoint: Checkpoint, path: Path, specs: Sequence[ParsedSpec], intended: Changes, keymap: str | None
) -> Iterator[ParsedSpec]:
    yield from specs
    tried = [each.dump() for each in specs]
    for spec in reversed(specs):
        told = as_in_the_file(checkpoint, spec, path, keymap)
        after = told.dump() if told is not None else {}
        other = {kind for kind, part in after.items() if spec.dump().get(kind) != part}
        if told is not None and after not in tried and other <= {*intended.changed, *intended.fresh}:
            tried.append(after)
            yield told
