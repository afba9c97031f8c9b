"""Ways: in which ways the tensors of a file fit a model one to one, by our names or those of a library."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from zoo.held import is_lazy
from zoo.weights.keymaps.keymap import Table
from zoo.weights.keymaps.plan import Plan, make_plan
from zoo.weights.migration.nearest import Tables
from zoo.weights.migration.unwrapping import Peeled, peelings
from zoo.weights.transfer.transfer import part_of

STRANGE = "no name that is known"
"""What is told of a tensor that stands apart from all that is taken from a file."""

_UNKNOWN = frozenset({""})


@dataclass(frozen=True)
class Way:
    """One way to take the tensors of a file for those of a model.

    Attributes:
        peeled: the names without what was taken off.
        keymaps: the libraries whose names those are; none if they are ours.
        plan: what the keymap does; None if the names are ours.
    """

    peeled: Peeled
    keymaps: tuple[str, ...] = ()
    plan: Plan | None = None

    def assignment(self) -> frozenset[tuple[Any, ...]]:
        """Which tensor of the file becomes which of the model, for telling whether two ways are one."""
        if self.plan is None:
            return frozenset(((name,), (shown,), "()") for name, shown in self.peeled.names.items())
        original = {shown: name for name, shown in self.peeled.names.items()}
        return frozenset(
            (tuple(original[key] for key in step.given), step.made, repr(getattr(step.rule, "layout", ())))
            for step in self.plan.steps
            if step.given and step.made
        )

    def strangers(self) -> int:
        """Return how many names it does not know."""
        return sum(each.endswith(f" ({STRANGE})") for each in self.peeled.left_out)

    def __str__(self) -> str:
        names = f"the names of {' and '.join(self.keymaps)}" if self.keymaps else "our names"
        return f"{names}, without {' and '.join(map(repr, self.peeled.prefixes))}" if self.peeled.prefixes else names


def fitting(
    shapes: Mapping[str, torch.Tensor],
    expected: Mapping[str, torch.Tensor],
    tables: Tables,
    *,
    ours: bool,
    anew: Collection[str] = (),
) -> Iterator[Way]:
    """Give the ways in which the tensors of a file fit a model: none is left over, none is lacking, shapes agree.

    Args:
        shapes: the tensors of the file, without their values.
        expected: those of the model.
        tables: what is known of the names of others.
        ours: whether the names may be ours as well.
        anew: parts of the model that take nothing from the file. What it has for them is left out, and what stands
            apart from all that is taken.
    """
    wanted = {name: tensor for name, tensor in expected.items() if part_of(name) not in anew}
    for peeled in peelings(shapes):
        kept, given = _taken(peeled, shapes, None, anew)
        if ours and same_shapes(given, wanted):
            yield Way(kept)
        for names, table in tables:
            kept, given = _taken(peeled, shapes, table, anew)
            if known_of_three(table, given) == 1:
                plan = make_plan(table.rules, given, "ours", wanted)
                if not plan.problems:
                    yield Way(kept, names, plan)


def _taken(
    peeled: Peeled, shapes: Mapping[str, torch.Tensor], table: Table | None, anew: Collection[str]
) -> tuple[Peeled, dict[str, torch.Tensor]]:
    """Return the names without those that are of no part that is taken from a file, and the tensors by them."""
    rest: dict[str, str] = {}
    parts: dict[str, frozenset[str]] = {}
    if anew:
        parts = {shown: _parts_made(table, shown) for shown in peeled.names.values()}
        kept = {shown for shown, made in parts.items() if not made <= set(anew)}
        roots = {shown.partition(".")[0] for shown in kept if parts[shown] != _UNKNOWN}
        rest = {
            name: shown
            for name, shown in peeled.names.items()
            if shown not in kept or (parts[shown] == _UNKNOWN and shown.partition(".")[0] not in roots)
        }
    names = {name: shown for name, shown in peeled.names.items() if name not in rest}
    left = tuple(
        f"{name} ({STRANGE if parts[shown] == _UNKNOWN else 'of a part that takes nothing from it'})"
        for name, shown in rest.items()
    )
    given = {shown: shapes[name] for name, shown in names.items()}
    return replace(peeled, names=names, left_out=(*peeled.left_out, *left)), given


def _parts_made(table: Table | None, name: str) -> frozenset[str]:
    """Return the parts of a model that a tensor goes into; that of no name if nobody knows it."""
    if table is None:
        return frozenset({part_of(name)})
    made = [
        rule.keys("ours", binding) for rule in table.rules if not rule.fills for binding in rule.match("theirs", name)
    ]
    # What has no counterpart is known, and left out by its rule.
    return frozenset(part_of(each) for names in made for each in (names or ("backbone",))) or _UNKNOWN


def known_of_three(table: Table, names: Collection[str]) -> float:
    """Return which share of three names a table knows: a plan asks of all, which takes a fifth of a load."""
    listed = list(names)
    few = {listed[0], listed[len(listed) // 2], listed[-1]} if listed else set()
    known = sum(any(not rule.fills and rule.match("theirs", name) for rule in table.rules) for name in few)
    return known / max(1, len(few))


def distinct(ways: Iterator[Way]) -> list[Way]:
    """Return ways without those that do the same as one that knows more, or as much."""
    found: dict[frozenset[tuple[Any, ...]], Way] = {}
    for way in sorted(ways, key=Way.strangers):
        found.setdefault(way.assignment(), way)
    return list(found.values())


def same_shapes(given: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> bool:
    """Tell whether two state dicts have the same names with the same shapes."""
    return given.keys() == expected.keys() and all(
        is_lazy(tensor) or given[name].shape == tensor.shape for name, tensor in expected.items()
    )
