"""Plans: every fault is told at once and nothing is touched; applying one and then its inverse changes nothing."""

from __future__ import annotations

import math
import pickle

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import KeymapError
from zoo.weights.keymaps.keymap import (
    Constant,
    Default,
    Join,
    NoCounterpart,
    Permute,
    Rename,
    Reshape,
    Rule,
    Split,
    Table,
)
from zoo.weights.keymaps.plan import KeyProblem, apply_plan, make_plan, told
from zoo.weights.parity import compare

WHY = "because"


def meta(**shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return {name.replace("__", "."): torch.empty(shape, device="meta") for name, shape in shapes.items()}


def facts(plan) -> list[tuple[str, str]]:
    return [(p.fault, p.key) for p in plan.problems]


# What does not fit.

RULES = (
    Rename("conv.{name}", "backbone.conv.{name}"),
    Rename("{part}.weight", "neck.{part}.weight"),
    Join(("q.{i}", "k.{i}"), "qk.{i}"),
    Rename("old", "head.fc"),
    Rename("new.{name}", "head.{name}"),
    Constant("zero", 0, "float32", WHY),
    NoCounterpart("aux.{rest...}", WHY),
    Default("count", 0, "int64", WHY),
    Rename("never.{i}", "never.{i}"),
)


def test_every_fault_is_told_at_once() -> None:
    theirs = {
        **meta(conv__weight=(2, 3), conv__bias=(2,), q__0=(1,), k__0=(1,), q__1=(1,), aux__a__b=(9,)),
        **meta(old=(4,), new__fc=(4,), extra=(1,), norm__weight=(5,)),
        "epoch": 7,
        "sparse": torch.zeros(2, 2).to_sparse(),
    }
    ours = meta(
        backbone__conv__weight=(2, 3), backbone__conv__bias=(3,), qk__0=(2,), qk__1=(2,), head__fc=(4,), zero=(3,),
        count=(), lost=(1,), neck__conv__weight=(2, 3),
    )  # fmt: skip
    plan = make_plan(RULES, theirs, "ours", ours)
    assert facts(plan) == [
        ("no tensor", "epoch"),
        ("no tensor", "sparse"),
        ("ambiguous", "conv.weight"),
        ("unmatched", "extra"),
        ("incomplete", "q.1"),
        ("collision", "head.fc"),
        ("shape", "backbone.conv.bias"),
        ("unexpected", "neck.norm.weight"),
        ("missing", "lost"),
    ]
    details = {p.key: p.detail for p in plan.problems}
    assert details["epoch"] == "found 'int'"
    assert details["sparse"] == "found a tensor that is sparse_coo"
    assert details["conv.weight"] == f"{RULES[0]} and {RULES[1]}"
    assert details["q.1"] == "k.1 is not there (Join q.{i}, k.{i} ↔ qk.{i})"
    assert details["head.fc"] == f"old ({RULES[3]}) and new.fc ({RULES[4]})"
    assert details["backbone.conv.bias"] == "conv.bias makes (2,); the model has (3,)"
    assert details["neck.norm.weight"] == "norm.weight would be it"
    assert [str(rule) for rule in plan.unused] == ["Rename never.{i} ↔ never.{i}"]


def test_tensors_that_a_rule_cannot_convert_are_told_with_the_rule_and_not_as_missing_too() -> None:
    rule = Rename("a", "b", (Reshape((2, 2), (4,)),))
    plan = make_plan((rule,), meta(a=(3, 3)), "ours", meta(b=(4,)))
    assert facts(plan) == [("shape", "a")]
    assert plan.problems[0].detail == "found the shape (3, 3); expected (2, 2) (Rename a ↔ b)"


def test_a_rule_without_a_way_back_is_told_with_its_reason() -> None:
    plan = make_plan(RULES[-3:-1], meta(count=()), "theirs")
    assert facts(plan) == [("unmatched", "count"), ("one-way", "aux.{rest...}")]
    assert plan.problems[1].detail == "because (NoCounterpart aux.{rest...})"
    assert Table(backbone="lenet", rules=RULES[-3:]).one_way == (RULES[-3],)


def test_what_their_models_come_without_is_left_out_going_back() -> None:
    rules = (Rename("a", "b"), NoCounterpart("aux.{rest...}", WHY, optional=True))
    theirs = {"a": torch.ones(2), "aux.weight": torch.ones(3)}
    there = make_plan(rules, theirs, "ours")
    ours, _ = apply_plan(there, theirs)
    assert (there.problems, list(ours)) == ((), ["b"])
    back = make_plan(rules, ours, "theirs")
    assert (back.problems, back.names) == ((), ("a",))


def test_a_value_that_is_another_one_is_found_when_the_plan_is_applied() -> None:
    rules = (Rename("a", "b"), Constant("c", 0, "float32", WHY), NoCounterpart("d", WHY, value=1, dtype="int64"))
    ours = {"b": torch.ones(2), "c": torch.ones(2)}
    plan = make_plan(rules, ours, "theirs")
    assert plan.problems == ()
    made, wrong = apply_plan(plan, ours)
    assert list(made) == ["a", "d"]
    assert wrong == [KeyProblem("value", "c", "it holds something else than 0 (Constant c)")]
    theirs = {"a": torch.ones(2), "d": torch.tensor(2)}
    _, wrong = apply_plan(make_plan(rules, theirs, "ours"), theirs)
    assert [(p.fault, p.key) for p in wrong] == [("value", "d")]


def test_a_constant_that_no_shape_of_the_model_takes_is_told() -> None:
    plan = make_plan((Constant("c", (1, 2), "float32", WHY),), {}, "ours", meta(c=(3,)))
    assert facts(plan) == [("shape", "c")]


def test_a_constant_whose_name_is_made_already_collides_and_a_default_steps_back() -> None:
    theirs, ours = meta(a=(2,)), meta(b=(2,))
    plan = make_plan((Rename("a", "b"), Constant("b", 0, "float32", WHY)), theirs, "ours", ours)
    assert facts(plan) == [("collision", "b")]
    plan = make_plan((Rename("a", "b"), Default("b", 0, "float32", WHY)), theirs, "ours", ours)
    assert (facts(plan), plan.unused) == ([], (Default("b", 0, "float32", WHY),))


def test_text_groups_by_fault_and_stops_after_the_first_keys() -> None:
    problems = [KeyProblem("missing", f"m{n}") for n in range(7)] + [KeyProblem("unmatched", "u", "why")]
    assert told(problems) == "no rule matches 1: u: why\n  nothing makes 7: m0; m1; m2; m3; m4; and 2 more"


def test_the_error_can_be_sent_to_another_process() -> None:
    error = KeymapError("acme", "no", [KeyProblem("missing", "m")], "x.pth")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == "x.pth: keymap 'acme': no"
    assert again.problems == error.problems


# What is done.


def test_the_result_has_the_order_of_the_model() -> None:
    plan = make_plan((Rename("{name}", "x.{name}"),), meta(b=(), c=(), a=()), "ours", meta(x__a=(), x__b=(), x__c=()))
    assert plan.names == ("x.a", "x.b", "x.c")


def test_what_is_renamed_is_the_same_tensor_and_planning_touches_none() -> None:
    tensor = torch.randn(3)
    plan = make_plan((Rename("a", "b"),), {"a": tensor}, "ours")
    assert plan.steps[0].shapes == ((3,),)
    made, _ = apply_plan(plan, {"a": tensor})
    assert made["b"] is tensor


def test_ties_come_out_as_ties() -> None:
    tensor = torch.randn(3)
    theirs = {"a": tensor, "b": tensor}
    made, _ = apply_plan(make_plan((Rename("{name}", "x.{name}"),), theirs, "ours"), theirs)
    assert made["x.a"] is made["x.b"]


# There and back over generated tables.

TAILS = ["w", "{i}", "layer{i}.{name}", "{rest...}", "a.{rest...}.b", "{name}.{i}", "{leaf:weight|bias}", "x{i}_{j}.w"]
AFFINE = ["{i}", "{i+1}", "{2*i}", "{3*i+2}"]
DTYPES = [torch.float32, torch.float16, torch.int64, torch.bool, torch.complex64]
SIZES = st.integers(1, 3)


def random_tensor(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    if dtype == torch.bool:
        return torch.randint(2, shape).bool()
    size = math.prod(shape) * torch.empty(0, dtype=dtype).element_size()
    return torch.randint(256, (size,), dtype=torch.uint8).view(dtype).reshape(shape)


@st.composite
def layouts(draw, shape: tuple[int, ...]) -> tuple[Reshape | Permute, ...]:
    """Draw layouts, one after the other, that a tensor of a shape can go through."""
    found: list[Reshape | Permute] = []
    for _ in range(draw(st.integers(0, 2))):
        if draw(st.booleans()):
            found.append(Permute(tuple(draw(st.permutations(range(len(shape)))))))
            shape = tuple(shape[axis] for axis in found[-1].axes)
        else:
            flat = (-1,) if draw(st.booleans()) else (math.prod(shape),)
            found.append(Reshape(theirs=shape, ours=flat))
            shape = (math.prod(shape),)
    return tuple(found)


@st.composite
def rules(draw, number: int) -> tuple[Rule, dict[str, torch.Tensor]]:
    """Draw a rule whose names begin with a number of its own, and tensors of theirs for it."""
    tail = draw(st.sampled_from(TAILS))
    theirs_tail, ours_tail = (tail.replace("{i}", draw(st.sampled_from(AFFINE))) for _ in range(2))
    theirs, ours = f"t{number}.{theirs_tail}", f"o{number}.{ours_tail}"
    shape = tuple(draw(st.lists(SIZES, min_size=1, max_size=3)))
    dtype = draw(st.sampled_from(DTYPES))
    axis = draw(st.integers(0, len(shape) - 1))
    count = draw(st.integers(2, 3))
    sizes = tuple(draw(st.lists(SIZES, min_size=count, max_size=count))) if draw(st.booleans()) else None
    lengths = sizes or (shape[axis],) * count
    whole = (*shape[:axis], sum(lengths), *shape[axis + 1 :])
    parts = [(*shape[:axis], length, *shape[axis + 1 :]) for length in lengths]
    sides = {
        "rename": lambda: (Rename(theirs, ours, draw(layouts(shape))), [shape]),
        "split": lambda: (Split(theirs, tuple(f"{ours}.p{n}" for n in range(count)), axis, sizes), [whole]),
        "join": lambda: (Join(tuple(f"{theirs}.p{n}" for n in range(count)), ours, axis, sizes), parts),
        "constant": lambda: (Constant(f"o{number}.c", 1, "float32", WHY), []),
        "value": lambda: (NoCounterpart(f"t{number}.v", WHY, value=(1, 2), dtype="int64", shape=(3, 2)), []),
    }
    rule, shapes = sides[draw(st.sampled_from(sorted(sides)))]()
    if isinstance(rule, Constant):
        return rule, {}
    if isinstance(rule, NoCounterpart):
        return rule, {f"t{number}.v": rule.made()}
    tensors = {}
    for i in draw(st.sets(st.integers(0, 12), min_size=1, max_size=3)):
        values = {"i": i, "j": 5, "name": f"n{i}", "rest": f"r{i}.s", "leaf": "bias"}
        names = {p.name for p in rule.patterns("theirs")[0].placeholders}
        keys = rule.keys("theirs", {name: values[name] for name in names})
        tensors |= {key: random_tensor(size, dtype) for key, size in zip(keys, shapes, strict=True)}
    return rule, tensors


@given(st.data(), st.integers(1, 5))
@settings(deadline=None)
def test_applying_a_plan_and_then_its_inverse_changes_nothing(data: st.DataObject, count: int) -> None:
    drawn = [data.draw(rules(number)) for number in range(count)]
    table = Table(backbone="lenet", rules=tuple(rule for rule, _ in drawn))
    theirs = {key: tensor for _, tensors in drawn for key, tensor in tensors.items()}
    before = {key: tensor.clone() for key, tensor in theirs.items()}
    there = make_plan(table.rules, theirs, "ours")
    assert (there.problems, there.unused) == ((), ())
    ours, wrong = apply_plan(there, theirs)
    back = make_plan(table.rules, ours, "theirs")
    assert (wrong, back.problems, back.unused) == ([], (), ())
    again, wrong = apply_plan(back, ours)
    assert wrong == []
    assert compare(theirs, again).differing == ()
    assert compare(theirs, before).differing == ()
    once_more, _ = apply_plan(make_plan(table.rules, again, "ours", ours), again)
    assert compare(ours, once_more).differing == ()
