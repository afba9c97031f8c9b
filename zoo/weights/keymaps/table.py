"""Table: the rules between the names of another library and ours, for the models of one composition."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from registry import Entry, RegistryError
from zoo import kinds
from zoo.errors import RuleError
from zoo.spec import ParsedSpec
from zoo.weights.keymaps.layouts import Side
from zoo.weights.keymaps.patterns import shared_key
from zoo.weights.keymaps.rules import Rule


@dataclass(frozen=True, kw_only=True)
class Table:
    """The rules for the models that are composed of certain components.

    Attributes:
        backbone: the name of a component, as a spec would have it: ``"resnet_lite"``, ``"acme-zoo:tiny"``.
        neck: the same; None for models that have none.
        bottleneck: the same.
        head: the same.
        parameters: what the spec has to say of them besides, ``{"backbone.stem": "video"}``, as JSON has it.
        rules: what becomes what; for each key there has to be exactly one.

    Raises:
        RuleError: there are no rules, or two claim one key.
    """

    backbone: str
    neck: str | None = None
    bottleneck: str | None = None
    head: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)
    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        for kind in kinds.PARTS:
            name = getattr(self, kind)
            if not isinstance(name, str) and (name is not None or kind == "backbone"):
                raise RuleError("Table", f"{kind} is {name!r}; expected the name of a component")
        for path in self.parameters:
            kind, _, name = path.partition(".")
            if not name or self.composition.get(kind) is None:
                raise RuleError(
                    "Table", f"parameters has {path!r}; expected a part of it and a parameter, 'backbone.stem'"
                )
        if not isinstance(self.rules, tuple) or not self.rules or not all(isinstance(r, Rule) for r in self.rules):
            raise RuleError(str(self), f"rules is {self.rules!r}; expected a tuple of rules, one at least")
        sides: tuple[Side, ...] = ("theirs", "ours")
        for side in sides:
            for fills in (False, True):
                _refuse_shared_keys([rule for rule in self.rules if rule.fills is fills], side)

    @property
    def composition(self) -> dict[str, str | None]:
        """The component of each part, None for a part that is not there."""
        return {kind: getattr(self, kind) for kind in kinds.PARTS}

    @property
    def one_way(self) -> tuple[Rule, ...]:
        """The rules that have no way back, each with its reason as ``one_way``."""
        return tuple(rule for rule in self.rules if rule.one_way)

    def speaks_of(self, parsed: ParsedSpec, besides: Collection[str] = ()) -> bool:
        """Tell whether a checked spec is composed of these components, whatever it calls them, with the parameters.

        Args:
            parsed: the checked spec.
            besides: parts that may be others.
        """
        entries = {part.kind: part.entry for part in parsed.parts}
        said = {f"{part.kind}.{name}": value for part in parsed.parts for name, value in part.arguments.json.items()}
        components = {kind: name for kind, name in self.composition.items() if kind not in besides}
        wanted = {path: value for path, value in self.parameters.items() if path.partition(".")[0] in components}
        same = all(_is_entry(kind, name, entries.get(kind)) for kind, name in components.items())
        return same and all(path in said and said[path] == value for path, value in wanted.items())

    def __str__(self) -> str:
        said = " and ".join(f"{path}={value!r}" for path, value in self.parameters.items())
        return composed(self.composition) + (f", with {said}" if said else "")


def composed(composition: Mapping[str, str | None]) -> str:
    """Return the components of a model in words."""
    return ", ".join(f"{kind} {name}" for kind, name in composition.items() if name is not None)


def _is_entry(kind: str, name: str | None, entry: Entry | None) -> bool:
    if name is None or entry is None:
        return name is None and entry is None
    registry = kinds.COMPONENTS[kind]
    try:
        return registry.resolve(name)[0] == entry
    except RegistryError:  # a table may speak of what is not installed here
        return False


def _refuse_shared_keys(rules: Sequence[Rule], side: Side) -> None:
    patterns = [(rule, pattern) for rule in rules for pattern in rule.patterns(side)]
    for (one, left), (other, right) in combinations(patterns, 2):
        key = shared_key(left, right)
        if key is not None:
            where = "twice" if one is other else f"as does {one}"
            raise RuleError(str(other), f"it claims the key {key!r} of {side} {where}; a key can have one rule alone")
