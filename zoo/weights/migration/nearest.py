"""nearest: the reading of names that comes nearest where a file fits a model in no way, and which spec it would fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from zoo.errors import ZooError
from zoo.spec import ParsedSpec, merge, parse
from zoo.weights.checkpoint import Checkpoint
from zoo.weights.keymaps.keymap import Table
from zoo.weights.keymaps.plan import Plan, make_plan, unlike
from zoo.weights.migration.parameters import classes_of, read_off
from zoo.weights.migration.unwrapping import Peeled, peelings
from zoo.weights.plan import patterns_of
from zoo.weights.rebuilding import Composed

Tensors = Mapping[str, torch.Tensor]
Tables = Sequence[tuple[tuple[str, ...], Table]]
"""Each table with the libraries that have it."""

_OUTLINE = frozenset({"unmatched", "shape", "missing", "unexpected"})
"""What may be wrong with a plan of which the rest still holds."""


_TRUNK = {"backbone", "neck"}
"""The parts without which a file is another model."""


@dataclass(frozen=True)
class Nearest:
    """One way to read the names of a file, though not all of it fits.

    Attributes:
        peeled: the names without what was taken off.
        given: the tensors by those names, without their values.
        wrong: how much does not fit.
        keymaps: the libraries whose names those are; none if they are ours.
        table: what says so.
        plan: what its rules do, as far as they get.
    """

    peeled: Peeled
    given: Tensors
    wrong: int
    keymaps: tuple[str, ...] = ()
    table: Table | None = None
    plan: Plan | None = None

    @property
    def outline(self) -> Plan | None:
        """What the rules make of what they know, whether the model has it or not; None if there is no such plan."""
        if self.plan is None or not {problem.fault for problem in self.plan.problems} <= _OUTLINE:
            return None
        if sum(len(step.given) for step in self.plan.steps) * 2 < len(self.given):
            return None
        made = dict.fromkeys(name for step in self.plan.steps for name in step.made)
        return replace(self.plan, names=tuple(made))

    @property
    def ours(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor by our name."""
        if self.plan is None:
            return {name: tuple(tensor.shape) for name, tensor in self.given.items()}
        return {n: s for step in self.plan.steps if step.given for n, s in zip(step.made, step.shapes, strict=True)}

    def lenient(self, expected: Tensors, checkpoint: Checkpoint, path: Path) -> str:
        """Return the call that loads all but what is behind the trunk; empty if more is wrong, or the call is long."""
        if self.outline is None or self.plan is None:
            return ""
        ours, used = self.ours, {key for step in self.plan.steps for key in step.given}
        lacking = self.lacking(expected)
        extra = [*(name for name in ours if name not in expected), *(key for key in self.given if key not in used)]
        options: list[tuple[str, object]]
        options = [(f"allow_{what}", patterns_of(n)) for what, n in (("missing", lacking), ("unexpected", extra)) if n]
        behind = not any(name.partition(".")[0] in _TRUNK for name in (*lacking, *extra))
        if not behind or not options or not all(patterns for _, patterns in options):
            return ""
        told = ", ".join(f"{option}={value!r}" for option, value in [*_asked(checkpoint), *options])
        return f"zoo.load_into(zoo.build(…), {str(path)!r}, {told}) loads the other {len(expected) - len(lacking)}"

    def lacking(self, expected: Tensors) -> list[str]:
        """Return the names of a model that this reading makes nothing for, or nothing of that shape."""
        ours = self.ours
        made = {name for step in self.plan.steps for name in step.made} if self.plan is not None else ours.keys()
        return [n for n, t in expected.items() if n not in made or (n in ours and ours[n] != tuple(t.shape))]

    def fits(self, expected: Tensors) -> bool:
        """Tell whether another model would be fitted by this reading."""
        if self.table is None:
            return not unlike(self.given, expected)
        return not make_plan(self.table.rules, self.given, "ours", expected).problems


def _asked(checkpoint: Checkpoint) -> list[tuple[str, object]]:
    """Return the argument that picks the same weights again."""
    wrapping = checkpoint.unwrapping
    if wrapping is None or not (wrapping.prefixes or len(wrapping.candidates) > 1):
        return []
    places = (wrapping.within, "".join(wrapping.prefixes).removesuffix("."))
    return [("within", ".".join(filter(None, places)))]


class Advice(NamedTuple):
    """What to do with a file that does not fit a model.

    Attributes:
        remedy: what to do.
        fresh: the parts without which it fits; empty if there are no such.
    """

    remedy: str
    fresh: Sequence[str] = ()


def tails(parts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Give what a file may lack of the parts of a model, the least first: its last parts, but never the first.

    >>> list(tails(["backbone", "neck", "head"]))
    [['head'], ['neck', 'head']]
    """
    yield from (parts[first:] for first in range(len(parts) - 1, 0, -1))


def anew_call(parts: Sequence[str], checkpoint: Checkpoint, path: Path) -> str:
    """Return the call that builds a model with these parts anew, and all the rest of a file."""
    options = [("weights", str(path)), *_asked(checkpoint), ("fresh", parts[0] if len(parts) == 1 else list(parts))]
    told = ", ".join(f"{option}={value!r}" for option, value in options)
    return f"zoo.build(…, {told}) takes the rest from it, with a new {' and a new '.join(parts)}"


def nearest(shapes: Tensors, expected: Tensors, tables: Tables, *, ours: bool) -> Nearest | None:
    """Return the reading of names that comes nearest to a model.

    Args:
        shapes: the tensors of the file, without their values.
        expected: those of the model.
        tables: what is known of the names of others.
        ours: whether the names may be ours as well; then names of which a table knows less than half are not near.
    """
    best: Nearest | None = None
    for peeled in peelings(shapes):
        given = {shown: shapes[name] for name, shown in peeled.names.items()}
        own = sum(name not in expected or given[name].shape != expected[name].shape for name in given)
        own += sum(name not in given for name in expected)
        if ours and (best is None or own < best.wrong):
            best = Nearest(peeled, given, own)
        for names, table in tables:
            plan = make_plan(table.rules, given, "ours", expected)
            unmatched = sum(problem.fault == "unmatched" for problem in plan.problems)
            if ours and 2 * unmatched > len(given):
                continue
            if best is None or len(plan.problems) < best.wrong:
                best = Nearest(peeled, given, len(plan.problems), names, table, plan)
    return best


Changes = dict[str, dict[str, Any]]


def changes_told(near: Nearest, parsed: ParsedSpec, expected: Tensors, checkpoint: Checkpoint, path: Path) -> Changes:
    """Return the changes to a spec with which a file fits it, read off the shapes; none if there are no such.

    Args:
        near: how its names are to be read.
        parsed: the checked spec.
        expected: the tensors of its model.
        checkpoint: what is in the file, which bounds what is composed for it.
        path: the file, for errors.
    """
    made, spec = near.ours, parsed.dump()
    shapes = {name: made[name] for name in (*expected, *made) if name in made}  # a file may have them in any order
    changes = dict(read_off(parsed, shapes) or {})
    classes = classes_of(spec, shapes, {name: tuple(tensor.shape) for name, tensor in expected.items()})
    changes |= {part: own for part, own in classes.items() if part not in changes}
    try:
        model = Composed.within(parse(merge(spec, changes)), checkpoint, path).model if changes else None
    except ZooError:
        return {}
    return changes if model is not None and near.fits(model.state_dict(keep_vars=True)) else {}


def remedy_of(changes: Changes, path: Path, lenient: str = "", *, libraries: bool = False) -> str:
    """Return what to do where a spec says something else than a file: the changes, and how to make them.

    Without changes that would do it is how to load the rest, ``lenient``, and how to find out what the file is; for a
    model of a library, ``libraries``, among those.

    >>> print(remedy_of({"head": {"num_classes": 5}}, Path("a.pth")))
    it fits with head.num_classes=5 in the spec: zoo.build(…, weights='a.pth', head={'num_classes': 5});
    zoo identify a.pth prints the whole call
    """
    identify = f"zoo identify {path}{' --libraries' if libraries else ''}"
    if not changes:
        return f"{lenient}{'; ' * bool(lenient)}{identify} tells what it can be of"
    told = ", ".join(f"{part}.{key}={value}" for part, own in changes.items() for key, value in own.items())
    how = ", ".join(f"{part}={own!r}" for part, own in changes.items())
    call = f"zoo.build(…, weights={str(path)!r}, {how})"
    return f"it fits with {told} in the spec: {call}; {identify} prints the whole call"
