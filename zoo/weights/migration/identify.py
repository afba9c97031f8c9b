"""identify: which models a weights file can be of, told from its names and shapes; no value is read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from registry import RegistryError
from zoo import kinds
from zoo.builder import assemble
from zoo.errors import KeymapError, ZooError
from zoo.messages import printable, some
from zoo.spec import ParsedSpec, merge, parse
from zoo.weights.keymaps.keymap import Keymap, Table
from zoo.weights.keymaps.plan import make_plan, unlike
from zoo.weights.migration.libraries import in_libraries
from zoo.weights.migration.parameters import classes_of, read_off
from zoo.weights.migration.recognise import known_of_three, same_shapes, unvalued
from zoo.weights.migration.report import Unwrapping
from zoo.weights.migration.unwrapping import Peeled, peelings
from zoo.weights.reading import read
from zoo.weights.rebuilding import Composed

_MOST_TRIED = 6  # models that are composed for one way to read the names
_DEPTH = 10  # another number of classes or channels is what fine-tuning does; another depth is another network


@dataclass(frozen=True)
class Fit:
    """One model that a file may be of.

    Attributes:
        model: the name of a model; empty if none has such components.
        spec: its spec, with the changes.
        changes: what is otherwise than in the named model, by part: ``{"head": {"num_classes": 10}}``.
        keymap: the library whose names the file has; empty if they are ours.
        prefixes: what is before the names.
        differences: what does not fit; none for a fit.
        call: how to have the model.
    """

    model: str
    spec: dict[str, Any]
    changes: dict[str, dict[str, Any]]
    keymap: str
    prefixes: tuple[str, ...]
    differences: tuple[str, ...]
    call: str

    @property
    def fits(self) -> bool:
        """Whether every tensor has its place, with its shape."""
        return not self.differences

    @property
    def changed(self) -> str:
        """The changes as text: ``head.num_classes=10``."""
        return ", ".join(f"{part}.{key}={value}" for part, own in self.changes.items() for key, value in own.items())


@dataclass(frozen=True)
class Identification:
    """What a weights file can be.

    Attributes:
        file: the file.
        format: its format, ``"pt"``.
        tensors: how many tensors there are.
        unwrapping: where in the file they were, if it holds more.
        fits: the models that it fits, those with the fewest changes first.
        nearest: where it fits none, those that come nearest.
    """

    file: str
    format: str
    tensors: int
    unwrapping: Unwrapping | None
    fits: tuple[Fit, ...]
    nearest: tuple[Fit, ...]

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    def __str__(self) -> str:
        return "\n".join(printable(line, 2000) for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.file}: {self.format}, {self.tensors} tensors"
        if self.unwrapping is not None and self.unwrapping.within:
            yield f"weights in {self.unwrapping.within!r}; beside them {some(self.unwrapping.beside) or 'nothing'}"
        if self.fits:
            rows = [(f.model or "no name", f.changed or "-", f.keymap or "zoo", f.call) for f in self.fits]
            yield from _columns(("model", "changed", "names of", "to have it"), rows)
            return
        if self.format == "onnx":
            yield f"names tell nothing of a graph from elsewhere; zoo.load({self.file!r}, spec=…) compares graphs"
            return
        yield "fits no model that is installed" + ("; nearest are" if self.nearest else "")
        for near in self.nearest:
            names = f"in the names of {near.keymap}" if near.keymap else "in our names"
            yield f"  {near.model or 'a model without a name'} {names}: {some(near.differences, 3)}"


def identify(path: str | PathLike[str], *, within: str | None = None, libraries: bool = False) -> Identification:
    """Tell which models a weights file can be of, from its names and shapes alone: no value is read.

    The names are tried as they are and without prefixes, as ours and as those of every keymap. What shapes tell of a
    model is read off them: the number of classes, the channels of the input, widths and depths.

    Args:
        path: the file.
        within: which weights, where it holds several, as for :func:`zoo.load`.
        libraries: whether the models of timm and torchvision are tried as well, on the meta device. That takes many
            seconds; a file that only they know loads there, and their backbones are here as ``timm:…``.

    Returns:
        The models that it fits, each with the call that loads it; or those that come nearest, with what differs.

    Raises:
        SeveralWeightsError: the file holds several sets of weights.
        FileFormatError: the file is missing, damaged or of another kind.
        UnsafeFileError: it is a pickle that holds more than a checkpoint does.

    >>> import torch, zoo
    >>> torch.save({"state_dict": zoo.build("lenet", num_classes=62).state_dict(), "epoch": 3}, "run.pth")
    >>> found = identify("run.pth")
    >>> found.fits[0].call
    "zoo.build('lenet', weights='run.pth', head={'num_classes': 62})"
    """
    path = Path(path)
    checkpoint = read(path, within=within)
    state = checkpoint.state_dict()
    shapes = {name: unvalued(tensor) for name, tensor in state.items()}
    kind = path.name.removesuffix(".index.json").rpartition(".")[2]
    if checkpoint.artifact is not None:
        spec = checkpoint.artifact.spec
        try:
            model = Composed.within(parse(spec), checkpoint, path).model
            differences = tuple(map(str, unlike(shapes, model.state_dict())))
        except ZooError as error:
            differences = (str(error).partition("\n")[0],)
        own = Fit(_named(spec), spec, {}, "", (), differences, f"zoo.load({str(path)!r})")
        about = (str(path), kind, len(state), checkpoint.unwrapping)
        return Identification(*about, (own,), ()) if own.fits else Identification(*about, (), (own,))
    models = dict(_models())
    readings = list(_readings(shapes, models))
    tried = [each for reading in readings if not reading.unread for each in _tried(reading, models, path, within)]
    fits = _best([each for each in tried if each.fits])
    if libraries:
        fits += _theirs(shapes)
    nearest: list[Fit] = []
    if not fits:
        readings.sort(key=lambda reading: reading.unread)
        near = tried or [
            each for r in readings[:3] if 2 * r.unread < len(state) for each in _tried(r, models, path, within)
        ]
        nearest = sorted(near, key=lambda each: (len(each.differences), each.model == ""))
    return Identification(str(path), kind, len(state), checkpoint.unwrapping, tuple(fits), tuple(nearest[:3]))


def _theirs(shapes: Mapping[str, torch.Tensor]) -> Iterator[Fit]:
    variants = [(each, {shown: shapes[n] for n, shown in each.names.items()}) for each in peelings(shapes)]
    for found in in_libraries(variants):
        library = found.name.partition(":")[0]
        changes = {"model": found.changes} if found.changes else {}
        yield Fit(found.name, {}, changes, library, found.peeled.prefixes, (), found.call)


@dataclass(frozen=True)
class _Reading:
    """The tensors of a file under what would be our names, if they were of such a composition."""

    peeled: Peeled
    given: Mapping[str, torch.Tensor]
    keymaps: tuple[str, ...]
    table: Table | None
    ours: Mapping[str, torch.Tensor]
    unread: int

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in self.ours.items()}

    def differences(self, expected: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
        if self.table is not None and self.unread:
            return tuple(map(str, make_plan(self.table.rules, self.given, "ours", expected).problems))
        if same_shapes(self.ours, expected):
            return ()
        filling = [rule for rule in self.table.rules if rule.fills] if self.table is not None else []
        return tuple(
            str(problem)
            for problem in unlike(self.ours, expected)
            if not (problem.fault == "missing" and any(rule.match("ours", problem.key) for rule in filling))
        )


def _models() -> Iterator[tuple[str, ParsedSpec]]:
    for name in kinds.models.names():
        try:
            yield name, parse(kinds.models.get(name))
        except (RegistryError, ZooError):  # a broken plugin harms only who asks for it
            continue


def _readings(shapes: Mapping[str, torch.Tensor], models: Mapping[str, ParsedSpec]) -> Iterator[_Reading]:
    tables = list(_tables())
    parts = {f"{part.kind}." for parsed in models.values() for part in parsed.parts}
    for peeled in peelings(shapes):
        given = {shown: shapes[name] for name, shown in peeled.names.items()}
        strange = sum(not name.startswith(tuple(parts)) for name in given)
        yield _Reading(peeled, given, (), None, given, strange)
        for names, table in tables:
            if not known_of_three(table, given):
                continue
            plan = make_plan(table.rules, given, "ours")
            made = {name: shape for step in plan.steps for name, shape in zip(step.made, step.shapes, strict=True)}
            ours = {name: torch.empty(shape, device="meta") for name, shape in made.items()}
            yield _Reading(peeled, given, names, table, ours, len(plan.problems))


def _tables() -> Iterator[tuple[tuple[str, ...], Table]]:
    """Give each table of each keymap with the libraries that have it."""
    found: list[tuple[tuple[str, ...], Table]] = []
    for name in kinds.keymaps.names():
        try:
            known = kinds.keymaps.get(name)
        except RegistryError:
            continue
        for table in known.tables if isinstance(known, Keymap) else ():
            same = next((i for i, (_, other) in enumerate(found) if other == table), None)
            if same is None:
                found.append(((name,), table))
            else:
                found[same] = ((*found[same][0], name), table)
    return iter(found)


def _tried(reading: _Reading, models: Mapping[str, ParsedSpec], path: Path, within: str | None) -> Iterator[Fit]:
    """Give the models that are composed as a reading says, with the parameters that its shapes tell."""
    bases = [(name, parsed) for name, parsed in models.items() if _can_be(reading, parsed)]
    if not bases and reading.table is not None:
        bare = {kind: {"type": name} for kind, name in reading.table.composition.items() if name is not None}
        for place, value in reading.table.parameters.items():
            kind, _, parameter = place.partition(".")
            bare[kind] = {**bare[kind], parameter: value}
        try:
            bases = [("", parse(bare))]
        except ZooError:
            return
    candidates: dict[str, tuple[str, dict[str, dict[str, Any]], dict[str, Any]]] = {}
    shapes = reading.shapes
    possible = [(name, parsed, found) for name, parsed in bases if (found := read_off(parsed, shapes)) is not None]
    for name, parsed, changes in sorted(possible, key=lambda each: _extent(each[2])):
        spec = merge(parsed.dump(), changes)
        candidates.setdefault(json.dumps(spec, sort_keys=True), (name, changes, spec))
    least: int | None = None
    for name, told, planned in list(candidates.values())[:_MOST_TRIED]:
        if least is not None and _extent(told) >= least + _DEPTH:
            return
        tried = _composed(reading, told, planned)
        if tried is None:  # what was read off fits no such model
            continue
        differences, changes, spec = tried
        keymap = " and ".join(reading.keymaps)
        least = _extent(changes) if not differences and least is None else least
        call = _call(path, name, spec, changes, within)
        yield Fit(name, spec, changes, keymap, reading.peeled.prefixes, differences, call)


def _composed(
    reading: _Reading, changes: dict[str, dict[str, Any]], spec: dict[str, Any]
) -> tuple[tuple[str, ...], dict[str, dict[str, Any]], dict[str, Any]] | None:
    """Compose a model, once more if its heads differ by their number of classes; return what still differs."""
    try:
        expected = assemble(parse(spec), "meta", initialise=False).state_dict()
        differences = reading.differences(expected)
        classes = classes_of(spec, reading.shapes, {n: tuple(t.shape) for n, t in expected.items()})
        if differences and classes:
            other = merge(spec, classes)
            again = reading.differences(assemble(parse(other), "meta", initialise=False).state_dict())
            if len(again) < len(differences):
                return again, {**changes, **classes}, other
    except ZooError:
        return None
    return differences, changes, spec


def _can_be(reading: _Reading, parsed: ParsedSpec) -> bool:
    if reading.table is not None:
        return any(_table_of(keymap, parsed) == reading.table for keymap in reading.keymaps)
    there = {name.partition(".")[0] for name in reading.given}
    return there <= {"aux", *(part.kind for part in parsed.parts)} and {"backbone"} <= there


def _table_of(keymap: str, parsed: ParsedSpec) -> Table | None:
    try:
        return kinds.keymaps.get(keymap).table_for(parsed)  # type: ignore[no-any-return]
    except KeymapError:
        return None


def _extent(changes: Mapping[str, Mapping[str, Any]]) -> int:
    return sum(1 if part in ("head", "input", "aux") else _DEPTH for part, own in changes.items() for _ in own)


def _best(fits: Sequence[Fit]) -> list[Fit]:
    found: dict[str, Fit] = {}
    for each in sorted(fits, key=lambda fit: (_extent(fit.changes), fit.model == "")):
        found.setdefault(json.dumps(each.spec, sort_keys=True), each)
    least = min((_extent(each.changes) for each in found.values()), default=0)
    return [each for each in found.values() if _extent(each.changes) < least + _DEPTH]


def _call(
    path: Path, name: str, spec: Mapping[str, Any], changes: Mapping[str, Mapping[str, Any]], within: str | None
) -> str:
    where = f", within={within!r}" if within is not None else ""
    if not name:
        return f"zoo.load({str(path)!r}, spec={dict(spec)!r}{where})"
    if not changes:
        return f"zoo.load({str(path)!r}, spec={name!r}{where})"
    if where:
        return f"zoo.load({str(path)!r}, spec=zoo.normalise({dict(spec)!r}){where})"
    shown = dict(changes)
    told = ""
    if "aux" in shown:  # all heads have one number of classes, or nearly always
        told = f"num_classes={spec['head']['num_classes']}, "
        shown = {part: own for part, own in shown.items() if part not in ("aux", "head")}
    told = (told + ", ".join(f"{part}={dict(own)!r}" for part, own in shown.items())).removesuffix(", ")
    return f"zoo.build({name!r}, weights={str(path)!r}, {told})"


def _named(spec: Mapping[str, Any]) -> str:
    return next((name for name, parsed in _models() if parsed.dump() == spec), "")


def _columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    for row in (header, *rows):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
