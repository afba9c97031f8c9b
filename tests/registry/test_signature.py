"""A signature as a schema: strict, by the rules of JSON, all problems at once."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, MinLen
from hypothesis import given
from hypothesis import strategies as st

from registry import Signature, SignatureError


@dataclasses.dataclass(frozen=True)
class Numbers:
    mean: float = 0.0
    count: int = 1


def example(
    in_features: tuple[int, ...],
    kind: Literal["batch", "group"],
    widths: Annotated[tuple[int, ...], MinLen(1)] = (64, 128),
    ratio: Annotated[float, Ge(0)] = 0.5,
    flag: bool = False,
    numbers: Literal["some"] | Numbers = "some",
    size: int | None = None,
) -> None: ...


SCHEMA = Signature.of(example, ["in_features", "in_channels"])


def problems(**given: Any) -> list[str]:
    return [str(p) for p in SCHEMA.check({"kind": "batch", **given}, "spec.neck", "example")[1]]


def test_what_the_composer_offers_is_not_for_the_spec_to_state() -> None:
    assert SCHEMA.offered == ("in_features",)
    assert [p.name for p in SCHEMA.parameters] == ["kind", "widths", "ratio", "flag", "numbers", "size"]


def test_defaults_are_filled_in_as_values_and_as_json() -> None:
    arguments, found = SCHEMA.check({"kind": "group", "widths": [3]}, "spec.neck", "example")
    assert found == []
    assert arguments.values["widths"] == (3,)
    assert arguments.json == {
        "kind": "group", "widths": [3], "ratio": 0.5, "flag": False, "numbers": "some", "size": None,
    }  # fmt: skip
    assert json.loads(json.dumps(arguments.json)) == arguments.json


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("widths", ["3"], "spec.neck.widths[0]: found '3' (str); expected a valid integer"),
        ("widths", [], "spec.neck.widths: found [] (list); expected tuple[int, ...] length ≥ 1"),
        ("ratio", -1.0, "spec.neck.ratio: found -1.0 (float); expected float ≥ 0"),
        ("ratio", "0.5", "spec.neck.ratio: found '0.5' (str); expected float ≥ 0"),
        ("ratio", float("nan"), "spec.neck.ratio: found nan (float), which JSON cannot say; expected float ≥ 0"),
        ("flag", 1, "spec.neck.flag: found 1 (int); expected bool"),
        ("flag", "true", "spec.neck.flag: found 'true' (str); expected bool"),
        ("size", True, "spec.neck.size: found True (bool); expected int | None"),
        ("size", 2.0, "spec.neck.size: found 2.0 (float); expected int | None"),
        ("kind", "btch", "spec.neck.kind: found 'btch' (str); expected 'batch' | 'group' (did you mean batch?)"),
        ("numbers", {"count": 1.5}, "spec.neck.numbers.count: found 1.5 (float); expected a valid integer"),
        ("size", object, "spec.neck.size: found <class 'object'> (type), which JSON cannot say; expected int | None"),
    ],
)
def test_an_ill_typed_value_is_named_with_what_would_fit(name: str, value: Any, message: str) -> None:
    assert problems(**{name: value}) == [message]


def test_an_unknown_parameter_is_answered_with_the_nearest_and_with_all() -> None:
    assert problems(widhts=[1]) == [
        "spec.neck.widhts: unknown parameter; example takes kind, widths, ratio, flag, numbers, size "
        "(did you mean widths?)"
    ]


def test_all_problems_are_reported_at_once() -> None:
    _, found = SCHEMA.check({"widths": ["a", 2.5], "flag": 0, "sise": 1}, "spec.neck", "example")
    assert [p.path for p in found] == [
        "spec.neck.sise", "spec.neck.kind", "spec.neck.widths[0]", "spec.neck.widths[1]", "spec.neck.flag",
    ]  # fmt: skip
    assert found[1].message == "missing; example needs it (expected 'batch' | 'group')"


@given(st.lists(st.integers(-5, 5), max_size=4), st.booleans() | st.floats() | st.text(max_size=3) | st.none())
def test_what_is_accepted_comes_back_from_json_as_it_was(widths: list[int], size: object) -> None:
    arguments, found = SCHEMA.check({"kind": "batch", "widths": widths, "size": size}, "spec", "example")
    if not found:
        again, none = SCHEMA.check(json.loads(json.dumps(arguments.json)), "spec", "example")
        assert none == []
        assert again == arguments


def _positional(a: int, /) -> None: ...
def _keywords(**kwargs: int) -> None: ...
def _variadic(*args: int) -> None: ...
def _untyped(width=3) -> None: ...
def _unresolvable(width: NoSuchType) -> None: ...  # noqa: F821


@pytest.mark.parametrize(
    ("component", "reason"),
    [
        (_positional, "a: int is not a plain keyword parameter"),
        (_keywords, "**kwargs: int is not a plain keyword parameter"),
        (_variadic, "*args: int is not a plain keyword parameter"),
        (_untyped, "parameter 'width' has no type hint"),
        (_unresolvable, "it cannot be read: name 'NoSuchType' is not defined"),
    ],
)
def test_a_signature_that_is_no_schema_is_refused_with_the_reason(component: Any, reason: str) -> None:
    with pytest.raises(SignatureError) as caught:
        Signature.of(component)
    assert caught.value.reason == reason
    assert component.__name__ in caught.value.target
