"""identify: which models a weights file can be of, told from its names and shapes, or from its graph."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from registry import RegistryError
from zoo import kinds
from zoo.builder import assemble
from zoo.errors import AlignmentError, KeymapError, SeveralWeightsError, ZooError
from zoo.spec import ParsedSpec, merge, parse
from zoo.weights.alignment.identifying import models_of_graph
from zoo.weights.alignment.matching import LEVELS
from zoo.weights.checkpoint import Checkpoint
from zoo.weights.keymaps.keymap import Keymap, Table
from zoo.weights.keymaps.plan import make_plan, unlike
from zoo.weights.migration.identification import Fit, Identification
from zoo.weights.migration.libraries import in_libraries
from zoo.weights.migration.parameters import classes_of, read_off
from zoo.weights.migration.recognise import unvalued
from zoo.weights.migration.report import Unwrapping
from zoo.weights.migration.unwrapping import Peeled, peelings
from zoo.weights.migration.ways import known_of_three, same_shapes
from zoo.weights.reading import format_name, read, told_by_graph
from zoo.weights.rebuilding import Composed
from zoo.weights.strictjson import brief

_MOST_TRIED = 6  # models that are composed for one way to read the names
_MOST_TOLD_APART = 6  # sets of weights in one file that are looked at
_MOST_PARTS = 40  # of a file that are tried by themselves
_DEEPEST_PART = 3  # "model.student.encoder"
_DEPTH = 10  # another number of classes or channels is what fine-tuning does; another depth is another network


def identify(path: str | PathLike[str], *, within: str | None = None, libraries: bool = False) -> Identification:
    """Tell which models a weights file can be of, from its names, shapes or graph alone: nothing is run.

    The names are tried as they are and without prefixes, as ours and as those of every keymap. What shapes tell of a
    model is read off them: the number of classes, the channels of the input, widths and depths. Of an ONNX file without
    our names the graph is laid beside those of the named models.

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
    models = dict(_models())
    try:
        checkpoint = read(path, within=within)
    except SeveralWeightsError as error:
        if within is not None:
            raise
        raise SeveralWeightsError(path, error.candidates, list(_told_apart(error, models, path))) from None
    state = checkpoint.state_dict()
    shapes = {name: unvalued(tensor) for name, tensor in state.items()}
    kind = format_name(path)
    about = (str(path), kind, len(state), checkpoint.unwrapping)
    if checkpoint.artifact is not None:
        spec = checkpoint.artifact.spec
        try:
            model = Composed.within(parse(spec), checkpoint, path).model
            differences = tuple(map(str, unlike(shapes, model.state_dict())))
        except ZooError as error:
            differences = (str(error).partition("\n")[0],)
        name, changes = _derived(spec, models)
        own = Fit(name, spec, changes, "", (), differences, f"zoo.load({str(path)!r})")
        return Identification(*about, (own,), ()) if own.fits else Identification(*about, (), (own,))
    readings = list(_readings(shapes, models))
    tried = _all_tried(readings, models, path, within)
    fits = _best([each for each in tried if each.fits])
    if told_by_graph(path, None) and not fits:
        fits = list(_of_graph(path, checkpoint, models))
    if libraries:
        fits += _theirs(shapes, path, within)
    if fits:
        return Identification(*about, tuple(fits), (), libraries=libraries)
    readings.sort(key=lambda reading: reading.unread)
    near = tried or [
        each for r in readings[:3] if 2 * r.unread < len(state) for each in _tried(r, models, path, within)
    ]
    nearest = sorted(near, key=lambda each: (len(each.differences), each.model == ""))
    parts = tuple(_parts(shapes, models, path, within, checkpoint.unwrapping))
    return Identification(*about, (), tuple(nearest[:3]), parts, libraries)


def _told_apart(error: SeveralWeightsError, models: Mapping[str, ParsedSpec], path: Path) -> Iterator[str]:
    """Give each set of weights, the first ones with what they can be of: for each the file is read anew."""
    for within in error.candidates[:_MOST_TOLD_APART]:
        state = read(path, within=within).state_dict()
        shapes = {name: unvalued(tensor) for name, tensor in state.items()}
        found = _fitting(shapes, models, path, within)[:1]
        yield f"{brief(within)} ({len(state)} tensors{''.join(f', {fit}' for fit in found)})"
    yield from map(brief, error.candidates[_MOST_TOLD_APART:])


def _parts(
    shapes: Mapping[str, torch.Tensor],
    models: Mapping[str, ParsedSpec],
    path: Path,
    within: str | None,
    unwrapping: Unwrapping | None,
) -> Iterator[Fit]:
    """Give the parts of a file that fit a model, by what their names begin with, the outermost ones."""
    waiting = [(within or "", shapes)]
    tried = 0
    while waiting:
        place, own = waiting.pop(0)
        for first in dict.fromkeys(name.partition(".")[0] for name in own if "." in name):
            part = {name.removeprefix(f"{first}."): each for name, each in own.items() if name.startswith(f"{first}.")}
            where = f"{place}.{first}" if place else first
            if not place and unwrapping is not None and first == unwrapping.within:
                where = f"{first}.{first}"  # the beginning of names is called as the place where they are
            found: list[Fit] = []
            if len(part) < len(own):  # otherwise it was tried without its beginning
                tried += 1
                if tried > _MOST_PARTS:
                    return
                found = _fitting(part, models, path, where)
            if found:
                yield replace(found[0], within=where)
            elif where.count(".") < _DEEPEST_PART:
                waiting.append((where, part))


def _fitting(
    shapes: Mapping[str, torch.Tensor], models: Mapping[str, ParsedSpec], path: Path, within: str | None
) -> list[Fit]:
    tried = _all_tried(list(_readings(shapes, models)), models, path, within)
    return _best([each for each in tried if each.fits])


def _all_tried(
    readings: Sequence[_Reading], models: Mapping[str, ParsedSpec], path: Path, within: str | None
) -> list[Fit]:
    return [each for reading in readings if not reading.unread for each in _tried(reading, models, path, within)]


def _of_graph(path: Path, checkpoint: Checkpoint, models: Mapping[str, ParsedSpec]) -> Iterator[Fit]:
    """Give the models whose graph an ONNX file has; one whose graph cannot be followed is of none."""
    try:
        found = models_of_graph(path, checkpoint, models)
    except AlignmentError:
        return
    for name, spec, level in found:
        changes = _changes(models[name].dump(), spec) or {}
        call = _call(path, name, spec, changes, None)
        yield Fit(name, spec, changes, "", (), (), call, graph=LEVELS[level].told)


def _theirs(shapes: Mapping[str, torch.Tensor], path: Path, within: str | None) -> Iterator[Fit]:
    variants = [(each, {shown: shapes[n] for n, shown in each.names.items()}) for each in peelings(shapes)]
    for found in in_libraries(variants):
        library = found.name.partition(":")[0]
        changes = {"model": found.changes} if found.changes else {}
        call = found.call if found.spec is None else _load(path, found.spec, within)
        yield Fit(found.name, found.spec or {}, changes, library, found.peeled.prefixes, (), call)


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
    if not name or not changes:
        return _load(path, name or _short(spec), within)
    shown = dict(changes)
    told = ""
    if "aux" in shown:  # all heads have one number of classes, or nearly always
        told = f"num_classes={spec['head']['num_classes']}, "
        shown = {part: own for part, own in shown.items() if part not in ("aux", "head")}
    told = (told + ", ".join(f"{part}={dict(own)!r}" for part, own in shown.items())).removesuffix(", ")
    where = f", within={within!r}" if within is not None else ""
    return f"zoo.build({name!r}, weights={str(path)!r}{where}, {told})"


def _load(path: Path, spec: str | Mapping[str, Any], within: str | None) -> str:
    where = f", within={within!r}" if within is not None else ""
    return f"zoo.load({str(path)!r}, spec={spec!r}{where})"


def _short(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a spec without what is so by default."""
    shown = {kind: dict(part) for kind, part in spec.items() if isinstance(part, Mapping)}
    full = parse(spec).dump()
    for kind, part in list(shown.items()):
        for key in [each for each in part if each != "type"]:
            fewer = {**shown, kind: {name: value for name, value in shown[kind].items() if name != key}}
            with suppress(ZooError):  # it has no default
                shown = fewer if parse(fewer).dump() == full else shown
        if not shown[kind]:
            del shown[kind]
    return shown if parse(shown).dump() == full else dict(spec)


def _derived(spec: Mapping[str, Any], models: Mapping[str, ParsedSpec]) -> tuple[str, dict[str, dict[str, Any]]]:
    """Return the named model that a spec is of, or comes of with the fewest changes, and those; of no parts no name."""
    found: tuple[str, dict[str, dict[str, Any]]] | None = None
    for name, parsed in models.items():
        changes = _changes(parsed.dump(), spec)
        if changes is not None and (found is None or _extent(changes) < _extent(found[1])):
            found = name, changes
    return found or ("", {})


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, Any]] | None:
    """Return what is otherwise in a spec than in another of the same components, by part; None if they are others."""
    changes: dict[str, dict[str, Any]] = {}
    for kind in dict.fromkeys([*before, *after]):
        old, new = before.get(kind) or {}, after.get(kind) or {}
        if not isinstance(new, Mapping) or old.get("type") != new.get("type") or bool(old) != bool(new):
            return None
        other = {key: value for key, value in new.items() if old.get(key) != value}
        if kind == "aux":
            other = {name: _within(old.get(name) or {}, value) for name, value in other.items()}
        if other:
            changes[kind] = other
    return changes


def _within(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is otherwise in an auxiliary head, in its head and beside it."""
    return {
        key: _within(before.get(key) or {}, value) if isinstance(value, Mapping) else value
        for key, value in after.items()
        if before.get(key) != value
    }
