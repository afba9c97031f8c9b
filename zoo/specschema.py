"""schema: a JSON Schema for specs, made from what is installed, so that an editor completes and checks a spec file."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry import Entry, Registry, RegistryError, Renamed, Signature
from registry.signature import to_json
from zoo import kinds
from zoo.layers.nested import NAME, PART_MARK
from zoo.spec import AuxStated, Input

if TYPE_CHECKING:
    from pydantic import TypeAdapter

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_QUALIFIED = {
    "pattern": "^[^:]+:.+$",
    "description": "A model of a library, library:model, or a component of one distribution, distribution:name.",
}
_DEFINED = "#/$defs/{model}"
_PART = "#/$defs/{kind}"


def schema() -> dict[str, Any]:
    """Return a JSON Schema (draft 2020-12) for specs, made from the components that are installed.

    It accepts what :func:`zoo.normalise` accepts, but for what a JSON Schema cannot say: it wants names spelled as
    ``zoo list`` shows them, takes any ``library:model`` with any parameters, takes 3.0 for an integer, and leaves
    whether the parts fit to the builder. A component that cannot be imported is left out; ``$comment`` tells why.

    >>> found = schema()
    >>> found["required"], sorted(found["properties"])
    (['backbone'], ['$schema', 'aux', 'backbone', 'bottleneck', 'head', 'input', 'neck'])
    """
    faults: list[str] = []
    offers = {kind: list(_offers(registry, faults)) for kind, registry in kinds.COMPONENTS.items()}
    source, aux = Signature.of(Input), Signature.of(AuxStated)
    types, definitions = _types([source, aux, *(o.signature for each in offers.values() for o in each)], faults)
    given = _object(source, types, _Docs.of(Input))
    parts = {kind: _part(kind, each, types) for kind, each in offers.items()}
    extra = _object(aux, types, _Docs.of(AuxStated))
    whole = {
        "$schema": DIALECT,
        "title": "zoo spec",
        **({"$comment": "; ".join(faults)} if faults else {}),
        "description": "A model, described completely: what it takes, and up to four parts.",
        "type": "object",
        "properties": {
            "$schema": {"type": "string", "description": "Where this schema is, for editors; in files alone."},
            "input": {"description": "What the model takes.", "anyOf": [given, {"type": "null"}]},
            **{kind: {"$ref": _PART.format(kind=kind)} if kind == "backbone" else _or_none(kind) for kind in parts},
            kinds.AUX: {
                "description": "Auxiliary heads by name: heads on other features, which only take part in training.",
                "anyOf": [
                    {"type": "object", "propertyNames": {"pattern": NAME}, "additionalProperties": extra},
                    {"type": "null"},
                ],
            },
        },
        "required": ["backbone"],
        "additionalProperties": False,
        "$defs": {**definitions, **parts},
    }
    return _with_parts(whole)  # type: ignore[no-any-return] # of a dict it is a dict


@dataclass(frozen=True)
class _Docs:
    """The first line of a docstring, and what it says of each parameter."""

    summary: str
    parameters: dict[str, str]

    @classmethod
    def of(cls, described: object) -> _Docs:
        # The class's own docstring: inspect.getdoc would fall back on that of torch.nn.Module.
        own = described if inspect.isclass(described) or inspect.isroutine(described) else type(described)
        return cls.read(own.__doc__ or "")

    @classmethod
    def read(cls, docstring: str) -> _Docs:
        lines = inspect.cleandoc(docstring).replace("``", "`").splitlines()
        parameters: dict[str, str] = {}
        section, name = "", ""
        for line in lines[1:]:
            if line and not line.startswith(" "):
                section, name = line.strip(), ""
            elif section in ("Args:", "Attributes:"):
                found = re.match(r" {1,4}(\w+)(?: \([^)]*\))?: *(.*)", line)
                if found:
                    name = found[1]
                    parameters[name] = found[2].strip()
                elif name and line.strip():
                    parameters[name] = f"{parameters[name]} {line.strip()}".strip()
        return cls(lines[0].strip() if lines else "", parameters)


@dataclass(frozen=True)
class _Offer:
    """One component that a spec can name.

    Attributes:
        names: what it goes by; the first is what editors propose.
    """

    names: tuple[str, ...]
    entry: Entry
    component: Callable[..., Any]
    signature: Signature


def _offers(registry: Registry, faults: list[str]) -> Iterator[_Offer]:
    """Load every component of one kind; what cannot be used becomes a fault."""
    for entry in registry.entries():
        try:
            component = registry.load(entry)
        except RegistryError as error:
            faults.append(f"left out: {error}")
            continue
        if isinstance(component, Renamed):
            continue  # an old name goes on working, but nobody should be led to write it
        names = tuple(name for name in (entry.name, entry.qualified_name) if _stands_for(registry, name, entry))
        if names:
            yield _Offer(names, entry, component, kinds.signature_of(component))


def _stands_for(registry: Registry, name: str, entry: Entry) -> bool:
    try:
        return registry.find(name) == entry
    except RegistryError:
        return False


def _types(
    signatures: list[Signature], faults: list[str]
) -> tuple[dict[tuple[str, str], dict[str, Any]], dict[str, Any]]:
    """Return the schema of every parameter, by target and name, and what they share; pydantic keeps names apart."""
    from pydantic import TypeAdapter

    adapters: list[tuple[tuple[str, str], Any, TypeAdapter[Any]]] = []
    for signature in signatures:
        for p in signature.parameters:
            try:
                p.adapter.json_schema()
            except Exception as error:  # of a plugin's type, anything: the parameter is then left unchecked
                faults.append(f"unchecked: {p.name} of {signature.target}, for its type has no schema ({error})")
            else:
                adapters.append(((signature.target, p.name), "validation", p.adapter))
    found, shared = TypeAdapter.json_schemas(adapters, ref_template=_DEFINED)
    definitions = {name: _described(each) for name, each in shared.get("$defs", {}).items()}
    return {key: each for (key, _), each in found.items()}, definitions


def _described(definition: dict[str, Any]) -> dict[str, Any]:
    """Return a definition with its docstring told apart: the first line, and the line of each property."""
    docs = _Docs.read(definition.get("description", ""))
    properties = {
        name: {"description": docs.parameters[name], **each} if name in docs.parameters else each
        for name, each in definition.get("properties", {}).items()
    }
    return {
        **definition,
        **({"description": docs.summary} if docs.summary else {}),
        **({"properties": properties} if properties else {}),
    }


def _part(kind: str, offers: list[_Offer], types: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    """Return the schema of one part: a name alone, or an object whose type decides what else it takes."""
    needy = [o for o in offers if any(p.required for p in o.signature.parameters)]
    cases = []
    for o in offers:
        chosen = {"enum": list(o.names)} if len(o.names) > 1 else {"const": o.names[0]}
        docs = _Docs.of(o.component)
        taken = {
            "title": f"{o.names[0]} ({o.entry.provider})",
            **({"description": docs.summary} if docs.summary else {}),
            **_object(o.signature, types, docs, {"type": {**chosen, "description": docs.summary}}),
        }
        cases.append({"if": {"properties": {"type": chosen}, "required": ["type"]}, "then": taken})
    alone = _name(f"A {kind} that needs no parameters.", [o for o in offers if o not in needy], needy)
    named = _name(f"The name of a {kind}.", offers, [])
    full = {"type": "object", "properties": {"type": named}, "required": ["type"], "allOf": cases}
    return {"description": f"The {kind}: its name, or its type and parameters.", "anyOf": [alone, full]}


def _or_none(kind: str) -> dict[str, Any]:
    absent = {"type": "null", "description": f"No {kind}."}
    return {"anyOf": [{"$ref": _PART.format(kind=kind)}, absent]}


def _with_parts(schema: Any) -> Any:
    """Return a schema in which a parameter that is a part refers to the schema of such a part."""
    if isinstance(schema, list):
        return [_with_parts(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    told = {key: _with_parts(value) for key, value in schema.items() if key != PART_MARK}
    return {**told, "$ref": _PART.format(kind=schema[PART_MARK])} if PART_MARK in schema else told


def _name(description: str, offers: list[_Offer], excluded: list[_Offer]) -> dict[str, Any]:
    """Return the schema of a text that names one of some components, or what a library or distribution has."""
    # Validators tell the fault of the alternative whose "type" fits: of the names, not of the pattern.
    names = [{"type": "string", "enum": [o.names[0] for o in offers]}] if offers else []
    others = [name for o in excluded for name in o.names if ":" in name]
    qualified = {**_QUALIFIED, "not": {"enum": others}} if others else _QUALIFIED
    return {"type": "string", "description": description, "anyOf": [*names, qualified]}


def _object(
    signature: Signature,
    types: dict[tuple[str, str], dict[str, Any]],
    docs: _Docs,
    properties: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the schema of an object that holds the parameters of a signature."""
    taken = dict(properties or {})
    for p in signature.parameters:
        taken[p.name] = dict(types.get((signature.target, p.name), {}))
        if p.name in docs.parameters:
            taken[p.name]["description"] = docs.parameters[p.name]
        default = to_json(p.default)
        if not p.required and _is_json(default):
            taken[p.name]["default"] = default
    for name in signature.offered:
        if name in kinds.OFFERED:
            told = f": {docs.parameters[name]}" if name in docs.parameters else "."
            taken[name] = {"description": f"Filled in from the stage before, leave it out{told}", "readOnly": True}
    required = [p.name for p in signature.parameters if p.required]
    return {
        "type": "object",
        "properties": taken,
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
