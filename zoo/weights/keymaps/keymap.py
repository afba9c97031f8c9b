"""Keymap: tables between the names of another library and ours, one for each way in which models are composed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from registry.names import canonical
from zoo import kinds
from zoo.builder import assemble
from zoo.errors import KeymapError, RuleError, ZooError
from zoo.model import Model
from zoo.spec import ParsedSpec, Source, opened, parse
from zoo.weights.checkpoint import Checkpoint
from zoo.weights.keymaps.layouts import Permute, Reshape, Side
from zoo.weights.keymaps.library import library_table
from zoo.weights.keymaps.plan import KeyProblem, Plan, Step, apply_plan, make_plan, told, unlike
from zoo.weights.keymaps.rules import Constant, Default, Join, NoCounterpart, Rename, Rule, Split
from zoo.weights.keymaps.table import Table, composed

__all__ = [
    "Constant",
    "Default",
    "Join",
    "KeyProblem",
    "Keymap",
    "NoCounterpart",
    "Permute",
    "Plan",
    "Rename",
    "Reshape",
    "Rule",
    "Side",
    "Split",
    "Step",
    "Table",
]


@dataclass(frozen=True)
class Keymap:
    """A two-way table between the names of another library and ours.

    Attributes:
        library: the library, ``"torchvision"``.
        tables: one for each way in which models are composed. Of several that speak of a model, the one that asks for
            the most parameters counts, and of these the first.

    Raises:
        RuleError: there are no tables, or two are for the same models.

    >>> from zoo.builder import compose
    >>> keymap = Keymap("acme", (Table(backbone="lenet", rules=(Rename("net.{rest...}", "backbone.{rest...}"),)),))
    >>> lenet = {"input": {"channels": 1, "size": [32, 32]}, "backbone": {"type": "lenet"}}
    >>> theirs = keymap.to_theirs(compose(lenet))
    >>> list(theirs)[:2]
    ['net.stages.0.conv.weight', 'net.stages.0.conv.bias']
    >>> list(keymap.to_ours(theirs, lenet))[:2]
    ['backbone.stages.0.conv.weight', 'backbone.stages.0.conv.bias']
    """

    library: str
    tables: tuple[Table, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.library, str) or not self.library:
            raise RuleError("Keymap", f"library is {self.library!r}; expected the name of a library")
        if not isinstance(self.tables, tuple) or not self.tables or not all(isinstance(t, Table) for t in self.tables):
            raise RuleError(f"Keymap {self.library}", f"tables is {self.tables!r}; expected a tuple of Table")
        for one, other in combinations(self.tables, 2):
            if _folded(one) == _folded(other) and one.parameters == other.parameters:
                raise RuleError(f"Keymap {self.library}", f"two tables are for {other}; make them one")

    def table_for(self, parsed: ParsedSpec) -> Table:
        """Return the table that speaks of the models of a checked spec.

        For a backbone of the library itself, ``timm:resnet50d``, that is read off its model and ours.

        Raises:
            KeymapError: there is none.
        """
        speaking = [table for table in self.tables if table.speaks_of(parsed)]
        if speaking:
            return max(speaking, key=lambda table: len(table.parameters))
        if canonical(parsed.parts[0].entry.namespace) == canonical(self.library):
            of_library = library_table(parsed)
            if of_library is not None:
                return of_library[1]
        types = {part.kind: part.type for part in parsed.parts}
        found = composed({kind: types.get(kind) for kind in kinds.PARTS})
        known = "".join(f"\n  {table}" for table in self.tables)
        raise KeymapError(self.library, f"the model is {found}; there are tables for:{known}")

    def plan(self, tensors: Mapping[str, Any], spec: Source | ParsedSpec, towards: Side = "ours") -> Plan:
        """Find out which rule makes what of which tensor, and all that does not fit; no tensor is touched.

        Args:
            tensors: a state dict, theirs or ours; one on the meta device will do.
            spec: which model of ours it is for, or of.
            towards: the side whose names are wanted.

        Raises:
            KeymapError: there is no table for such a model.
            SpecError: the spec is wrong.
        """
        if not isinstance(spec, ParsedSpec):
            with opened(spec) as plain:
                return self.plan(tensors, parse(plain), towards)
        rules = self.table_for(spec).rules
        model = assemble(spec, "meta", initialise=False).state_dict()
        if towards == "ours":
            return make_plan(rules, tensors, towards, model)
        plan = make_plan(rules, tensors, towards)
        return replace(plan, problems=(*plan.problems, *unlike(tensors, model)))

    def to_ours(self, state: Mapping[str, Any], spec: Source | ParsedSpec) -> dict[str, torch.Tensor]:
        """Translate a state dict of the other library for a model of ours.

        Args:
            state: their state dict; it stays as it is.
            spec: what it is to become: the name of a model, a spec, or a spec file.

        Returns:
            Our state dict, in the order of our model. What was only renamed is the same tensor as before.

        Raises:
            KeymapError: the tensors do not fit; it holds all problems, each with its key.
            SpecError: the spec is wrong.
        """
        return self._applied(self.plan(state, spec), state)

    def to_theirs(self, model: Model | Mapping[str, Any], spec: Source | None = None) -> dict[str, torch.Tensor]:
        """Translate a model of ours, or its state dict, to the names of the other library.

        Args:
            model: the model, or a state dict of ours; it stays as it is.
            spec: what a state dict is of; a model knows that itself.

        Returns:
            Their state dict, for their ``load_state_dict``. What was only renamed is the same tensor as before.

        Raises:
            KeymapError: the tensors do not fit, or a rule has no way back.
            SpecError: the spec is wrong.
        """
        model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
        if isinstance(model, Model):
            state, source = model.state_dict(), spec if spec is not None else model.spec
        elif spec is not None:
            state, source = dict(model), spec
        else:
            raise ZooError("a state dict does not say of which model it is; give the spec too")
        return self._applied(self.plan(state, source, "theirs"), state)

    def _applied(self, plan: Plan, state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        translated, wrong = ({}, []) if plan.problems else apply_plan(plan, state)
        if problems := [*plan.problems, *wrong]:
            reason = (
                f"these are not the tensors of such a model in the names of {self.library}; is the spec theirs?"
                if plan.towards == "ours"
                else f"these tensors cannot get the names of {self.library}:"
            )
            raise KeymapError(self.library, f"{reason}\n  {told(problems)}", problems)
        return translated


def refuse_keymap(checkpoint: Checkpoint, keymap: str, path: Path) -> None:
    """Check that a keymap can be for a file.

    Args:
        checkpoint: what is in the file.
        keymap: the registered name of a keymap.
        path: the file, for messages.

    Raises:
        KeymapError: it is no name, or the file has our names already.
        UnknownNameError: no keymap has this name.
    """
    if not isinstance(keymap, str):
        found = f"found {type(keymap).__name__!r}; expected the name of a keymap that is registered"
        raise KeymapError(type(keymap).__name__, found, path=path)
    kinds.keymaps.get(keymap)
    if checkpoint.artifact is not None:
        raise KeymapError(keymap, "zoo wrote this file, so it has our names; leave keymap= out", path=path)


def _folded(table: Table) -> tuple[str, ...]:
    return tuple(canonical(name or "") for name in table.composition.values())
