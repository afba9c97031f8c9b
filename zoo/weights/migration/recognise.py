"""Comparison: find the one way in which the tensors of a file from elsewhere are those of a model, or say why not."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from registry import RegistryError, canonical
from zoo import kinds
from zoo.errors import KeymapError, SeveralFitsError, SeveralWeightsError, ZooError
from zoo.messages import some
from zoo.model import Model
from zoo.spec import ParsedSpec, merge, parse
from zoo.weights.checkpoint import Checkpoint
from zoo.weights.keymaps.library import library_tables
from zoo.weights.keymaps.plan import Plan, apply_plan, told
from zoo.weights.keymaps.table import Table
from zoo.weights.migration.nearest import Advice, Nearest, Tables, anew_call, changes_told, nearest, remedy_of, tails
from zoo.weights.migration.report import MigrationReport, Proof, Renaming, Unwrapping, precision_of
from zoo.weights.migration.unwrapping import Peeled, peelings
from zoo.weights.migration.ways import STRANGE, Way, distinct, fitting
from zoo.weights.reading import format_name
from zoo.weights.rebuilding import Composed
from zoo.weights.transfer.transfer import part_of

_UNTOLD = (
    "names and shapes do not tell strides, activations, constants of norms or how images are prepared; the spec says "
    "those, and nobody has compared outputs"
)


@dataclass(frozen=True)
class Comparison:
    """A file from elsewhere beside a model that it may be of.

    Attributes:
        checkpoint: what is in the file.
        parsed: the checked spec of the model.
        model: the model; one on the meta device will do.
        path: the file, for errors.
        keymap: the library whose names the file has; unless given, ours are tried and those of every keymap.
    """

    checkpoint: Checkpoint
    parsed: ParsedSpec
    model: Model
    path: Path
    keymap: str | None = None

    def recognised(self, anew: Collection[str] = ()) -> tuple[Checkpoint, MigrationReport]:
        """Return the tensors of the file under the names that the model has for them, and the account of it.

        Accepted is only what fits one to one: each tensor of the file becomes one of the model, none is left over, none
        is lacking, and every shape agrees.

        Args:
            anew: parts of the model that take nothing from the file. What it has for them is left out, and what stands
                apart from all that is taken.

        Returns:
            The checkpoint. Where nothing fits and our names come nearest, it has those, and the account proves nothing:
            what does not fit is then told by who puts it into the model.

        Raises:
            KeymapError: the names of another library come nearest, and do not fit; or the keymap cannot be for this
                model.
            SeveralFitsError: it fits in several ways that are not the same.
            SeveralWeightsError: several parts of the file fit, or one beside other tensors.
            UnknownNameError: no keymap has this name.
        """
        tables, untried = self._tables(anew)
        ways = self._ways(tables, anew)
        if len(ways) > 1:
            raise SeveralFitsError(self.path, [str(way) for way in ways])
        if ways:
            return _renamed(ways[0], self.checkpoint, self._state, self.parsed, self.path, untried, anew)
        _suggest_parts(self._shapes, self._expected, tables, self.path, ours=self.keymap is None, anew=anew)
        near = self._nearest(tables)
        if near is not None and near.plan is not None:
            names = " and ".join(near.keymaps)
            reason = f"these are not the tensors of such a model in the names of {names}; is the spec theirs?"
            problems = near.plan.problems
            raise KeymapError(names, f"{reason}\n  {told(problems)}", problems, self.path, *self._advice(near))
        found = _peeled(self.checkpoint, near.peeled) if near is not None else self.checkpoint
        return found, _report(found, self.parsed, self.path, len(self._state))

    def outlined(self) -> Checkpoint:
        """Return the tensors of a file that does not fit by the names that the model has, as far as can be told.

        What the nearest reading does not know keeps its name, and shapes are those of the file: who compares them with
        the model sees what is really different.

        Raises:
            KeymapError: the keymap cannot be for this model.
        """
        near = self._nearest()
        if near is None:
            return self.checkpoint
        if near.plan is None:
            return _peeled(self.checkpoint, near.peeled)
        if near.outline is None:
            return self.checkpoint
        given = {shown: self._state[name] for name, shown in near.peeled.names.items()}
        translated, wrong = apply_plan(near.outline, given)
        used = {key for step in near.outline.steps for key in step.given} - {problem.key for problem in wrong}
        rest = {name: tensor for name, tensor in given.items() if name not in used and name not in translated}
        return Checkpoint({**translated, **rest}, unwrapping=_unwrapped(self.checkpoint, near.peeled))

    def changes(self) -> dict[str, dict[str, Any]]:
        """Return the changes to the spec with which the file fits, read off the shapes; none if there are no such."""
        near = self._nearest()
        return {} if near is None else self._changes(near)

    def advice(self) -> Advice:
        """Return what to do with a file that does not fit; what is advised was tried."""
        return self._advice(self._nearest())

    @cached_property
    def _state(self) -> dict[str, torch.Tensor]:
        return self.checkpoint.state_dict()

    @cached_property
    def _shapes(self) -> dict[str, torch.Tensor]:
        return {name: unvalued(tensor) for name, tensor in self._state.items()}

    @cached_property
    def _expected(self) -> dict[str, torch.Tensor]:
        return self.model.state_dict(keep_vars=True)

    def _tables(self, anew: Collection[str] = ()) -> tuple[Tables, tuple[str, ...]]:
        return _tables(self.parsed, self.keymap, self.path, _besides(self._expected, anew))

    def _ways(self, tables: Tables, anew: Collection[str]) -> list[Way]:
        return distinct(fitting(self._shapes, self._expected, tables, ours=self.keymap is None, anew=anew))

    def _nearest(self, tables: Tables | None = None) -> Nearest | None:
        known = self._tables()[0] if tables is None else tables
        return nearest(self._shapes, self._expected, known, ours=self.keymap is None)

    def _changes(self, near: Nearest) -> dict[str, dict[str, Any]]:
        return changes_told(near, self.parsed, self._expected, self.checkpoint, self.path)

    def _advice(self, near: Nearest | None) -> Advice:
        path, expected = self.path, self._expected
        changes = {} if near is None else self._changes(near)
        if changes:
            return Advice(self._remedy(changes))
        lenient = near.lenient(expected, self.checkpoint, path) if near is not None else ""
        if near is not None and lenient and not near.lacking(expected):
            return Advice(self._remedy({}, lenient))
        if whole := self._pooled():
            return Advice(whole)
        spec, holding = self.parsed.dump(), {part_of(name) for name in expected}
        for anew in tails([kind for kind in kinds.SECTIONS if spec.get(kind)]):
            if anew[0] in holding and len(self._ways(self._tables(anew)[0], anew)) == 1:
                return Advice(self._remedy({}, anew_call(anew, self.checkpoint, path)), anew)
        return Advice(self._remedy({}, lenient))

    def _remedy(self, changes: dict[str, dict[str, Any]], lenient: str = "") -> str:
        return remedy_of(changes, self.path, lenient, libraries=self.parsed.parts[0].entry.namespace != "")

    def _pooled(self) -> str:
        """Return what to do if the head is the classifier of a library that the backbone can go on to, or nothing."""
        parts = self.parsed.parts
        if parts[0].arguments.json.get("pooled") is not False or parts[-1].kind != "head":
            return ""
        between = [part.kind for part in parts[1:-1]]
        changes = {"backbone": {"pooled": True}, **dict.fromkeys(between)}
        try:
            other = parse(merge(self.parsed.dump(), changes))
            model = Composed.within(other, self.checkpoint, self.path).model
            beside = Comparison(self.checkpoint, other, model, self.path, self.keymap)
            if not beside._ways(beside._tables()[0], ()):
                return ""
        except ZooError:
            return ""
        told = " and without ".join(("backbone.pooled=True", *between))
        without = "".join(f", {kind}=None" for kind in between)
        call = f"zoo.build(…, weights={str(self.path)!r}, backbone={{'pooled': True}}{without})"
        return f"it fits with {told} in the spec: {call}"


def _besides(expected: Mapping[str, torch.Tensor], anew: Collection[str]) -> Collection[str]:
    """Return the parts that may be any where some start anew: those, and what holds no tensors."""
    empty = (kind for kind in kinds.SECTIONS if not any(name.startswith(f"{kind}.") for name in expected))
    return {*anew, *empty} if anew else ()


def unwrapped(checkpoint: Checkpoint, expected: Mapping[str, torch.Tensor]) -> Checkpoint:
    """Return a checkpoint without what was wrapped around its names, if more of them are then those of a module.

    Args:
        checkpoint: what is in a file.
        expected: the tensors of the module.
    """
    ways = list(peelings(checkpoint.state_dict()))
    best = max(ways, key=lambda peeled: sum(shown in expected for shown in peeled.names.values()))
    return _peeled(checkpoint, best) if best.prefixes else checkpoint


def _peeled(checkpoint: Checkpoint, peeled: Peeled) -> Checkpoint:
    shown = peeled.names
    tensors = {shown[name]: tensor for name, tensor in checkpoint.tensors.items() if name in shown}
    aliases = {shown[alias]: shown[first] for alias, first in checkpoint.aliases.items()}
    order = tuple(shown[name] for name in checkpoint.order if name in shown)
    return Checkpoint(tensors, aliases, order=order, unwrapping=_unwrapped(checkpoint, peeled))


def unvalued(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor without its values, so that what is done to its shape can be tried; an odd one as it is."""
    plain = tensor.layout == torch.strided and not (tensor.is_nested or tensor.is_quantized)
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta") if plain else tensor


def _tables(
    parsed: ParsedSpec, keymap: str | None, path: Path, anew: Collection[str] = ()
) -> tuple[Tables, tuple[str, ...]]:
    """Return the tables for a model, those that say the same once, and which keymaps could not be asked.

    With parts that start anew these are the tables for any model that is so without them.
    """
    if keymap is not None:
        try:
            speaking = _speaking(kinds.keymaps.get(keymap), parsed, anew)
            others = [table for name, table in library_tables(parsed)[1:] if canonical(name) == canonical(keymap)]
            return [((keymap,), table) for table in (*speaking, *others)], ()
        except KeymapError as error:
            raise KeymapError(error.keymap, error.reason, error.problems, path) from error
    found: list[tuple[tuple[str, ...], Table]] = []
    untried = []
    try:
        of_library = library_tables(parsed)
    except KeymapError as error:  # its library harms only who needs its names
        untried.append(f"the names of {error.keymap} could not be tried: {error.reason}")
    else:
        # the keymap of the library, if there is one, has the first of them
        own = [each for n, each in enumerate(of_library) if n or each[0] not in kinds.keymaps]
        found += [((name,), table) for name, table in own]
    for name in kinds.keymaps.names():
        tables: Sequence[Table] = ()
        try:
            tables = _speaking(kinds.keymaps.get(name), parsed, anew)
        except RegistryError as error:  # a broken plugin harms only who asks for it
            untried.append(f"keymap {name!r} could not be tried: {error}")
        except KeymapError:
            continue
        for table in tables:
            same = next((i for i, (_, other) in enumerate(found) if other.rules == table.rules), None)
            if same is None:
                found.append(((name,), table))
            elif name not in found[same][0]:
                found[same] = ((*found[same][0], name), table)
    return found, tuple(untried)


def _speaking(keymap: Any, parsed: ParsedSpec, anew: Collection[str]) -> Sequence[Table]:
    alike = [table for table in keymap.tables if table.speaks_of(parsed, anew)] if anew else []
    return alike or [keymap.table_for(parsed)]


def _renamed(
    way: Way,
    checkpoint: Checkpoint,
    state: Mapping[str, Any],
    parsed: ParsedSpec,
    path: Path,
    untried: Sequence[str],
    anew: Collection[str],
) -> tuple[Checkpoint, MigrationReport]:
    unwrapping = _unwrapped(checkpoint, way.peeled)
    report = replace(_report(checkpoint, parsed, path, len(state)), unwrapping=unwrapping)
    left_out = (unwrapping is not None and unwrapping.left_out) or any(not s.made or not s.given for s in _steps(way))
    besides = ", but for those told above" if left_out else ""
    claim = (
        f"each tensor of the file is one of the model's, none is left over or lacking{besides}, and every shape agrees"
    )
    if anew:
        claim += f"; nothing is taken for the {' and the '.join(anew)}"
        untried = (*untried, *_apart(way.peeled))
    report = replace(report, proofs=(Proof(claim),), uncertain=(_UNTOLD, *untried))
    shown = way.peeled.names
    if way.plan is None:
        return _peeled(checkpoint, way.peeled), report
    translated, wrong = apply_plan(way.plan, {shown[name]: t for name, t in state.items() if name in shown})
    keymap = " and ".join(way.keymaps)
    if wrong:
        raise KeymapError(keymap, f"what the rules say is not so:\n  {told(wrong)}", wrong, path)
    return (
        Checkpoint(translated, unwrapping=unwrapping),
        replace(report, renaming=_renaming(keymap, way.plan)),
    )


def _apart(peeled: Peeled) -> Iterator[str]:
    """Tell of the tensors that nobody knows and that stand apart from those that are taken."""
    names = [each.removesuffix(f" ({STRANGE})") for each in peeled.left_out if each.endswith(f" ({STRANGE})")]
    if names:
        yield f"whether theirs computes with {some(names)} before it comes to what was taken, names do not tell"


def _steps(way: Way) -> Sequence[Any]:
    return way.plan.steps if way.plan is not None else ()


def _renaming(keymap: str, plan: Plan) -> Renaming:
    used = [step for step in plan.steps if step.given and step.made]
    converted = sum(type(step.rule).__name__ != "Rename" or bool(getattr(step.rule, "layout", ())) for step in used)
    return Renaming(
        keymap,
        renamed=len(used) - converted,
        converted=converted,
        made=tuple(name for step in plan.steps if not step.given for name in step.made),
        left_out=tuple(
            f"{key} ({getattr(step.rule, 'why', '')})" for step in plan.steps if not step.made for key in step.given
        ),
    )


def _unwrapped(checkpoint: Checkpoint, peeled: Peeled) -> Unwrapping | None:
    before = checkpoint.unwrapping
    if before is None and not peeled.prefixes and not peeled.left_out:
        return None
    before = before or Unwrapping()
    return replace(
        before,
        prefixes=(*before.prefixes, *peeled.prefixes),
        left_out=(*before.left_out, *peeled.left_out),
    )


def _report(checkpoint: Checkpoint, parsed: ParsedSpec, path: Path, tensors: int) -> MigrationReport:
    target = " → ".join(part.type for part in parsed.parts)
    precision = precision_of(checkpoint.tensors.values())
    name = format_name(path)
    return MigrationReport(str(path), name, tensors, target, checkpoint.unwrapping, precision=precision)


def _suggest_parts(
    shapes: Mapping[str, torch.Tensor],
    expected: Mapping[str, torch.Tensor],
    tables: Tables,
    path: Path,
    *,
    ours: bool,
    anew: Collection[str],
) -> None:
    """Refuse, with what to pick, a file of which a part would fit."""
    for peeled in peelings(shapes):
        firsts = list(dict.fromkeys(name.partition(".")[0] for name in peeled.names.values() if "." in name))
        found = []
        for first in firsts if len(firsts) <= 20 else ():
            part = {
                shown.removeprefix(f"{first}."): shapes[name]
                for name, shown in peeled.names.items()
                if shown.startswith(f"{first}.")
            }
            if (
                len(part) < len(shapes)
                and next(fitting(part, expected, tables, ours=ours, anew=anew), None) is not None
            ):
                found.append(("".join((*peeled.prefixes, first)), len(part)))
        if found:
            beside = len(shapes) - sum(count for _, count in found)
            more = [f"{beside} other tensor{'s' if beside > 1 else ''}"] if beside else []
            described = [f"{place!r} ({count} tensors, the whole model)" for place, count in found]
            raise SeveralWeightsError(path, [place for place, _ in found], described + more)
