"""The checks of a keymap, for each of its tables on the named models that it speaks of, or on a model that is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch

from registry import RegistryError
from zoo import kinds
from zoo.builder import assemble
from zoo.errors import SpecError
from zoo.spec import ParsedSpec, Source, named, opened, parse
from zoo.testing.report import fail, skip
from zoo.testing.tensors import require_same
from zoo.weights.keymaps.keymap import KeyProblem, Plan, Rule, Table
from zoo.weights.keymaps.plan import apply_plan, make_plan, told

State = Mapping[str, torch.Tensor]
"""A state dict; for all but the values one on the meta device will do."""


@dataclass(frozen=True)
class KeymapSubject:
    """What to check.

    Attributes:
        name: the registered name of the keymap.
        spec: the model of ours to check it on; None for every model that zoo or its own distribution has a name for.
        theirs: what the other library calls the tensors of that model; None if it is not at hand.
    """

    name: str
    spec: Source | None = None
    theirs: State | None = None


@dataclass(frozen=True)
class _Pair:
    """A model of ours, the table that speaks of it, and the other library's names for it if they are known."""

    label: str
    table: Table
    ours: State
    theirs: State | None

    def to_ours(self, theirs: State) -> Plan:
        return make_plan(self.table.rules, theirs, "ours", self.ours)

    def to_theirs(self, ours: State) -> Plan:
        return make_plan(self.table.rules, ours, "theirs")

    @property
    def source(self) -> State:
        """Their tensors: those that were given, or what the table makes of ours."""
        return self.theirs if self.theirs is not None else apply_plan(self.to_theirs(self.ours), self.ours)[0]


def models(subject: KeymapSubject) -> None:
    """Each of its tables speaks of a model that is installed, so that it can be checked at all."""
    for table, pairs in _tables(subject):
        if not pairs:
            fail(f"no named model is made of {table}; give one: zoo.testing.check_keymap({subject.name!r}, spec=…)")


def keys(subject: KeymapSubject) -> None:
    """Each tensor has exactly one rule, no two get one name, and the shapes are those that there should be."""
    for pair in _pairs(subject):
        _require_no_problems(pair, "to theirs", _both_ways(pair.to_theirs(pair.ours)))
        _require_fit(pair, "to ours", pair.to_ours(pair.source))
        if pair.theirs is not None:
            _require_no_problems(pair, "to ours", apply_plan(pair.to_ours(pair.theirs), pair.theirs)[1])
            made = apply_plan(pair.to_theirs(pair.ours), pair.ours)[0]
            known = _without_lost(pair, pair.theirs)
            _require_same_names(pair, made, known)


def rules_used(subject: KeymapSubject) -> None:
    """Each rule applies to a tensor of some model; one that never does has a mistake in it."""
    for table, pairs in _tables(subject, others=True):
        used = {id(step.rule) for pair in pairs for plan in _plans(pair) for step in plan.steps}
        known = any(pair.theirs is not None for pair in pairs)
        unused = [rule for rule in table.rules if id(rule) not in used and not rule.fills and (known or not rule.loses)]
        if pairs and unused:
            fail(f"nothing in {', '.join(pair.label for pair in pairs)} needs the rule {unused[0]} of {table}")


def there_and_back(subject: KeymapSubject) -> None:
    """Random bits come back from our names as they went in, but for what a rule says is lost."""
    for _, pairs in _tables(subject):
        if pairs:
            pair = min(pairs, key=lambda p: sum(math.prod(t.shape) for t in p.ours.values()))
            theirs = _random_bits(pair)
            there, wrong = apply_plan(pair.to_ours(theirs), theirs)
            back, wrong_back = apply_plan(pair.to_theirs(there), there)
            _require_no_problems(pair, "there and back", [*wrong, *wrong_back])
            known = _without_lost(pair, theirs)
            require_same(known, back, f"{pair.label} comes back as something else in")


def defaults(subject: KeymapSubject) -> None:
    """What a file may lack is filled in, and nothing else is."""
    tables = [
        (table, pairs) for table, pairs in _tables(subject, others=True) if any(rule.fills for rule in table.rules)
    ]
    if not tables:
        skip("none of its rules fills in what a file may lack")
    for table, pairs in tables:
        filled: set[int] = set()
        for pair in pairs:
            source = pair.source
            lacking = {
                key
                for step in pair.to_ours(source).steps
                if step.given and any(_fills(table, name) for name in step.made)
                for key in step.given
            }
            plan = pair.to_ours({key: tensor for key, tensor in source.items() if key not in lacking})
            _require_fit(pair, "to ours, without what a file may lack", plan)
            filled |= {id(step.rule) for step in plan.steps}
        unused = [rule for rule in table.rules if rule.fills and id(rule) not in filled]
        if pairs and unused:
            fail(f"nothing in {', '.join(pair.label for pair in pairs)} needs the rule {unused[0]} of {table}")


KEYMAP_CHECKS: Mapping[str, Callable[[KeymapSubject], None]] = {
    "models": models,
    "keys": keys,
    "rules-used": rules_used,
    "there-and-back": there_and_back,
    "defaults": defaults,
}
"""Every check of a keymap by name, in the order of a report."""


def _tables(subject: KeymapSubject, *, others: bool = False) -> list[tuple[Table, list[_Pair]]]:
    """Return the tables to check and the models to check them on.

    Args:
        subject: what to check; a spec in it limits both.
        others: whether the named models come in beside that of the spec, for a rule that it has no need of.
    """
    keymap = kinds.keymaps.get(subject.name)
    tables: Sequence[Table] = keymap.tables
    given: list[_Pair] = []
    if subject.spec is not None:
        with opened(subject.spec) as plain:
            parsed = parse(plain)
        label = subject.spec if isinstance(subject.spec, str) else "the spec"
        tables = (keymap.table_for(parsed),)
        given = [_pair(label, tables[0], parsed, subject.theirs)]
    named_models = []
    if others or not given:
        own = kinds.keymaps.find(subject.name).provider
        named_models = list(_named_models((kinds.DISTRIBUTION, own)))
    return [
        (t, [*given, *(_pair(name, t, parsed, None) for name, parsed in named_models if t.speaks_of(parsed))])
        for t in tables
    ]


def _pairs(subject: KeymapSubject) -> list[_Pair]:
    found = [pair for _, pairs in _tables(subject) for pair in pairs]
    if not found:
        skip("no named model is made as one of its tables says")
    return found


def _pair(label: str, table: Table, parsed: ParsedSpec, theirs: State | None) -> _Pair:
    return _Pair(label, table, assemble(parsed, "meta", initialise=False).state_dict(), theirs)


def _named_models(providers: Container[str]) -> Iterator[tuple[str, ParsedSpec]]:
    """Give the named models of some distributions; no other plugin is imported."""
    for entry in kinds.models.entries():
        if entry.provider in providers:
            with suppress(RegistryError, SpecError):  # a broken model has checks of its own
                yield entry.qualified_name, parse(named(entry.qualified_name))


def _plans(pair: _Pair) -> tuple[Plan, Plan]:
    return pair.to_theirs(pair.ours), pair.to_ours(pair.source)


def _both_ways(plan: Plan) -> list[KeyProblem]:
    return [problem for problem in plan.problems if problem.fault != "one-way"]


def _require_no_problems(pair: _Pair, way: str, problems: Sequence[KeyProblem]) -> None:
    if problems:
        fail(f"{pair.label}, {way}: {told(problems, most=3)}")


def _require_fit(pair: _Pair, way: str, plan: Plan) -> None:
    """End the check unless a plan makes all of our model's tensors, those that are made of values in its dtypes too."""
    _require_no_problems(pair, way, plan.problems)
    for step in plan.steps:
        for name in step.made if not step.given else ():
            found, expected = step.rule.made().dtype, pair.ours[name].dtype
            if found != expected:
                fail(f"{pair.label}, {way}: {name} is made as {found}, the model has {expected} ({step.rule})")


def _require_same_names(pair: _Pair, made: State, known: State) -> None:
    wrong = [f"{name} is made, and they have none" for name in made if name not in known]
    wrong += [f"{name} is not made" for name in known if name not in made]
    wrong += [
        f"{name} is made as {tuple(made[name].shape)}, theirs is {tuple(tensor.shape)}"
        for name, tensor in known.items()
        if name in made and made[name].shape != tensor.shape
    ]
    if wrong:
        fail(f"{pair.label}, to theirs: {'; '.join(wrong[:3])}{' …' if len(wrong) > 3 else ''}")


def _without_lost(pair: _Pair, theirs: State) -> State:
    """Return their tensors but those that a rule leaves out and does not write again."""
    lost = [rule for rule in pair.table.rules if rule.loses]
    return {key: tensor for key, tensor in theirs.items() if not any(rule.match("theirs", key) for rule in lost)}


def _fills(table: Table, name: str) -> bool:
    return any(rule.fills and rule.match("ours", name) for rule in table.rules)


def _random_bits(pair: _Pair) -> dict[str, torch.Tensor]:
    """Return tensors of theirs of which each byte is random, but those that always have one value."""
    source = pair.source
    fixed: dict[str, Rule] = {step.given[0]: step.rule for step in pair.to_ours(source).steps if not step.made}
    generator = torch.Generator().manual_seed(0)
    return {
        key: fixed[key].made() if key in fixed and not fixed[key].loses else _noise(tensor, generator)
        for key, tensor in source.items()
    }


def _noise(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if like.dtype == torch.bool:
        return torch.randint(2, like.shape, generator=generator, dtype=torch.bool)
    size = like.numel() * like.element_size()
    words = torch.empty(size // 8 + 1, dtype=torch.int64).random_(generator=generator)
    return words.view(torch.uint8)[:size].view(like.dtype).reshape(like.shape)
