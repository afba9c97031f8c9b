"""Arithmetic on a few whole numbers, and on constants that only change their places: right, or left alone."""

from __future__ import annotations

import pytest
import torch

from zoo.weights.alignment.constants import MAX_GATHERED, Computed, folded
from zoo.weights.alignment.graph import Constant, Node
from zoo.weights.alignment.layers import RESHAPE, Held, Step


def few(*numbers: int | list[int]) -> list[Held]:
    tensors = [torch.tensor(each, dtype=torch.int64) for each in numbers]
    return [Held(Constant("", tuple(each.shape), lambda each=each: each, each.dtype)) for each in tensors]


@pytest.mark.parametrize(
    ("op", "given", "wanted"),
    [
        ("Add", few([2, 3], 4), [6, 7]),
        ("Mul", few([[2], [3]], [[5, 7]]), [[10, 14], [15, 21]]),
        ("Concat", few([1], [], [2, 3]), [1, 2, 3]),
        ("Expand", few(7, [2, 2]), [[7, 7], [7, 7]]),
        ("Expand", few([1, 2], [1]), [1, 2]),
        ("Range", few(3, 0, -1), [3, 2, 1]),
        ("Shape", few([[1, 2, 3]]), [1, 3]),
        ("Size", few([[1, 2, 3]]), 3),
        ("Div", few([7, -7, 7, -7], [2, 2, -2, -2]), [3, -3, -3, 3]),
        ("Mod", few([7, -7, 7, -7], [2, 2, -4, -4]), [1, 1, -1, -3]),
        ("Gather", few([5, 6, 7], [-1, 0]), [7, 5]),
        ("Slice", few([[1, 2], [3, 4], [5, 6]], [-1], [-(1 << 62)], [0], [-1]), [[5, 6], [3, 4], [1, 2]]),
        ("Slice", few([1, 2, 3], [1], [1 << 62]), [2, 3]),
    ],
)
def test_a_few_whole_numbers_are_what_onnx_says(op: str, given: list[Held], wanted: object) -> None:
    made = folded(Node("", op, "", (), ("y",)), given, {})
    assert isinstance(made, Held)
    assert made.values().tolist() == wanted


@pytest.mark.parametrize(
    ("op", "given"),
    [
        ("Range", few(0, -(1 << 40), -1)),
        ("Range", few(0, 5, 0)),
        ("Expand", few(7, [1 << 40, 1 << 20])),
        ("Expand", few(7, [1 << 62, 1 << 62])),
        ("Expand", few(7, [-1])),
        ("Add", few([1, 2], [1, 2, 3])),
        ("Add", few(1, 2, 3)),
        ("Concat", few([0] * 40, [0] * 40)),
        ("Div", few(-(1 << 63), -1)),
        ("Mod", few(1, 0)),
        ("Gather", few([1, 2], 2)),
        ("Gather", few(1, 0)),
        ("Slice", few([1, 2], [0], [1], [1])),
        ("Slice", few([1, 2], [0], [1], [0], [0])),
    ],
)
def test_numbers_that_are_many_or_do_not_go_together_are_not_made(op: str, given: list[Held]) -> None:
    assert isinstance(folded(Node("", op, "", (), ("y",)), given, {}), Computed)


def table(*shape: int, made: bool = False) -> Held:
    numbers = torch.arange(torch.Size(shape).numel()).reshape(shape).float()
    return Held(Constant("table", shape, lambda: numbers, made=made))


def index(*shape: int, last: int = 0) -> Held:
    """Return an index of a shape; where it is large nothing may look at it."""

    def values() -> torch.Tensor:
        numbers = torch.zeros(shape, dtype=torch.int64)
        numbers.view(-1)[-1] = last
        return numbers

    return Held(Constant("index", shape, values, torch.int64))


@pytest.mark.parametrize(
    ("op", "axis", "at", "wanted"),
    [
        ("Gather", 0, index(3, last=1), [[0, 1], [0, 1], [2, 3]]),
        ("Gather", 1, index(3, last=1), [[0, 0, 1], [2, 2, 3]]),
        ("Gather", -1, index(3, last=-1), [[0, 0, 1], [2, 2, 3]]),
        ("GatherND", 0, index(2, 1, last=1), [[0, 1], [2, 3]]),
    ],
)
def test_a_table_is_read_as_onnx_says(op: str, axis: int, at: Held, wanted: object) -> None:
    made = folded(Node("", op, "", (), ("y",), {"axis": axis}), [table(2, 2), at], {})
    assert isinstance(made, Held)
    assert made.values().tolist() == wanted
    assert made.shape == tuple(made.values().shape)
    assert torch.equal(made.seen(made.undone(made.values())), made.values())


@pytest.mark.parametrize(
    ("of", "at", "axis"),
    [
        (table(2, 2), index(MAX_GATHERED), 0),
        (table(2, 2), index(1 << 40, 1 << 40), 0),
        (table(0, 2), index(1 << 40), 1),
        (table(2, 2, made=True), index(2), 0),
        (table(2, 2), index(2), 2),
        (table(), index(2), 0),
        (table(2, 2), table(2), 0),
    ],
    ids=["large", "vast", "of nothing", "filled", "an axis that is not there", "one number", "by no whole numbers"],
)
def test_what_would_be_large_or_makes_no_sense_is_not_read(of: Held, at: Held, axis: int) -> None:
    assert isinstance(folded(Node("", "Gather", "", (), ("y",), {"axis": axis}), [of, at], {}), Computed)


def test_a_constant_gets_no_more_axes_than_a_tensor_can_have() -> None:
    """Else each of thousands of nodes might work through hundreds of thousands of axes."""
    for count, kind in ((62, Held), (63, Computed)):
        node = Node("", "Unsqueeze", "", (), ("y",), {"axes": tuple(range(count))})
        assert isinstance(folded(node, [table(2, 2)], {}), kind)


def test_what_was_read_is_not_read_again() -> None:
    """Each time might make more of it."""
    node = Node("", "Gather", "", (), ("y",), {"axis": 0})
    once = folded(node, [table(2, 2), index(1000)], {})
    assert isinstance(once, Held)
    assert isinstance(folded(node, [once, index(1)], {}), Computed)


def test_a_few_weights_that_are_joined_are_one() -> None:
    node = Node("", "Concat", "", (), ("y",), {"axis": -1})
    parts = [table(2, 1), table(2, 2)]
    made = folded(node, parts, {})
    assert isinstance(made, Held)
    assert made.values().tolist() == [[0, 0, 1], [1, 2, 3]]
    assert made.parts == tuple(parts)
    for others in ([made, table(2, 1)], [table(2, 1), table(3, 1)], [table(2, 1), table(2)], [table(1)] * 17):
        assert isinstance(folded(node, others, {}), Computed)
    turned = table(2, 1).then(*[Step(RESHAPE, (2, 1))] * 40)
    assert isinstance(folded(node, [turned, table(2, 1)], {}), Held)
    assert isinstance(folded(node, [turned, turned], {}), Computed)
    read = folded(Node("", "Gather", "", (), ("y",)), [table(2, 1), index(2)], {})
    assert isinstance(folded(node, [read, table(2, 1)], {}), Computed)
    vast = Held(Constant("v", (2, MAX_GATHERED), None))
    assert isinstance(folded(node, [vast, table(2, 1)], {}), Computed)


def test_a_mask_that_the_graph_makes_has_a_shape_and_no_values() -> None:
    filled = Held(Constant("z", (8, 8), lambda: torch.zeros(8, 8), made=True))
    written = folded(Node("", "ScatterND", "", (), ("w",)), [filled, *few([[0]]), table(1, 8)], {})
    part = folded(Node("", "Slice", "", (), ("p",)), [written, *few([0], [-4], [1])], {})
    assert isinstance(part, Held)
    assert part.shape == (8, 4)
    assert part.constant.values is None
    with pytest.raises(ValueError, match="'p' has no values"):
        part.values()
