"""Signature: the signature of a component, used as the schema of its parameters.

The types are checked by pydantic, strictly (``"3"`` is no integer) and by the rules of JSON (a list may stand for a
tuple).
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from registry.errors import SignatureError
from registry.names import nearest
from registry.problem import Problem

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError


@dataclass(frozen=True)
class Parameter:
    """One parameter of a component.

    Attributes:
        name: its name.
        annotation: its type hint, evaluated.
        default: its default; meaningless where ``required``.
        required: True if it has no default.
    """

    name: str
    annotation: Any
    default: Any
    required: bool

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """What checks values of this type; made on first use, for pydantic takes 80 ms to import."""
        from pydantic import TypeAdapter

        return TypeAdapter(self.annotation)

    @property
    def fault(self) -> str:
        """Why JSON cannot say values of this type, or nothing."""
        from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

        try:
            _ = self.adapter
            if not self.required:
                json.dumps(to_json(self.default), allow_nan=False)
        except (PydanticSchemaGenerationError, PydanticUserError):
            return f"is of type {self.type_text}, which a spec cannot state"
        except (TypeError, ValueError) as error:
            if "adapter" not in self.__dict__:
                return f"is of type {self.type_text}, which cannot be checked: {error}"
            return f"has the default {_brief(self.default)}, which JSON cannot say"
        except Exception as error:  # a type of a plugin's own runs its code here
            return f"is of type {self.type_text}, which cannot be checked: {type(error).__name__}: {error}"
        return ""

    @property
    def type_text(self) -> str:
        """The type as a person would write it: ``int > 0``, ``'batch' | 'none'``."""
        return _type_text(self.annotation)

    def __str__(self) -> str:
        default = "" if self.required else f" = {self.default!r}"
        return f"{self.name}: {self.type_text}{default}"


@dataclass(frozen=True)
class Arguments:
    """Checked parameters, as Python values for the call and as JSON for the record; every default is filled in."""

    values: Mapping[str, Any]
    json: Mapping[str, Any]


@dataclass(frozen=True)
class Signature:
    """The parameters that a component takes.

    Attributes:
        target: the component, as ``module:name``, for messages.
        parameters: those that a spec may state.
        offered: those that whoever composes fills in, because it knows them from the stage before.
    """

    target: str
    parameters: tuple[Parameter, ...]
    offered: tuple[str, ...] = ()

    @classmethod
    def of(cls, component: Callable[..., Any], offered: Iterable[str] = ()) -> Signature:
        """Read the signature of a class or function.

        Args:
            component: the class or function.
            offered: names that the composer can fill in.

        Raises:
            SignatureError: it takes ``*args`` or ``**kwargs``, has a positional-only parameter, or one without a type
                hint or with one that cannot be evaluated.
        """
        target = f"{component.__module__}:{getattr(component, '__qualname__', type(component).__name__)}"
        try:
            parameters = inspect.signature(component, eval_str=True).parameters.values()
        except (TypeError, ValueError, NameError, AttributeError, SyntaxError) as cause:
            raise SignatureError(target, f"it cannot be read: {cause}") from cause
        names = frozenset(offered)
        for p in parameters:
            if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.POSITIONAL_ONLY):
                raise SignatureError(target, f"{p} is not a plain keyword parameter")
            if p.annotation is p.empty and p.name not in names:
                raise SignatureError(target, f"parameter {p.name!r} has no type hint")
        own = [p for p in parameters if p.name not in names]
        return cls(
            target,
            tuple(Parameter(p.name, p.annotation, p.default, p.default is p.empty) for p in own),
            tuple(p.name for p in parameters if p.name in names),
        )

    def __str__(self) -> str:
        return "(" + ", ".join(str(p) for p in self.parameters) + ")"

    def check(self, given: Mapping[str, Any], path: str, called: str) -> tuple[Arguments, list[Problem]]:
        """Check parameters against this signature, and fill in the defaults of those that are not given.

        Args:
            given: parameters by name, as JSON has them (tuples count as lists).
            path: where they stand, ``spec.neck``.
            called: what the component is called in messages, ``fpn``.

        Returns:
            The arguments that are right, and every problem with the others.
        """
        by_name = {p.name: p for p in self.parameters}
        problems = [
            Problem(f"{path}.{name}", self._unknown(str(name), called, by_name))
            for name in given
            if name not in by_name
        ]
        values: dict[str, Any] = {}
        plain: dict[str, Any] = {}
        for p in self.parameters:
            if p.name in given:
                try:
                    values[p.name], plain[p.name] = _checked(p, given[p.name])
                except _UnfitError as unfit:
                    problems += [Problem(f"{path}.{p.name}{where}", message) for where, message in unfit.faults]
            elif p.required:
                problems.append(Problem(f"{path}.{p.name}", f"missing; {called} needs it (expected {p.type_text})"))
            else:
                values[p.name], plain[p.name] = p.default, to_json(p.default)
        return Arguments(values, plain), problems

    def _unknown(self, name: str, called: str, by_name: Mapping[str, Parameter]) -> str:
        guess = nearest(name, by_name)
        hint = f" (did you mean {' or '.join(guess)}?)" if guess else ""
        return f"unknown parameter; {called} takes {', '.join(by_name) or 'none'}{hint}"


class _UnfitError(Exception):
    """A value is not of the type of its parameter; each fault is a place inside the value and a message."""

    def __init__(self, *faults: tuple[str, str]) -> None:
        self.faults = faults
        super().__init__()


def _checked(parameter: Parameter, value: Any) -> tuple[Any, Any]:
    from pydantic import ValidationError

    try:
        text = json.dumps(to_json(value), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as cause:
        raise _UnfitError(
            ("", f"found {_brief(value)}, which JSON cannot say; expected {parameter.type_text}")
        ) from cause
    try:
        checked = parameter.adapter.validate_json(text, strict=True)
    except ValidationError as cause:
        raise _explain(parameter, value, cause) from cause
    return checked, parameter.adapter.dump_python(checked, mode="json")


def _explain(parameter: Parameter, value: Any, cause: ValidationError) -> _UnfitError:
    """Turn pydantic's findings into one message.

    A union reports each of its branches. What it says of a place inside the value is worth telling, if it is one place;
    of the value as a whole, the type says more than a list of branches.
    """
    details = cause.errors(include_url=False, include_context=False)
    whole = to_json(value)
    inside = [d for d in details if d["loc"] and (d["input"] != whole or d["type"] == "missing")]
    if inside:
        return _UnfitError(*(_fault_inside(_place(whole, d["loc"]), d["type"], d["msg"], d["input"]) for d in inside))
    guess = nearest(value, _names(parameter.annotation)) if isinstance(value, str) else ()
    hint = f" (did you mean {' or '.join(guess)}?)" if guess else ""
    return _UnfitError(("", f"found {_brief(value)}; expected {parameter.type_text}{hint}"))


def _fault_inside(where: str, fault: str, message: str, found: Any) -> tuple[str, str]:
    if fault == "value_error":  # of a validator that says it all; pydantic's place for a key is "name.[key]"
        return where.removesuffix(".[key]"), message.removeprefix("Value error, ")
    if fault in ("missing", "unexpected_keyword_argument", "extra_forbidden"):
        return where, message.lower()
    return where, f"found {_brief(found)}; expected {message.removeprefix('Input should be ')}"


def _place(value: Any, location: tuple[int | str, ...]) -> str:
    """Write a place inside a value, ``[1].width``, leaving out the names that pydantic gives to branches of a union."""
    where = ""
    for index, part in enumerate(location):
        if isinstance(part, int) and isinstance(value, list) and part < len(value):
            where, value = f"{where}[{part}]", value[part]
        elif isinstance(value, dict) and part in value:
            where, value = f"{where}.{part}", value[part]
        elif isinstance(value, dict) and index == len(location) - 1:
            where = f"{where}.{part}"
    return where


def _names(annotation: Any) -> list[str]:
    """The strings that a type accepts by name."""
    args = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Literal:
        return [a for a in args if isinstance(a, str)]
    return [name for a in args for name in _names(a)]


def _brief(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, a list that contains itself
        text = "a value too large to print"
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def to_json(value: Any) -> Any:
    """Return a value with tuples as lists and dataclasses as dicts, as JSON would bring it back.

    >>> to_json({"size": (7, 7)})
    {'size': [7, 7]}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_json(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value


_BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤", "min_length": "length ≥", "max_length": "length ≤"}


def _type_text(annotation: Any) -> str:  # noqa: PLR0911 - one return for each form that a type has
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        said = next((a.type_text for a in args[1:] if hasattr(a, "type_text")), None)  # one that no type tells
        if said is not None:
            return str(said)
        bounds = [f"{sign} {getattr(a, key)}" for a in args[1:] for key, sign in _BOUNDS.items() if hasattr(a, key)]
        return " ".join([_type_text(args[0]), " and ".join(bounds)]).strip()
    if origin is typing.Literal:
        return " | ".join(repr(a) for a in args)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_type_text(a) for a in args)
    if annotation is types.NoneType:
        return "None"
    if annotation is Ellipsis:
        return "..."
    if origin is not None:
        return f"{getattr(origin, '__name__', origin)}[{', '.join(_type_text(a) for a in args)}]"
    if dataclasses.is_dataclass(annotation):
        fields = typing.get_type_hints(annotation, include_extras=True)
        return "{" + ", ".join(f"{name}: {_type_text(hint)}" for name, hint in fields.items()) + "}"
    return getattr(annotation, "__name__", str(annotation))
