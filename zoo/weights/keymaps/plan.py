"""Plan: which rule makes which tensor of which, with all that does not fit; then applying it moves the tensors."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from zoo.weights.keymaps.layouts import Misfit, Side
from zoo.weights.keymaps.rules import Rule

Fault = Literal[
    "no tensor",
    "unmatched",
    "ambiguous",
    "incomplete",
    "collision",
    "unexpected",
    "missing",
    "shape",
    "value",
    "one-way",
]
"""What can be wrong with a key."""

_TOLD: Mapping[Fault, str] = {
    "no tensor": "no plain tensors are {}",
    "unmatched": "no rule matches {}",
    "ambiguous": "several rules match {}",
    "incomplete": "of what a rule joins, only a part is there: {}",
    "collision": "several keys make {}",
    "unexpected": "the model has no {}",
    "missing": "nothing makes {}",
    "shape": "the shapes disagree of {}",
    "value": "the value disagrees of {}",
    "one-way": "there is no way back for {}",
}


@dataclass(frozen=True)
class KeyProblem:
    """What is wrong with one key.

    Attributes:
        fault: in one word.
        key: the name of the tensor; of a rule without a way back, its pattern.
        detail: the rules, the other keys, the shapes, the reason; empty where the key says all.

    >>> print(KeyProblem("shape", "head.fc.weight", "found (10, 512); expected (1000, 512)"))
    head.fc.weight: found (10, 512); expected (1000, 512)
    """

    fault: Fault
    key: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.key}: {self.detail}" if self.detail else self.key


@dataclass(frozen=True)
class Step:
    """One use of a rule.

    Attributes:
        rule: the rule.
        given: the keys that it takes; none if it makes a tensor of a value.
        made: the keys that it makes; none if it leaves a tensor out.
        shapes: the shape of each tensor that it makes.
    """

    rule: Rule
    given: tuple[str, ...]
    made: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Plan:
    """What some rules make of some tensors; no tensor was touched yet.

    Attributes:
        towards: the side whose names are made.
        steps: each use of a rule.
        problems: all that does not fit; empty for a plan that can be applied.
        unused: the rules that nothing matched. For one file that may be as it should; for a whole keymap it is a rule
            with a mistake.
        names: the names of the result, in its order.
    """

    towards: Side
    steps: tuple[Step, ...]
    problems: tuple[KeyProblem, ...]
    unused: tuple[Rule, ...]
    names: tuple[str, ...]


def make_plan(
    rules: Sequence[Rule],
    given: Mapping[str, Any],
    towards: Side,
    expected: Mapping[str, torch.Tensor] | None = None,
) -> Plan:
    """Find out which rule makes what of which key, and all that does not fit.

    Args:
        rules: the rules of a table.
        given: the tensors to translate; those on the meta device do as well.
        towards: the side whose names are to be made.
        expected: the tensors that there should be, those on the meta device do; None if nothing is known of them.
    """
    tensors, problems = _shapes_alone(given)
    uses, blamed, found = _uses(rules, tensors, towards)
    problems += found
    steps, failed, found = _conversions(uses, tensors, towards)
    blamed, problems = blamed | failed, problems + found
    there = {name for step in steps for name in step.made} | blamed
    created, failed, found = _creations(rules, there, expected, towards)
    blamed, problems, steps = blamed | failed, problems + found, steps + created
    problems += _collisions(steps)
    if expected is not None:
        problems += _differences(steps, blamed, expected)
    unused = tuple(rule for rule in rules if all(step.rule is not rule for step in steps))
    made = dict.fromkeys(name for step in steps for name in step.made)
    names = made if expected is None else [name for name in expected if name in made]
    return Plan(towards, tuple(steps), tuple(problems), unused, tuple(names))


def apply_plan(plan: Plan, tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], list[KeyProblem]]:
    """Carry out a plan: renamed tensors are passed on as they are, reshaped and cut ones as views, joined ones copied.

    Returns:
        The tensors by their new names, and the keys whose values are not what a rule says that they always are.
    """
    made: dict[str, torch.Tensor] = {}
    problems = []
    for step in plan.steps:
        try:
            if step.given:
                results = step.rule.convert(tuple(tensors[key] for key in step.given), plan.towards)
            else:
                results = tuple(step.rule.made(shape) for shape in step.shapes)
        except Misfit as found:
            problems.append(KeyProblem("value", step.given[0], f"{found} ({step.rule})"))
        else:
            made.update(zip(step.made, results, strict=True))
    return {name: made[name] for name in plan.names if name in made}, problems


def unlike(state: Mapping[str, Any], model: Mapping[str, torch.Tensor]) -> list[KeyProblem]:
    """Return how a state dict that is said to be of a model is not."""
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}
    missing = [KeyProblem("missing", name, "the state dict lacks it") for name in model if name not in state]
    unexpected = [KeyProblem("unexpected", name) for name in shapes if name not in model]
    different = [
        KeyProblem("shape", name, f"found {shapes[name]}; the model has {tuple(tensor.shape)}")
        for name, tensor in model.items()
        if name in shapes and shapes[name] != tuple(tensor.shape)
    ]
    return [*missing, *unexpected, *different]


def told(problems: Sequence[KeyProblem], most: int = 5) -> str:
    """Return problems as text: a line for each kind of fault, with the first keys of each.

    >>> print(told([KeyProblem("unmatched", "fc2.weight"), KeyProblem("missing", "head.fc.weight")]))
    no rule matches 1: fc2.weight
      nothing makes 1: head.fc.weight
    """
    lines = []
    for fault, text in _TOLD.items():
        keys = [str(p) for p in problems if p.fault == fault]
        if keys:
            more = f"; and {len(keys) - most} more" if len(keys) > most else ""
            lines.append(f"{text.format(len(keys))}: {'; '.join(keys[:most])}{more}")
    return "\n  ".join(lines)


_Use = tuple[Rule, tuple[str, ...], tuple[str, ...]]


def _other(side: Side) -> Side:
    return "theirs" if side == "ours" else "ours"


def _shapes_alone(given: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], list[KeyProblem]]:
    """Return each tensor without its numbers, so that what rules do to shapes can be tried out."""
    shapes, problems = {}, []
    for key, tensor in given.items():
        if not isinstance(tensor, torch.Tensor):
            problems.append(KeyProblem("no tensor", key, f"found {type(tensor).__name__!r}"))
        elif tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized:
            kind = "nested" if tensor.is_nested else "quantised" if tensor.is_quantized else str(tensor.layout)
            problems.append(KeyProblem("no tensor", key, f"found a tensor that is {kind.removeprefix('torch.')}"))
        else:
            shapes[key] = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
    return shapes, problems


def _uses(rules: Sequence[Rule], keys: Iterable[str], towards: Side) -> tuple[list[_Use], set[str], list[KeyProblem]]:
    """Return each use of a rule, the names that nothing more is to be said of, and what is wrong with the keys."""
    source = _other(towards)
    uses: dict[_Use, None] = {}
    blamed: set[str] = set()
    problems = []
    for key in keys:
        claims: list[_Use] = [
            (rule, rule.keys(source, binding), rule.keys(towards, binding))
            for rule in rules
            if not rule.fills
            for binding in rule.match(source, key)
        ]
        if len(claims) == 1:
            uses[claims[0]] = None
        elif claims:
            blamed |= {name for _, _, made in claims for name in made}
            problems.append(KeyProblem("ambiguous", key, " and ".join(str(rule) for rule, _, _ in claims)))
        else:
            problems.append(KeyProblem("unmatched", key))
    return list(uses), blamed, problems


def _conversions(
    uses: Sequence[_Use], tensors: Mapping[str, torch.Tensor], towards: Side
) -> tuple[list[Step], set[str], list[KeyProblem]]:
    """Return a step for each use, the names that no step makes for want of a fit, and why."""
    steps, problems = [], []
    failed: set[str] = set()
    for rule, given, made in uses:
        lacking = [key for key in given if key not in tensors]
        try:
            results = () if lacking else rule.convert(tuple(tensors[key] for key in given), towards)
        except Misfit as misfit:
            problems.append(KeyProblem("shape", given[0], f"{misfit} ({rule})"))
            failed.update(made)
            continue
        if lacking:
            there = next(key for key in given if key in tensors)
            problems.append(KeyProblem("incomplete", there, f"{' and '.join(lacking)} is not there ({rule})"))
            failed.update(made)
        else:
            steps.append(Step(rule, given, made, tuple(tuple(tensor.shape) for tensor in results)))
    return steps, failed, problems


def _creations(
    rules: Sequence[Rule], made: Container[str], expected: Mapping[str, torch.Tensor] | None, towards: Side
) -> tuple[list[Step], set[str], list[KeyProblem]]:
    """Return a step for each tensor that a rule makes of a value, the names that none makes for want of a fit, why."""
    steps, problems = [], []
    failed: set[str] = set()
    for rule in rules:
        if rule.patterns(_other(towards)) or not rule.patterns(towards):
            continue
        (pattern,) = rule.patterns(towards)
        if rule.one_way:
            problems.append(KeyProblem("one-way", pattern.text, f"{rule.one_way} ({rule})"))
        if rule.loses:
            continue
        literal = [] if pattern.placeholders else [pattern.text]
        names = literal if expected is None else [name for name in expected if pattern.match(name) is not None]
        for name in names:
            if rule.fills and name in made:
                continue
            shape = None if expected is None else tuple(expected[name].shape)
            try:
                result = rule.made(shape)
            except Misfit as misfit:
                problems.append(KeyProblem("shape", name, f"{misfit} ({rule})"))
                failed.add(name)
            else:
                steps.append(Step(rule, (), (name,), (tuple(result.shape),)))
    return steps, failed, problems


def _collisions(steps: Sequence[Step]) -> list[KeyProblem]:
    makers: dict[str, list[Step]] = {}
    for step in steps:
        for name in step.made:
            makers.setdefault(name, []).append(step)
    return [
        KeyProblem("collision", name, " and ".join(f"{', '.join(s.given) or 'a value'} ({s.rule})" for s in several))
        for name, several in makers.items()
        if len(several) > 1
    ]


def _differences(
    steps: Sequence[Step], blamed: Container[str], expected: Mapping[str, torch.Tensor]
) -> list[KeyProblem]:
    """Return what is made and not expected, what has another shape, and what is expected and not made."""
    problems = []
    made: set[str] = set()
    for step in steps:
        source = ", ".join(step.given) or "a value"
        for name, shape in zip(step.made, step.shapes, strict=True):
            made.add(name)
            if name not in expected:
                problems.append(KeyProblem("unexpected", name, f"{source} would be it"))
            elif shape != (there := tuple(expected[name].shape)):
                problems.append(KeyProblem("shape", name, f"{source} makes {shape}; the model has {there}"))
    return problems + [KeyProblem("missing", name) for name in expected if name not in made and name not in blamed]
