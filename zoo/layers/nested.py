"""Parts within parts: the type of a parameter that takes a part of its own, such as a head among several."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import MinLen
from pydantic import AfterValidator, Field, WithJsonSchema

if TYPE_CHECKING:
    from torch import nn

    from zoo.features import Feature
NAME = "^[A-Za-z_][A-Za-z0-9_]*$"
"""What a module below another may be called."""

PART_MARK = "x-zoo-part"
"""What stands in the schema of a parameter that is a part: the kind of it."""


@dataclass(frozen=True)
class NestedSpec:
    """What a spec states of a part within a part: its kind, and a dict or a name that is still to be checked."""

    kind: str
    given: Any


@dataclass(frozen=True)
class Nested:
    """Marks the type of a parameter as a part: a spec states a dict with a ``type``, the component gets what builds it.

    Attributes:
        kind: ``"neck"``, ``"bottleneck"`` or ``"head"``.
    """

    kind: str

    @property
    def type_text(self) -> str:
        """How messages call the type."""
        return f"{self.kind} {{type, …}}"

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Take anything but None, for whoever parses the spec to check."""
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            self._stated, serialization=core_schema.plain_serializer_function_ser_schema(_given)
        )

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        """Leave a mark, for whoever makes the schema to put that of the part in its place."""
        return {PART_MARK: self.kind}

    def _stated(self, given: Any) -> NestedSpec:
        if given is None:
            raise ValueError(f"found None; expected a {self.kind}, a dict with a 'type'")
        return NestedSpec(self.kind, given)


def _given(stated: NestedSpec) -> Any:
    return stated.given


def module_name(name: str) -> str:
    """Return a name that a module below another can have.

    Raises:
        ValueError: torch does not allow it.

    >>> module_name("boxes")
    'boxes'
    """
    from torch import nn

    if not re.fullmatch(NAME, name) or hasattr(nn.ModuleDict(), name):
        raise ValueError(f"{name!r} cannot name a module; take letters, digits and _, and no word of torch's")
    return name


ModuleName = Annotated[str, AfterValidator(module_name), WithJsonSchema({"type": "string", "pattern": NAME})]
"""A name that a module below another can have."""

MakeNeck = Annotated[Callable[[tuple["Feature", ...]], "nn.Module"], Nested("neck")]
"""Stated as a neck; the component gets what builds it from the features that go into it."""

MakeBottleneck = Annotated[Callable[[tuple["Feature", ...]], "nn.Module"], Nested("bottleneck")]
"""The same for a bottleneck."""

MakeHead = Annotated[Callable[[tuple["Feature", ...]], "nn.Module"], Nested("head")]
"""The same for a head."""

MakeHeads = Annotated[dict[ModuleName, MakeHead], MinLen(1), Field(json_schema_extra={"additionalProperties": False})]
"""Several heads by name."""
