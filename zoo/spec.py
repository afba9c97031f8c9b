"""Specs: merge, validate and normalise the plain dicts that describe models completely."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from os import PathLike, fspath
from typing import Any

from pydantic import NonNegativeFloat, PositiveInt

from registry import Problem, Signature, nearest
from registry.names import canonical, canonical_provider
from registry.signature import to_json
from zoo import kinds, specfile
from zoo.errors import ShapeError, SpecError
from zoo.layers.nested import MakeHead, module_name
from zoo.layers.parameters import Widths
from zoo.parts import Part, check, full_form, parse_part

_KEYS = ("input", *kinds.SECTIONS)

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
class AuxStated:
    """An auxiliary head as a spec states it, under a name of its own.

    Attributes:
        head: the head; it gets that one feature.
        feature: which feature it is on: ``"stage3"`` of the backbone, or ``"neck.p4"``; that of its own name unless
            stated.
        weight: of its loss, for whoever trains; the model itself does not use it.
    """

    head: MakeHead
    feature: str | None = None
    weight: NonNegativeFloat = 0.5


@dataclass(frozen=True)
class Aux:
    """One auxiliary head of a checked spec.

    Attributes:
        name: its name.
        feature: the feature that it is on, with its part: ``"backbone.stage3"``.
        weight: of its loss.
        head: the head.
    """

    name: str
    feature: str
    weight: float
    head: Part

    @property
    def part(self) -> str:
        """The part that the feature comes out of."""
        return self.feature.partition(".")[0]

    def dump(self) -> dict[str, Any]:
        """Return what the normalised spec says of it."""
        return {"head": self.head.dump(), "feature": self.feature, "weight": self.weight}


@dataclass(frozen=True)
class ParsedSpec:
    """A spec whose every name and parameter is known to be right; whether the parts fit is for the builder to find out.

    Attributes:
        input: what the model takes.
        parts: its parts, in the order in which data passes through them.
        aux: its auxiliary heads.
    """

    input: Input
    parts: tuple[Part, ...]
    aux: tuple[Aux, ...] = ()

    def dump(self) -> dict[str, Any]:
        """Return the normalised spec: plain JSON, every default filled in, absent parts None.

        It has ``aux`` only where there is one.
        """
        stated: dict[str, Any] = {"input": to_json(self.input), **dict.fromkeys(kinds.PARTS)}
        stated.update({part.kind: part.dump() for part in self.parts})
        if self.aux:
            stated[kinds.AUX] = {aux.name: aux.dump() for aux in self.aux}
        return copy.deepcopy(stated)

    @property
    def lock(self) -> dict[str, str]:
        """The version of every distribution that takes part, zoo's own included."""
        heads = (aux.head for aux in self.aux)
        every = [each for part in (*self.parts, *heads) for each in (part, *part.nested)]
        taking_part = {part.entry.provider: part.entry.version for part in every}
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
        changes: for each part a dict of parameters to change, or the name of a component. Another ``type`` than that of
            the part, or another name, replaces the part; the same one leaves its parameters as they are. None removes
            it. For ``aux`` a dict from names to changes of auxiliary heads, or None for no more of them.

    Raises:
        SpecError: what should be a spec is none.

    >>> merge({"head": {"type": "linear", "num_classes": 10}}, {"head": {"num_classes": 62}})
    {'head': {'type': 'linear', 'num_classes': 62}}
    >>> merge({"neck": {"type": "adaptive_pool", "size": 7}}, {"neck": "gap"})
    {'neck': {'type': 'gap'}}
    >>> merge({"neck": {"type": "adaptive_pool", "size": 7}}, {"neck": "adaptive_pool"})
    {'neck': {'type': 'adaptive_pool', 'size': 7}}
    """
    if not isinstance(spec, Mapping):
        raise SpecError([_no_spec(spec)])
    merged = copy.deepcopy(dict(spec))
    for key, change in changes.items():
        merge_one = _merged_aux if key == kinds.AUX else _merged_part
        merged[key] = copy.deepcopy(merge_one(merged.get(key), change))
    return merged


def of_classes(spec: Spec, num_classes: int) -> dict[str, Any]:
    """Return the changes that give the heads of a spec another number of classes, and auxiliary ones that state theirs.

    >>> of_classes({"backbone": "mlp"}, 5)
    {'head': {'num_classes': 5}}
    """
    stating = [name for name, head in aux_heads(spec).items() if "num_classes" in head]
    aux = {name: {"head": {"num_classes": num_classes}} for name in stating}
    return {"head": {"num_classes": num_classes}, **({kinds.AUX: aux} if aux else {})}


def aux_heads(spec: Spec) -> dict[str, Mapping[str, Any]]:
    """Return what a spec, or a change of one, states of auxiliary heads; what cannot be one is found later."""
    aux = spec.get(kinds.AUX)
    stated = (
        {n: each.get("head") for n, each in aux.items() if isinstance(each, Mapping)}
        if isinstance(aux, Mapping)
        else {}
    )
    return {name: head for name, head in stated.items() if isinstance(head, Mapping)}


def parse(spec: Spec) -> ParsedSpec:
    """Check every name and every parameter of a spec, and fill in the defaults.

    Raises:
        SpecError: something is wrong; it holds all problems, each with its path and what would be right.
    """
    if not isinstance(spec, Mapping):
        raise SpecError([_no_spec(spec)])
    problems = [_unknown_key(key) for key in spec if key not in _KEYS]
    source, found = _parse_input(spec.get("input"))
    problems += found
    if spec.get("backbone") is None:
        problems.append(Problem("spec.backbone", f"missing; choose one of {', '.join(kinds.backbones.names())}"))
    parts = []
    for kind in kinds.PARTS:
        if spec.get(kind) is not None:
            part, found = parse_part(kind, spec[kind], f"spec.{kind}")
            problems += found
            if part is not None:
                parts.append(part)
    aux, found = _parse_aux(spec.get(kinds.AUX))
    problems += found
    if problems or source is None:
        raise SpecError(problems) from next((p.error for p in problems if p.error), None)
    return ParsedSpec(source, tuple(parts), tuple(aux))


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


def _merged_part(old: Any, change: Any) -> Any:
    old, new = full_form(old), full_form(change)
    alike = isinstance(old, Mapping) and isinstance(new, Mapping) and _same_type(old, new)
    return {**old, **new} if alike else new


def _merged_aux(old: Any, change: Any) -> Any:
    if not isinstance(old, Mapping) or not isinstance(change, Mapping):
        return change
    merged = dict(old)
    for name, new in change.items():
        before = merged.get(name)
        if isinstance(before, Mapping) and isinstance(new, Mapping):
            head = {"head": _merged_part(before.get("head"), new["head"])} if "head" in new else {}
            merged[name] = {**before, **new, **head}
        else:
            merged[name] = new
    return {name: each for name, each in merged.items() if each is not None}


def _no_spec(found: object) -> Problem:
    return Problem("spec", f"found {type(found).__name__}; expected a dict with a 'backbone'")


def _same_type(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Tell whether a change leaves the type of a part as it is: it states none, or the same in any spelling."""
    before, after = old.get("type"), new.get("type", old.get("type"))
    if not isinstance(before, str) or not isinstance(after, str):
        return bool(before == after)
    (provider, _, name), (new_provider, _, new_name) = before.rpartition(":"), after.rpartition(":")
    same_provider = not provider or not new_provider or canonical_provider(provider) == canonical_provider(new_provider)
    return same_provider and canonical(name) == canonical(new_name)


def _unknown_key(key: object) -> Problem:
    guess = nearest(str(key), _KEYS)
    hint = f" (did you mean {' or '.join(guess)}?)" if guess else ""
    return Problem(f"spec.{key}", f"unknown part; a spec has {', '.join(_KEYS)}{hint}")


def _parse_input(given: Any) -> tuple[Input | None, list[Problem]]:
    if given is None:
        return Input(), []
    if not isinstance(given, Mapping):
        return None, [
            Problem("spec.input", f"found {given!r}; expected a dict such as {{'channels': 3, 'size': [224, 224]}}")
        ]
    arguments, problems = Signature.of(Input).check(given, "spec.input", "the input")
    return (None if problems else Input(**arguments.values)), problems


def _parse_aux(given: Any) -> tuple[list[Aux], list[Problem]]:
    path = f"spec.{kinds.AUX}"
    if given is None:
        return [], []
    if not isinstance(given, Mapping):
        form = "a dict such as {'stage3': {'head': {'type': 'fcn', 'num_classes': 21}}}"
        return [], [Problem(path, f"found {given!r}; expected {form}")]
    heads, problems = [], []
    for name, stated in given.items():
        where = f"{path}.{name}"
        try:
            module_name(str(name))
        except ValueError as error:
            problems.append(Problem(where, str(error)))
            continue
        if not isinstance(stated, Mapping):
            problems.append(Problem(where, f"found {stated!r}; expected a dict with a 'head'"))
            continue
        arguments, found = check(Signature.of(AuxStated), stated, where, "an auxiliary head")
        problems += found
        if not found:
            values = arguments.values
            feature = values["feature"] or name
            if feature.partition(".")[0] not in kinds.PARTS:
                feature = f"backbone.{feature}"
            heads.append(Aux(name, feature, values["weight"], values["head"]))
    return heads, problems
