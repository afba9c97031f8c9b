"""Rules: what each does to tensors in both directions, what they copy, and what is refused where it is written."""

from __future__ import annotations

import pickle

import pytest
import torch

from zoo.errors import RuleError
from zoo.weights.keymaps.keymap import (
    Constant,
    Default,
    Join,
    Keymap,
    NoCounterpart,
    Permute,
    Rename,
    Reshape,
    Rule,
    Split,
    Table,
)
from zoo.weights.keymaps.layouts import Misfit
from zoo.weights.parity import bit_equal

WHY = "because"


def numbered(*shape: int) -> torch.Tensor:
    return torch.arange(float(torch.Size(shape).numel())).reshape(shape)


def shares_memory(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


# What they do.

LAYOUTS = [
    ((), (3, 4), (3, 4)),
    ((Reshape(theirs=(0, -1, 7, 7), ours=(0, -1)),), (8, 2, 7, 7), (8, 98)),
    ((Reshape(theirs=(0, 0, 1, 1), ours=(0, 0)),), (8, 6, 1, 1), (8, 6)),
    ((Reshape(theirs=(-1,), ours=(2, -1)),), (6,), (2, 3)),
    ((Reshape(theirs=(), ours=(1,)),), (), (1,)),
    ((Permute((1, 0)),), (2, 3), (3, 2)),
    ((Permute((2, 0, 1)),), (2, 3, 4), (4, 2, 3)),
    # The flattened map of a channels-last library: height, width, channels there; channels, height, width here.
    (
        (Reshape(theirs=(0, -1), ours=(0, 2, 3, 4)), Permute((0, 3, 1, 2)), Reshape(theirs=(0, 4, 2, 3), ours=(0, -1))),
        (5, 24),
        (5, 24),
    ),
]


@pytest.mark.parametrize(("layout", "theirs", "ours"), LAYOUTS, ids=range(len(LAYOUTS)))
def test_a_layout_turns_theirs_into_ours_as_a_view_and_back_bit_for_bit(layout, theirs, ours) -> None:
    rule = Rename("a", "b", layout=layout)
    tensor = numbered(*theirs)
    (there,) = rule.convert((tensor,), "ours")
    assert tuple(there.shape) == ours
    (back,) = rule.convert((there,), "theirs")
    assert bit_equal(back, tensor)
    if len(layout) < 2:
        assert shares_memory(there, tensor)
    if not layout:
        assert there is tensor


def test_a_channels_last_kernel_reads_each_number_where_it_belongs() -> None:
    layout = LAYOUTS[-1][0]
    theirs = numbered(5, 24)  # out × (height 2, width 3, channels 4)
    (ours,) = Rename("a", "b", layout=layout).convert((theirs,), "ours")
    expected = theirs.reshape(5, 2, 3, 4).permute(0, 3, 1, 2).reshape(5, 24)
    assert torch.equal(ours, expected)
    assert not torch.equal(ours, theirs)


PARTS = [
    (None, 0, [(2, 3), (2, 3), (2, 3)], (6, 3)),
    (None, 1, [(4, 1, 2), (4, 1, 2), (4, 1, 2)], (4, 3, 2)),
    ((1, 4, 2), 0, [(1, 3), (4, 3), (2, 3)], (7, 3)),
    ((2, 1, 1), 0, [(2,), (1,), (1,)], (4,)),
]


@pytest.mark.parametrize("kind", [Split, Join])
@pytest.mark.parametrize(("sizes", "axis", "parts", "whole"), PARTS, ids=range(len(PARTS)))
def test_one_is_cut_into_several_as_views_and_several_are_joined_in_order(kind, sizes, axis, parts, whole) -> None:
    names = ("q", "k", "v")
    rule = Split("qkv", names, axis, sizes) if kind is Split else Join(names, "qkv", axis, sizes)
    cut, joined = ("ours", "theirs") if kind is Split else ("theirs", "ours")
    tensor = numbered(*whole)
    found = rule.convert((tensor,), cut)
    assert [tuple(part.shape) for part in found] == parts
    assert all(shares_memory(part, tensor) for part in found)
    assert torch.equal(found[0], tensor.narrow(axis, 0, parts[0][axis]))
    (back,) = rule.convert(found, joined)
    assert bit_equal(back, tensor)


def test_a_constant_is_made_in_the_shape_that_is_needed_and_left_out_again() -> None:
    rule = Constant("b.bias", 0.5, "float16", WHY)
    made = rule.made((2, 3))
    assert bit_equal(made, torch.full((2, 3), 0.5, dtype=torch.float16))
    made[0, 0] = 7  # memory of its own, each number once
    assert made.sum() == 7 + 5 * 0.5
    assert rule.convert((torch.full((4,), 0.5, dtype=torch.float64),), "theirs") == ()


def test_a_constant_that_holds_something_else_may_not_be_lost_unless_it_says_so() -> None:
    with pytest.raises(Misfit, match=r"it holds something else than 0\.5"):
        Constant("b", 0.5, "float32", WHY).convert((torch.tensor([0.5, 0.25]),), "theirs")
    assert Constant("b", 0.5, "float32", WHY, checked=False).convert((torch.tensor([0.5, 0.25]),), "theirs") == ()


def test_what_has_no_counterpart_is_left_out_and_with_a_value_made_again() -> None:
    lost = NoCounterpart("aux.{rest...}", WHY)
    assert lost.convert((torch.randn(3),), "ours") == ()
    assert lost.one_way == WHY
    kept = NoCounterpart("mean", WHY, value=((0.5,), (0.25,)), dtype="float32")
    assert kept.one_way == ""
    assert kept.convert((torch.tensor([[0.5], [0.25]]),), "ours") == ()
    assert bit_equal(kept.made(), torch.tensor([[0.5], [0.25]]))
    assert tuple(NoCounterpart("zeros", WHY, value=0, dtype="int64", shape=(2, 2)).made().shape) == (2, 2)
    with pytest.raises(Misfit, match="it holds something else than"):
        kept.convert((torch.tensor([[0.5], [0.5]]),), "ours")
    with pytest.raises(Misfit, match=r"found the shape \(2,\); expected \(2, 1\)"):
        kept.convert((torch.tensor([0.5, 0.25]),), "ours")


def test_limits_of_one_side_hold_for_the_other() -> None:
    rule = Rename("layers.{i}.{leaf:weight|bias}", "stage{i-1}.{leaf}")
    assert rule.match("theirs", "layers.0.weight") == []
    assert rule.match("theirs", "layers.1.weight") == [{"i": 1, "leaf": "weight"}]
    assert rule.match("ours", "stage0.running_mean") == []
    assert rule.keys("ours", {"i": 1, "leaf": "bias"}) == ("stage0.bias",)
    assert Rename("{i+1}", "{i+1}").match("theirs", "0") == [{"i": -1}]


def test_rules_are_values_that_can_be_compared_printed_and_sent_to_other_processes() -> None:
    rule = Split("a.{i}", ("b.{i}", "c.{i}"), axis=1)
    again = pickle.loads(pickle.dumps(rule))
    assert again == rule == Split("a.{i}", ("b.{i}", "c.{i}"), axis=1)
    assert hash(again) == hash(rule)
    assert str(rule) == "Split a.{i} ↔ b.{i}, c.{i}"
    assert str(Constant("b", 0, "int64", WHY)) == "Constant b"
    assert str(Default("b", 0, "int64", WHY)) == "Default b"


# What does not fit.

MISFITS = [
    (
        Rename("a", "b", (Reshape((0, -1, 7, 7), (0, -1)),)),
        "ours",
        [(8, 2, 5, 5)],
        "found the shape (8, 2, 5, 5); expected (0, -1, 7, 7)",
    ),
    (
        Rename("a", "b", (Reshape((0, -1, 7, 7), (0, -1)),)),
        "theirs",
        [(8, 50)],
        "whose 400 numbers do not fill (0, -1, 7, 7)",
    ),
    (Rename("a", "b", (Reshape((0, -1, 7, 7), (0, -1)),)), "theirs", [(8,)], "found the shape (8,); expected (0, -1)"),
    (Rename("a", "b", (Reshape((-1,), (2, -1)),)), "ours", [(5,)], "whose 5 numbers do not fill (2, -1)"),
    (Rename("a", "b", (Permute((1, 0)),)), "ours", [(2, 3, 4)], "found 3 axes; expected 2"),
    (Split("a", ("b", "c")), "ours", [(5, 2)], "found 5 along axis 0, which cannot be cut into 2 equal parts"),
    (Split("a", ("b", "c"), sizes=(1, 3)), "ours", [(5, 2)], "found 5 along axis 0; expected 1 + 3"),
    (Split("a", ("b", "c"), axis=2), "ours", [(5, 2)], "found 2 axes; expected one to cut at 2"),
    (
        Split("a", ("b", "c")),
        "theirs",
        [(2, 2), (2, 3)],
        "found the shapes (2, 2) and (2, 3); expected them to agree but for axis 0",
    ),
    (Split("a", ("b", "c")), "theirs", [(2,), (2, 3)], "expected them to agree but for axis 0"),
    (Split("a", ("b", "c")), "theirs", [(), ()], "expected them to agree but for axis 0"),
    (Split("a", ("b", "c")), "theirs", [(2, 2), (3, 2)], "found 2 and 3 along axis 0; expected equal sizes"),
    (Join(("b", "c"), "a", sizes=(1, 3)), "ours", [(2, 2), (2, 2)], "found 2 and 2 along axis 0; expected 1 and 3"),
]


@pytest.mark.parametrize(("rule", "towards", "shapes", "why"), MISFITS, ids=range(len(MISFITS)))
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_tensors_that_are_not_what_a_rule_speaks_of_are_told(rule: Rule, towards, shapes, why: str, device) -> None:
    with pytest.raises(Misfit) as raised:
        rule.convert(tuple(torch.zeros(shape, device=device) for shape in shapes), towards)
    assert why in str(raised.value)


def test_parts_of_different_precision_are_not_joined() -> None:
    with pytest.raises(Misfit, match=r"found the dtypes torch.float16 and torch.float32; expected one"):
        Join(("b", "c"), "a").convert((torch.zeros(2), torch.zeros(2).half()), "ours")


def test_a_value_that_does_not_fill_a_shape_is_told() -> None:
    with pytest.raises(Misfit, match=r"the value \(1, 2\) does not fill the shape \(3,\)"):
        Constant("b", (1, 2), "float32", WHY).made((3,))


# What cannot be written.

LENET = {"backbone": "lenet"}
A, B = Rename("a.{i}", "x.{i}"), Rename("b.{i}", "y.{i}")

REFUSED = [
    (
        lambda: Rename("a.{i}", "b.{j}"),
        "Rename a.{i} ↔ b.{j}: the placeholders differ: 'a.{i}' has {i}, 'b.{j}' has {j}; all need the same",
    ),
    (lambda: Rename("a.{i}", "b"), "'a.{i}' has {i}, 'b' has none"),
    (lambda: Rename("a.{rest}", "b.{rest...}"), "'a.{rest}' has {rest}, 'b.{rest...}' has {rest...}"),
    (lambda: Join(("a.{i}", "b"), "c.{i}"), "'a.{i}' has {i}, 'b' has none"),
    (lambda: Rename("a.{x", "b"), "Rename a.{x ↔ b: 'a.{x': 'a.{x' in it holds a brace"),
    (lambda: Rename("a.{leaf:b|c}", "d.{leaf:b|d}"), "the choices of {leaf} differ; state them once"),
    (lambda: Rename("a", "b", layout=Reshape((1,), (1, 1))), "expected a tuple of Reshape and Permute"),
    (lambda: Rename("a", "b", layout=(lambda t: t,)), "expected a tuple of Reshape and Permute"),
    (lambda: Reshape((-1, -1), (2,)), "found (-1, -1); expected a tuple of sizes, 0 and at most one -1"),
    (lambda: Reshape((2, -3), (2,)), "found (2, -3); expected a tuple of sizes"),
    (lambda: Reshape([2], (2,)), "found [2]; expected a tuple of sizes"),
    (lambda: Reshape((True,), (1,)), "found (True,); expected a tuple of sizes"),
    (lambda: Reshape((0, 4), (4, 0)), "0 has to stand at the same places on both sides"),
    (lambda: Reshape((0, 4), (0, 5)), "the sides hold 4 and 5 numbers"),
    (lambda: Permute((0, 2)), "found (0, 2); expected each axis once, from 0"),
    (lambda: Split("a", ("b",)), "found ('b',) for the parts; expected a tuple of at least two patterns"),
    (lambda: Split("a", "bc"), "found 'bc' for the parts; expected a tuple of at least two patterns"),
    (lambda: Join(("a", "b"), "c", axis=-1), "found axis=-1; expected a number from 0"),
    (lambda: Join(("a", "b"), "c", sizes=(1, 2, 3)), "found sizes=(1, 2, 3); expected a size for each of the 2 parts"),
    (lambda: Join(("a", "b"), "c", sizes=(0, 2)), "found sizes=(0, 2); expected a size for each of the 2 parts"),
    (lambda: Constant("a", 0, "float31", WHY), "Constant a: found dtype='float31'; expected a name such as 'float32'"),
    (lambda: Constant("a", 0, "nn", WHY), "found dtype='nn'; expected a name such as 'float32'"),
    (lambda: Constant("a", "0", "int64", WHY), "found the value '0'; expected a number or tuples of numbers"),
    (lambda: Constant("a", ((1,), (1, 2)), "int64", WHY), "expected a number or tuples of numbers"),
    (lambda: Constant("a", 0.5, "int64", WHY), "the value 0.5 is no int64"),
    (lambda: Constant("a", 0, "int64", " "), "found why=' '; say why in words"),
    (lambda: Default("a", 0, "int64", ""), "Default a: found why=''; say why in words"),
    (lambda: NoCounterpart("a", ""), "NoCounterpart a: found why=''; say why in words"),
    (
        lambda: NoCounterpart("a.{i}", WHY, value=0, dtype="int64"),
        "it has a value and placeholders, so that going back",
    ),
    (lambda: NoCounterpart("a", WHY, value=0, dtype="int64", optional=True), "and is optional; choose one"),
    (lambda: NoCounterpart("a", WHY, value=0), "found dtype=None; expected a name such as 'float32'"),
    (lambda: NoCounterpart("a", WHY, value=(1, 2), dtype="int64", shape=(3,)), "does not fill the shape (3,)"),
    (lambda: Table(rules=(A,), backbone=None), "Table: backbone is None; expected the name of a component"),
    (lambda: Table(rules=(A,), backbone="lenet", neck=3), "Table: neck is 3; expected the name of a component"),
    (lambda: Table(rules=(), **LENET), "backbone lenet: rules is (); expected a tuple of rules, one at least"),
    (lambda: Table(rules=A, **LENET), "expected a tuple of rules, one at least"),
    (lambda: Table(rules=(A, len), **LENET), "expected a tuple of rules, one at least"),
    (
        lambda: Table(rules=(A, Rename("a.7", "z")), **LENET),
        "Rename a.7 ↔ z: it claims the key 'a.7' of theirs as does Rename a.{i} ↔ x.{i}; a key can have one rule alone",
    ),
    (
        lambda: Table(rules=(A, Rename("c.{i}", "x.{i+3}")), **LENET),
        "it claims the key 'x.3' of ours as does Rename a.{i} ↔ x.{i}",
    ),
    (lambda: Table(rules=(A, NoCounterpart("{rest...}", WHY)), **LENET), "it claims the key 'a.0' of theirs as does"),
    (lambda: Table(rules=(A, Constant("x.1", 0, "int64", WHY)), **LENET), "it claims the key 'x.1' of ours as does"),
    (
        lambda: Table(rules=(A, Default("x.1", 0, "int64", WHY), Default("{name}.1", 1, "int64", WHY)), **LENET),
        "it claims the key 'x.1' of ours as does Default x.1",
    ),
    (
        lambda: Table(rules=(Join(("a.{i}", "a.{i+1}"), "b.{i}"),), **LENET),
        "of theirs twice; a key can have one rule alone",
    ),
    (lambda: Keymap("", (Table(rules=(A,), **LENET),)), "Keymap: library is ''; expected the name of a library"),
    (lambda: Keymap("acme", ()), "Keymap acme: tables is (); expected a tuple of Table"),
    (lambda: Keymap("acme", [Table(rules=(A,), **LENET)]), "expected a tuple of Table"),
    (
        lambda: Keymap("acme", (Table(rules=(A,), **LENET), Table(rules=(B,), backbone="LeNet"))),
        "Keymap acme: two tables are for backbone LeNet; make them one",
    ),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_cannot_be_is_refused_where_it_is_written(make, message: str) -> None:
    with pytest.raises(RuleError) as raised:
        make()
    assert message in str(raised.value)
    assert str(raised.value) == f"{raised.value.rule}: {raised.value.reason}"


def test_a_default_may_stand_beside_the_rule_for_the_same_key() -> None:
    Table(rules=(A, Default("x.{i}", 0, "int64", WHY)), **LENET)
