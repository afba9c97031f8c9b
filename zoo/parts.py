"""Parts of a spec: each a component, checked by name and parameters, and the parts within it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from registry import Arguments, Entry, Problem, RegistryError, Signature
from zoo import kinds
from zoo.layers.nested import NestedSpec

_DEEPEST = 8  # a part in a part in a part: nobody means more


@dataclass(frozen=True)
class Part:
    """One part of a checked spec, ready to be built.

    Attributes:
        kind: ``"backbone"``, ``"neck"``, ``"bottleneck"`` or ``"head"``.
        type: its name in the registry, qualified where the spec had it so.
        entry: where it comes from.
        component: the class or function that builds it.
        signature: what that takes.
        arguments: what the spec states, defaults filled in; of a part within this one the value is a Part.
        stated: those of the builder's own parameters that the spec states, to be checked against the truth.
        path: where it stands, ``spec.head``.
    """

    kind: str
    type: str
    entry: Entry
    component: Callable[..., Any]
    signature: Signature
    arguments: Arguments
    stated: Mapping[str, Any] = field(default_factory=dict)
    path: str = ""

    @property
    def where(self) -> str:
        """The part in messages: ``spec.head (linear)``."""
        return f"{self.path or f'spec.{self.kind}'} ({self.type})"

    @property
    def nested(self) -> Iterator[Part]:
        """The parts within this one, and those within them."""
        for part in leaves(self.arguments.values, Part):
            yield part
            yield from part.nested

    def dump(self) -> dict[str, Any]:
        """Return what the normalised spec says of it."""
        return {"type": self.type, **self.arguments.json}


def parse_part(kind: str, given: Any, path: str, depth: int = 0) -> tuple[Part | None, list[Problem]]:
    """Check one part: its name, its parameters, and the parts within it.

    Args:
        kind: ``"backbone"``, ``"neck"``, ``"bottleneck"`` or ``"head"``.
        given: what the spec states.
        path: where, ``spec.head``.
        depth: how many parts it stands in.

    Returns:
        The part, unless it has no name that is known, and every problem.
    """
    given = full_form(given)
    names = ", ".join(kinds.COMPONENTS[kind].names())
    if not isinstance(given, Mapping):
        return None, [Problem(path, f"found {given!r}; expected a dict with a 'type', one of {names}")]
    if depth > _DEEPEST:
        return None, [Problem(path, f"a part that stands in more than {_DEEPEST} others; no model needs that")]
    name = given.get("type")
    if not isinstance(name, str):
        found = "missing" if name is None else f"found {name!r}, not a name"
        return None, [Problem(f"{path}.type", f"{found}; choose one of {names}")]
    try:
        entry, component = kinds.COMPONENTS[kind].resolve(name)
    except RegistryError as error:
        return None, [Problem(f"{path}.type", str(error), error)]
    signature = kinds.signature_of(component)
    stated = {key: given[key] for key in signature.offered if key in given and key in kinds.OFFERED}
    parameters = {key: value for key, value in given.items() if key != "type" and key not in stated}
    arguments, problems = check(signature, parameters, path, entry.name, depth)
    type_name = entry.qualified_name if ":" in name else entry.name
    return Part(kind, type_name, entry, component, signature, arguments, stated, path), problems


def check(
    signature: Signature, given: Mapping[str, Any], path: str, called: str, depth: int = 0
) -> tuple[Arguments, list[Problem]]:
    """Check parameters against a signature, and the parts among them; the arguments are those of ``Signature.check``.

    Returns:
        The arguments that are right, with a Part where the signature has one, and every problem.
    """
    arguments, problems = signature.check(given, path, called)
    values, plain = dict(arguments.values), dict(arguments.json)

    def parsed(stated: NestedSpec, where: str) -> Part | None:
        part, found = parse_part(stated.kind, stated.given, where, depth + 1)
        problems.extend(found)
        return part

    for name, value in values.items():
        if any(True for _ in leaves(value, NestedSpec)):
            values[name] = replaced(value, NestedSpec, parsed, f"{path}.{name}")
            plain[name] = replaced(values[name], Part, lambda part, _: part.dump())
    return Arguments(values, plain), problems


def full_form(value: Any) -> Any:
    """Return a part as a dict, where it is stated as a name alone."""
    return {"type": value} if isinstance(value, str) else value


def leaves(value: Any, wanted: type) -> Iterator[Any]:
    """Return what is of a type within dicts, lists and tuples."""
    if isinstance(value, wanted):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from leaves(each, wanted)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from leaves(each, wanted)


def replaced(value: Any, wanted: type, make: Callable[[Any, str], Any], path: str = "") -> Any:
    """Return a value with all that is of a type within its dicts, lists and tuples replaced.

    Args:
        value: the value; it stays as it is.
        wanted: the type.
        make: returns the replacement of what it finds at a place.
        path: where the value is.
    """
    if isinstance(value, wanted):
        return make(value, path)
    if isinstance(value, Mapping):
        return {key: replaced(each, wanted, make, f"{path}.{key}") for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(replaced(each, wanted, make, f"{path}[{i}]") for i, each in enumerate(value))
    return value
