"""Many conversions: what is done already is skipped, one bad file does not stop the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from registry import nearest
from zoo import kinds
from zoo.errors import UnknownNameError, WeightsError
from zoo.weights.conversion.advice import advising
from zoo.weights.conversion.convert import ConversionReport, convert
from zoo.weights.conversion.plan import Names, Places, prepare
from zoo.weights.transfer.changes import stated_parts


@dataclass(frozen=True)
class Outcome:
    """What became of one source.

    Attributes:
        source: the file.
        target: the file that was asked for.
        state: ``"converted"``, ``"skipped"`` if the target was there and held the same already, or ``"failed"``.
        report: of a conversion.
        error: why it failed, one line.
    """

    source: str
    target: str
    state: str
    report: ConversionReport | None = None
    error: str | None = None


@dataclass(frozen=True)
class BatchReport:
    """What became of many sources, in their order."""

    outcomes: tuple[Outcome, ...]

    @property
    def ok(self) -> bool:
        """True if none failed."""
        return not self.count("failed")

    def count(self, state: str) -> int:
        """Return how many ended so."""
        return sum(outcome.state == state for outcome in self.outcomes)

    def __str__(self) -> str:
        return ", ".join(f"{self.count(state)} {state}" for state in ("converted", "skipped", "failed"))


def convert_all(
    sources: Sequence[str | PathLike[str]],
    to: str,
    folder: str | PathLike[str] | None = None,
    *,
    force: bool = False,
    starting: Callable[[str, str], None] | None = None,
    **options: Any,
) -> BatchReport:
    """Convert many files to one format.

    A target that is there and holds what the source holds is skipped, so that an interrupted run can be repeated.

    Args:
        sources: the files.
        to: the format, ``"safetensors"``.
        folder: where the targets go; beside their sources unless given.
        force: whether targets that exist are written anew, whatever they hold.
        starting: told of each source and target before it is read.
        options: those of :func:`zoo.convert`.

    Raises:
        WeightsError: there is no such folder, two sources have one name, or there is no source; nothing was written.
        UnknownNameError: there is no such format.
    """
    if options.get("weights") is not None and len(sources) > 1:
        count = len(sources)
        raise WeightsError(options["weights"], f"cannot hold the tensors of {count} models; convert them one by one")
    pairs = list(_pairs([Path(source) for source in sources], to, None if folder is None else Path(folder)))
    found = []
    for source, target in pairs:
        if starting is not None:
            starting(str(source), str(target))
        found.append(_one(source, target, force, options))
    return BatchReport(tuple(found))


def _pairs(sources: list[Path], to: str, folder: Path | None) -> Iterator[tuple[Path, Path]]:
    if folder is not None and not folder.is_dir():
        raise WeightsError(folder, "there is no such folder; make it first")
    if to.removeprefix(".") not in kinds.formats:
        raise UnknownNameError("format", to, tuple(kinds.formats.names()), nearest(to, kinds.formats.names()))
    taken: dict[Path, Path] = {}
    for source in sources:
        stem = source.name.removesuffix(".index.json").removesuffix(".tar")
        stem = Path(stem).stem
        target = (source.parent if folder is None else folder) / f"{stem}.{to.removeprefix('.')}"
        other = taken.setdefault(target.resolve(), source)
        if other is not source:
            raise WeightsError(target, f"would be made of both {other} and {source}; convert one of them by itself")
        yield source, target


def _one(source: Path, target: Path, force: bool, options: dict[str, Any]) -> Outcome:
    try:
        if not force and _is_done(source, target, options):
            return Outcome(str(source), str(target), "skipped")
        report = convert(source, target, force=force, **options)
    except Exception as error:  # of whatever kind: the other files are still to be converted
        return Outcome(str(source), str(target), "failed", error=str(error).strip() or type(error).__name__)
    return Outcome(str(source), report.target, "converted", report)


def _is_done(source: Path, target: Path, options: dict[str, Any]) -> bool:
    stated = {name: options[name] for name in ("max_shard_size", "weights") if options.get(name) is not None}
    places = Places.checked(source, target, stated)
    if not any(place.is_file() for place in places.results):
        return False
    without = stated_parts(options.get("without", ()), "without")
    with advising(places, options):
        plan = prepare(
            places,
            spec=options.get("spec"),
            dtype=options.get("dtype"),
            allow_lossy=options.get("allow_lossy", False),
            names=Names(options.get("keymap"), options.get("to_keymap"), options.get("within"), without),
        )
    return plan.is_done()
