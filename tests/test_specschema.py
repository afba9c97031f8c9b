"""zoo.schema: a JSON Schema that accepts what zoo accepts, over specs that are right and specs that are not."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Len, Lt, MaxLen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from pydantic import ConfigDict, PositiveInt, ValidationError
from pydantic.dataclasses import dataclass
from torch import nn

import zoo
from registry import Parameter
from registry.signature import to_json
from zoo import kinds
from zoo.errors import BrokenEntryError, SpecError
from zoo.layers import norm as norms
from zoo.layers.nested import PART_MARK
from zoo.spec import named, parse


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Norm:
    """Another Norm than zoo's.

    Attributes:
        power: which one.
    """

    power: PositiveInt


@dataclasses.dataclass(frozen=True)
class Loose:
    """One that a library without pydantic would write."""

    size: tuple[int, int]
    note: str = ""


OURS, LOOSE = norms.Norm(), Loose((1, 2))


def every_type(  # a component that is never built: its signature is what is tested
    in_channels: int,
    in_size: tuple[int, ...] | None,
    needed: Literal["auto", "batch"],
    pair: tuple[int, float] = (1, 0.5),
    three: Annotated[tuple[float, ...], Len(3, 3)] = (0.1, 0.2, 0.3),
    table: dict[str, PositiveInt] | None = None,
    names: Annotated[list[Annotated[str, MaxLen(4)]], MaxLen(2)] = (),
    share: Annotated[float, Ge(0), Lt(1)] = 0.0,
    flag: bool | Literal["auto"] = "auto",
    other: Norm | None = None,
    ours: norms.Norm = OURS,
    loose: Loose = LOOSE,
    anything: Any = None,
) -> nn.Module:
    """Take one parameter of every type.

    Args:
        in_channels: channels of the input.
        needed (a choice): it has no default,
            and its line goes on: here.
        pair: an integer and a number.

    Returns:
        pair: this is no parameter.
    """
    raise NotImplementedError


@pytest.fixture(scope="module", autouse=True)
def component_of_every_type() -> Iterator[None]:
    kinds.backbones.register("every_type", every_type)
    yield
    kinds.backbones.unregister("every_type")


@pytest.fixture(scope="module")
def validator(component_of_every_type: None) -> Draft202012Validator:
    found = zoo.schema()
    Draft202012Validator.check_schema(found)
    return Draft202012Validator(found)


def accepted(spec: object) -> bool:
    try:
        parse(spec)  # type: ignore[arg-type]
    except SpecError:
        return False
    return True


# Whole floats (3.0 is an integer in JSON Schema, not here) and NaN (not JSON) are left out: documented differences.
NUMBERS = [0, 1, 2, 3, 7, 64, -1, 10**6, 0.5, 0.1, 1.5, -0.5, 1e-5]
WORDS = [
    "",
    "auto",
    "batch",
    "group",
    "none",
    "relu",
    "tanh",
    "avg",
    "max",
    "basic",
    "7x7",
    "kaiming",
    "default",
    "long word",
]
LEAVES = st.one_of(st.none(), st.booleans(), st.sampled_from(NUMBERS), st.sampled_from(WORDS))
KEYS = st.sampled_from(["type", "groups", "eps", "momentum", "weight", "std", "bias", "power", "size", "note", "x"])
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6
)
COMPOUNDS = [
    {"type": "group", "groups": 8}, {"type": "batch", "eps": 0, "momentum": 0.5}, {"weight": "normal", "std": 0.1},
    {"weight": "zeros", "bias": "zeros"}, {"power": 2}, {"size": [1, 2]}, {"size": [1, 2], "note": "x", "more": 1},
    {"a": 1, "b": 2}, [1, 0.5], [1], [2, 2], [0.1, 0.2, 0.3], ["ab", "abcd"], [64, 64], {},
]  # fmt: skip

PARTS: dict[str, Any] = {
    "neck": "gap", "bottleneck": {"type": "linear", "out_features": 8}, "head": {"type": "linear", "num_classes": 3},
}  # fmt: skip


@cache
def right(p: Parameter) -> list[Any]:
    """Return values of the type of a parameter, by the word of pydantic and no schema."""
    pool = [*NUMBERS, *WORDS, None, True, False, *COMPOUNDS]
    fit = [] if p.required else [to_json(p.default)]
    told = json.dumps(p.adapter.json_schema())
    if PART_MARK in told:  # a part has to be right within, which the parser tells and not the type
        part = next(PARTS[kind] for kind in PARTS if f'"{PART_MARK}": "{kind}"' in told)
        return [*fit, {"one": part, "two": part} if "patternProperties" in told else part]
    for value in pool:
        with suppress(ValidationError):
            p.adapter.validate_json(json.dumps(value), strict=True)
            fit.append(value)
    return fit


@st.composite
def right_parts(draw: st.DrawFn, kind: str) -> Any:
    registry = kinds.COMPONENTS[kind]
    name = draw(st.sampled_from(registry.names()))
    signature = kinds.signature_of(registry.get(name))
    needed = {p.name: st.sampled_from(right(p)) for p in signature.parameters if p.required}
    others = {p.name: st.sampled_from(right(p)) for p in signature.parameters if not p.required}
    offered = {o: LEAVES for o in signature.offered if o in kinds.OFFERED and draw(st.integers(0, 9)) == 0}
    if not needed and draw(st.booleans()):
        return name
    given = draw(st.fixed_dictionaries(needed, optional={**others, **offered}))
    return {"type": draw(st.sampled_from([name, f"{registry.find(name).provider}:{name}"])), **given}


SIZES = st.none() | st.lists(st.integers(1, 64), min_size=1, max_size=3)


@st.composite
def specs(draw: st.DrawFn) -> Any:
    """Draw a spec that is right, then damage it up to twice; some damages do none."""
    parts = {kind: st.none() | right_parts(kind) for kind in ("neck", "bottleneck", "head")}
    source = st.fixed_dictionaries({}, optional={"channels": st.sampled_from([1, 3]), "size": SIZES}) | st.none()
    extra = {"feature": st.sampled_from(["stage1", None]), "weight": st.sampled_from([0, 0.5])}
    aux = st.none() | st.dictionaries(
        st.sampled_from(["one", "stage2"]), st.fixed_dictionaries({"head": right_parts("head")}, optional=extra)
    )
    optional = {"input": source, **parts, "aux": aux}
    spec = draw(st.fixed_dictionaries({"backbone": right_parts("backbone")}, optional=optional))
    for _ in range(draw(st.sampled_from([0, 1, 1, 2]))):
        spec = damaged(draw, spec)
    return spec


def damaged(draw: st.DrawFn, spec: dict[str, Any]) -> dict[str, Any]:
    kind = draw(st.sampled_from(list(spec) or ["neck"]))
    part, value = spec.get(kind), draw(VALUES | st.sampled_from(COMPOUNDS))
    if isinstance(part, dict) and draw(st.integers(0, 9)):
        known = [p.name for r in kinds.COMPONENTS.values() for n in r.names() for p in
                 kinds.signature_of(r.get(n)).parameters] if draw(st.integers(0, 9)) == 0 else list(part)  # fmt: skip
        key = draw(st.sampled_from([*(known or ["type"]), "chanels", "initialise", "$schema", *kinds.OFFERED]))
        if key in part and draw(st.integers(0, 3)) == 0:
            return {**spec, kind: {k: v for k, v in part.items() if k != key}}
        return {**spec, kind: {**part, key: value}}
    choice = draw(st.integers(0, 3))
    if choice == 0:
        return {key: part for key, part in spec.items() if key != kind}
    if choice == 1:
        return {**spec, draw(st.sampled_from(["bakbone", "", "Neck", "type"])): value}
    names = ["no_such_part", "", ":", *(n for r in kinds.COMPONENTS.values() for n in r.names())]
    return {**spec, kind: draw(st.sampled_from(names)) if choice == 2 else value}


def test_the_schema_accepts_exactly_what_zoo_accepts(validator: Draft202012Validator) -> None:
    seen: Counter[bool] = Counter()

    @settings(max_examples=1500, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(specs())
    def agree(spec: Any) -> None:
        verdict = accepted(spec)
        seen[verdict] += 1
        assert validator.is_valid(spec) == verdict, spec

    agree()
    assert min(seen[True], seen[False]) > 200, seen


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, registry in kinds.COMPONENTS.items() for name in registry.names()]
)
def test_each_parameter_takes_the_same_values_by_both(kind: str, name: str, validator: Draft202012Validator) -> None:
    others = [None, True, False, [], [1], [0], [1, True], [1, "1"], {"std": -1}, {"type": "group", "groups": 0},
              {"type": "group", "groop": 8}, {"weight": "normal", "std": 1}]  # fmt: skip
    signature = kinds.signature_of(kinds.COMPONENTS[kind].get(name))
    nested = [*PARTS.values(), *({"one": part} for part in PARTS.values()), {"one": "gap", "two": {}}, {"1": "gap"}]
    tried = [*NUMBERS, *WORDS, *COMPOUNDS, *others, *nested]
    needed = {p.name: right(p)[0] for p in signature.parameters if p.required}
    verdicts = set()
    for p in signature.parameters:
        for value in tried:
            spec = {"backbone": "mlp", kind: {"type": name, **needed, p.name: value}}
            verdicts.add(accepted(spec))
            assert validator.is_valid(spec) == accepted(spec), spec
    assert verdicts == ({True, False} if signature.parameters else set())


@pytest.mark.parametrize("name", kinds.models.names())
def test_every_named_model_is_valid_as_written_and_normalised(name: str, validator: Draft202012Validator) -> None:
    validator.validate(named(name))
    validator.validate(zoo.normalise(named(name)))


@pytest.mark.parametrize(
    ("spec", "path", "message"),
    [
        ({"backbone": "lent"}, "$.backbone", "'lent' is not one of ['lenet', 'mlp', 'resnet_lite', 'vgg_lite']"),
        ({"backbone": {"type": "lent"}}, "$.backbone.type", "'lent' is not one of ['every_type', 'lenet', 'mlp', "),
        ({"backbone": {"type": "lenet", "chanels": [6]}}, "$.backbone", "'chanels' was unexpected"),
        ({"backbone": {"type": "lenet", "channels": [0]}}, "$.backbone.channels[0]", "0 is less than or equal to "),
        ({"backbone": "mlp", "head": {"type": "linear"}}, "$.head", "'num_classes' is a required property"),
        ({"backbone": "mlp", "neck": {}}, "$.neck", "'type' is a required property"),
        ({"backbone": "mlp", "nek": "gap"}, "$", "'nek' was unexpected"),
        ({}, "$", "'backbone' is a required property"),
    ],
)
def test_a_validator_tells_the_fault_where_it_is(
    spec: object, path: str, message: str, validator: Draft202012Validator
) -> None:
    error = best_match(validator.iter_errors(spec))
    assert error.json_path == path
    assert message in error.message


def taken(kind: str, name: str) -> dict[str, Any]:
    """Return what the schema says of the parameters of one component."""
    full = next(a for a in zoo.schema()["$defs"][kind]["anyOf"] if a["type"] == "object")
    return next(case["then"] for case in full["allOf"] if name in case["if"]["properties"]["type"]["enum"])


def test_docstrings_become_descriptions() -> None:
    found = taken("backbone", "lenet")
    assert found["description"].startswith("Unpadded convolutions, each followed by an activation")
    assert found["properties"]["pool"] == {
        "type": "string", "enum": ["avg", "max"], "default": "avg", "description": "`avg` as in the paper, or `max`.",
    }  # fmt: skip
    properties = taken("backbone", "every_type")["properties"]
    assert properties["needed"]["description"] == "it has no default, and its line goes on: here."
    assert properties["pair"]["description"] == "an integer and a number."
    assert "description" not in properties["share"]
    assert (
        zoo.schema()["$defs"]["Init"]["properties"]["std"]["description"] == "standard deviation, for `normal` alone."
    )


def test_defaults_and_required_parameters_are_told() -> None:
    found = taken("backbone", "every_type")
    assert found["required"] == ["needed"]
    assert found["properties"]["pair"]["default"] == [1, 0.5]
    assert found["properties"]["ours"]["default"] == {"type": "batch", "groups": 32, "eps": 1e-05, "momentum": 0.1}
    assert found["properties"]["table"]["default"] is None
    assert "default" not in found["properties"]["needed"]


def test_what_the_builder_fills_in_is_allowed_and_marked() -> None:
    found = taken("backbone", "lenet")["properties"]
    assert found["in_channels"] == {
        "description": "Filled in from the stage before, leave it out: channels of the input.", "readOnly": True,
    }  # fmt: skip
    assert "initialise" not in found


def test_two_types_of_one_name_stay_apart(validator: Draft202012Validator) -> None:
    definitions = zoo.schema()["$defs"]
    assert sum(name.endswith("Norm") for name in definitions) == 2
    spec = {"backbone": {"type": "every_type", "needed": "auto", "other": {"power": 2}, "ours": {"type": "layer"}}}
    validator.validate(spec)
    assert not validator.is_valid({"backbone": {"type": "every_type", "needed": "auto", "other": {"type": "layer"}}})


def test_models_of_libraries_are_taken_by_the_form_of_their_name(validator: Draft202012Validator) -> None:
    validator.validate({"backbone": "timm:resnet50d", "neck": {"type": "lib:x", "whatever": 1}})
    assert not validator.is_valid({"backbone": "timm:"})


def test_the_key_that_editors_read_is_allowed(validator: Draft202012Validator) -> None:
    validator.validate({"$schema": "zoo.schema.json", "backbone": "mlp"})


def test_documented_differences(validator: Draft202012Validator) -> None:
    for spec in (
        {"backbone": {"type": "mlp", "hidden": [3.0]}},
        {"backbone": {"type": "mlp", "dropout": float("nan")}},
    ):
        assert (validator.is_valid(spec), accepted(spec)) == (True, False)
    other_spelling = {"backbone": "ResNet-Lite"}
    assert (validator.is_valid(other_spelling), accepted(other_spelling)) == (False, True)


def test_a_parameter_whose_type_has_no_schema_is_left_unchecked() -> None:
    def odd(in_channels: int, what: Callable[[], int] | None = None) -> nn.Module:
        raise NotImplementedError

    kinds.necks.register("odd", odd)
    try:
        found = zoo.schema()
        assert "unchecked: what of " in found["$comment"]
        Draft202012Validator(found).validate({"backbone": "mlp", "neck": {"type": "odd", "what": ["anything"]}})
    finally:
        kinds.necks.unregister("odd")


def test_a_type_that_fails_to_describe_itself_makes_its_component_broken() -> None:
    class Odd:
        @classmethod
        def __get_pydantic_core_schema__(cls, *_: Any) -> Any:
            raise RuntimeError("no such thing")

    def odd(in_channels: int, what: int = 3) -> nn.Module:
        raise NotImplementedError

    odd.__annotations__["what"] = Odd
    with pytest.raises(BrokenEntryError, match=r"parameter 'what' is of type Odd, .* RuntimeError: no such thing"):
        kinds.necks.register("odd", odd)


def test_what_is_installed_is_in_it_and_what_is_broken_is_left_out_and_told(python, fleet: Path) -> None:
    done = python("import json, zoo; print(json.dumps(zoo.schema()))", fleet)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    Draft202012Validator.check_schema(found)
    names = found["$defs"]["backbone"]["anyOf"][0]["anyOf"][0]["enum"]
    assert {"tiny", "lenet"} <= set(names)
    assert not {"import-fails", "exits", "malformed", "swallows", "untyped", "not-callable"} & set(names)
    for cause in ("libacme.so is too old", "SystemExit", "package.module:attribute", "Nothing", "broken-zoo 2.0"):
        assert cause in found["$comment"]
    validator = Draft202012Validator(found)
    validator.validate({"backbone": {"type": "tiny", "width": 4}})
    validator.validate({"backbone": {"type": "acme-zoo:tiny", "width": 4}})
    for wrong in (
        {"type": "acme-zoo:tiny", "channels": [4]},
        {"type": "acme-zoo:tiny", "width": 0},
        {"type": "exits"},
    ):
        assert not validator.is_valid({"backbone": wrong})


def test_without_plugins_there_is_nothing_to_comment(python) -> None:
    done = python("import zoo; print(zoo.schema().get('$comment'))", ZOO_PLUGINS="none")
    assert done.stdout == "None\n", done.stderr
