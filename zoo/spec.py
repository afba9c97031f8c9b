"""Specs: merge, validate and normalise the plain dicts that describe models completely."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from os import PathLike, fspath
from typing import Any

from pydantic import PositiveInt

from registry import Arguments, Entry, Problem, RegistryError, Signature, nearest
from registry.names import canonical, canonical_provider
from registry.signature import to_json
from zoo import kinds, specfile
from zoo.errors import ShapeError, SpecError
from zoo.layers.parameters import Widths

Spec = Mapping[str, Any]
"""``{"input": {…}, "backbone": {"type": name, …parameters}, "neck": …, "bottleneck": …, "head": …}``."""

Source = str | PathLike[str] | Spec
"""Where a spec comes from: the name of a model, a spec file, or the spec itself."""


@dataclass(frozen=True)
class Input:
    """What a model takes.

    Attributes:
        channels: channels of the input: 3 for colour, 1 for grey.
        size: spatial size, one number for each axis; None where any will do.
    """

    channels: PositiveInt = 3
    size: Widths | None = None


@dataclass(frozen=True)
class Part:
    """One part of a checked spec, ready to be built.

    Attributes:
        kind: ``"backbone"``, ``"neck"``, ``"bottleneck"`` or ``"head"``.
        type: its name in the registry, qualified where the spec had it so.
        entry: where it comes from.
        component: the class or function that builds it.
        signature: what that takes.
        arguments: what the spec states, defaults filled in.
        stated: those of the builder's own parameters that the spec states, to be checked against the truth.
    """

    kind: str
    type: str
    entry: Entry
    component: Callable[..., Any]
    signature: Signature
    arguments: Arguments
    stated: Mapping[str, Any] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """The part in messages: ``spec.head (linear)``."""
        return f"spec.{self.kind} ({self.type})"


@dataclass(frozen=True)
class ParsedSpec:
    """A spec whose every name and parameter is known to be right; whether the parts fit is for the builder to find out.

    Attributes:
        input: what the model takes.
        parts: its parts, in the order in which data passes through them.
    """

    input: Input
    parts: tuple[Part, ...]

    def dump(self) -> dict[str, Any]:
        """Return the normalised spec: plain JSON, every default filled in, absent parts None."""
        stated: dict[str, Any] = {"input": to_json(self.input), **dict.fromkeys(kinds.PARTS)}
        stated.update({part.kind: {"type": part.type, **part.arguments.json} for part in self.parts})
        return copy.deepcopy(stated)

    @property
    def lock(self) -> dict[str, str]:
        """The version of every distribution that takes part, zoo's own included."""
        taking_part = {part.entry.provider: part.entry.version for part in self.parts}
        return dict(sorted({kinds.DISTRIBUTION: version(kinds.DISTRIBUTION), **taking_part}.items()))


def named(name: str) -> dict[str, Any]:
    """Return the spec of a named model, as its provider wrote it.

    Raises:
        UnknownNameError: there is no such model.
        AmbiguousNameError: several distributions offer it.
        BrokenEntryError: its provider is broken.
    """
    return copy.deepcopy(dict(kinds.models.get(name)))


@contextmanager
def opened(source: Source) -> Iterator[Spec]:
    """Give the spec that a name, a spec file or a dict stands for; what is then found wrong with it names the file.

    A text is the name of a model, or if there is no such model and it ends as spec files do, that of a file.

    Raises:
        UnknownNameError: there is no such model.
        SpecFileError: the file cannot be read.

    >>> with opened("lenet") as spec:
    ...     spec["head"]
    {'type': 'linear', 'num_classes': 10}
    """
    if isinstance(source, str) and (source in kinds.models or not specfile.is_spec_file(source)):
        yield named(source)
    elif not isinstance(source, str | PathLike):
        yield source
    else:
        try:
            yield specfile.read(source)
        except SpecError as error:
            raise SpecError(error.problems, source) from error.__cause__
        except ShapeError as error:
            where = f"{fspath(source)}{': ' if error.where else ''}{error.where}"
            raise ShapeError(error.found, error.expected, where) from error.__cause__


def merge(spec: Spec, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a spec with changes merged in.

    Args:
        spec: the spec to start from; it stays as it is.
        changes: for each part a dict of parameters to change. One with another ``type`` replaces the part, as does a
            name alone; None removes it.

    Raises:
        SpecError: what should be a spec is none.

    >>> merge({"head": {"type": "linear", "num_classes": 10}}, {"head": {"num_classes": 62}})
    {'head': {'type': 'linear', 'num_classes': 62}}
    >>> merge({"neck": {"type": "adaptive_pool", "size": 7}}, {"neck": "gap"})
    {'neck': {'type': 'gap'}}
    """
    if not isinstance(spec, Mapping):
        raise SpecError([_no_spec(spec)])
    merged = copy.deepcopy(dict(spec))
    for key, change in changes.items():
        old = _part(merged.get(key))
        new = _part(change)
        if isinstance(old, Mapping) and isinstance(new, Mapping) and _same_type(old, new):
            new = {**old, **new}
        merged[key] = copy.deepcopy(new)
    return merged


def parse(spec: Spec) -> ParsedSpec:
    """Check every name and every parameter of a spec, and fill in the defaults.

    Raises:
        SpecError: something is wrong; it holds all problems, each with its path and what would be right.
    """
    if not isinstance(spec, Mapping):
        raise SpecError([_no_spec(spec)])
    problems = [_unknown_key(key) for key in spec if key not in ("input", *kinds.PARTS)]
    source, found = _parse_input(spec.get("input"))
    problems += found
    if spec.get("backbone") is None:
        problems.append(Problem("spec.backbone", f"missing; choose one of {', '.join(kinds.backbones.names())}"))
    parts = []
    for kind in kinds.PARTS:
        if spec.get(kind) is not None:
            part, found = _parse_part(kind, spec[kind])
            problems += found
            if part is not None:
                parts.append(part)
    if problems or source is None:
        raise SpecError(problems) from next((p.error for p in problems if p.error), None)
    return ParsedSpec(source, tuple(parts))


def normalise(spec: Source) -> dict[str, Any]:
    """Return a spec with every default filled in, so that a later change of a default cannot change what it says.

    Args:
        spec: a spec, a spec file (``.json``, ``.toml``, ``.yaml``) or the name of a model.

    Raises:
        SpecError: something is wrong with it.
        SpecFileError: the file cannot be read.
        UnknownNameError: there is no such model.

    >>> normalise({"backbone": "mlp", "input": {"size": [8, 8]}})["backbone"]["hidden"]
    [256, 128]
    """
    with opened(spec) as plain:
        return parse(plain).dump()


def _no_spec(found: object) -> Problem:
    return Problem("spec", f"found {type(found).__name__}; expected a dict with a 'backbone'")


def _part(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


def _same_type(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Tell whether a change leaves the type of a part as it is: it states none, or the same in any spelling."""
    before, after = old.get("type"), new.get("type", old.get("type"))
    if not isinstance(before, str) or not isinstance(after, str):
        return bool(before == after)
    (provider, _, name), (new_provider, _, new_name) = before.rpartition(":"), after.rpartition(":")
    same_provider = not provider or not new_provider or canonical_provider(provider) == canonical_provider(new_provider)
    return same_provider and canonical(name) == canonical(new_name)


def _unknown_key(key: object) -> Problem:
    known = ("input", *kinds.PARTS)
    guess = nearest(str(key), known)
    hint = f" (did you mean {' or '.join(guess)}?)" if guess else ""
    return Problem(f"spec.{key}", f"unknown part; a spec has {', '.join(known)}{hint}")


def _parse_input(given: Any) -> tuple[Input | None, list[Problem]]:
    if given is None:
        return Input(), []
    if not isinstance(given, Mapping):
        return None, [
            Problem("spec.input", f"found {given!r}; expected a dict such as {{'channels': 3, 'size': [224, 224]}}")
        ]
    arguments, problems = Signature.of(Input).check(given, "spec.input", "the input")
    return (None if problems else Input(**arguments.values)), problems


def _parse_part(kind: str, given: Any) -> tuple[Part | None, list[Problem]]:
    path = f"spec.{kind}"
    given = _part(given)
    names = ", ".join(kinds.COMPONENTS[kind].names())
    if not isinstance(given, Mapping):
        return None, [Problem(path, f"found {given!r}; expected a dict with a 'type', one of {names}")]
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
    arguments, problems = signature.check(parameters, path, entry.name)
    type_name = entry.qualified_name if ":" in name else entry.name
    return Part(kind, type_name, entry, component, signature, arguments, stated), problems
