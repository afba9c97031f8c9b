"""What a graph makes of constants alone: seen through where it only turns them round, given up where it computes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from zoo.weights.alignment.arithmetic import evaluated, places, stated, whole
from zoo.weights.alignment.graph import Constant, Node, filling
from zoo.weights.alignment.layers import GATHER, RESHAPE, TRANSPOSE, UNIT, Held, Step
from zoo.weights.regions import MAX_DIMS

MAX_FILLED = 1 << 31
"""How many numbers a constant may be filled with that the graph does not hold."""

MAX_GATHERED = 1 << 24
"""How many numbers a constant may have once its entries are gathered, or others are joined to it."""

MAX_PARTS = 16
"""Of how many weights one may be joined."""

MAX_TURNS = 64
"""How often one constant may be turned or reshaped: each time costs as much as all those before it."""

_SAME = ("Identity", "Cast", "CastLike", "Dropout")
_MASKING = {"Equal": 2, "Not": 1, "ScatterND": 1, "Slice": 1, "Sub": 2, "Where": 3}
"""What makes a mask of one that was filled, and how many inputs tell its shape."""


@dataclass(frozen=True)
class Computed:
    """What a graph computes of constants or of shapes.

    Attributes:
        shape_like: whether it is a shape, or a number that one is made of.
        parameters: the tensors of ours that it is computed of.
        number: whether it is computed of single numbers alone.
        length_of: the constant whose length it is, and along which axes; None for one that was computed beforehand.
    """

    shape_like: bool
    parameters: frozenset[str] = frozenset()
    number: bool = False
    length_of: tuple[Held | None, tuple[int, ...]] | None = None


def folded(node: Node, inputs: Sequence[Held | Computed | None], constants: dict[str, Constant]) -> Held | Computed:
    """Return what a node makes of constants.

    Args:
        node: the node.
        inputs: what it takes; None for what is left out.
        constants: the tensors that the graph holds.
    """
    first = inputs[0] if inputs else None
    if node.op in ("Shape", "Size"):
        return _shape(node, first) if isinstance(first, Held) else Computed(shape_like=True)
    seen = _seen(node, first, inputs, constants) if isinstance(first, Held) else None
    if seen is not None:
        return seen
    made = evaluated(node, inputs) or _shaped(node, inputs) or _joined(node, inputs)
    if made is not None:
        return made
    given = [each for each in inputs if each is not None]
    parameters = frozenset(name for each in given for name in each.parameters)
    from_shapes = any(isinstance(each, Computed) and each.shape_like for each in given)
    makes_numbers = node.op in ("Expand", "ConstantOfShape") or not from_shapes
    number = all(each.count == 1 if isinstance(each, Held) else each.number for each in given)
    shape_like = from_shapes and not makes_numbers
    return Computed(shape_like, parameters, number, _length(node, inputs))


def _seen(
    node: Node, held: Held, inputs: Sequence[Held | Computed | None], constants: dict[str, Constant]
) -> Held | Computed | None:
    """Return a constant as it is behind a node that leaves its numbers, or their direction, as they are."""
    if node.op in _SAME or (node.op == "Expand" and held.count > 1 and held.shape[0] == 1):  # for each sample, say
        return held
    if _changes_nothing(node, held, inputs):
        return held
    step = turned(node, held, inputs) or _gathered(node, held, inputs)
    if step is not None:
        return held.then(step)
    if node.op == "ConstantOfShape":
        return _filled(node, held, constants)
    other = inputs[1] if len(inputs) > 1 else None
    length = other.length_of if node.op == "Div" and isinstance(other, Computed) else None
    return held.then(Step(UNIT, length[1])) if length is not None and length[0] in (held, None) else None


def _length(node: Node, inputs: Sequence[Held | Computed | None]) -> tuple[Held | None, tuple[int, ...]] | None:
    """Return the constant whose length a node gives, kept above zero or repeated on the way, and along which axes."""
    first = inputs[0] if inputs else None
    if node.op == "ReduceL2" and isinstance(first, Held):
        return first, node.ints("axes") or (whole(inputs[1]) if len(inputs) > 1 else None) or ()
    if node.op not in (*_SAME, "Clip", "Max", "Expand"):
        return None
    if isinstance(first, Held) and first.constant.floating and len(first.shape) == 2 and sorted(first.shape)[0] == 1:
        return None, tuple(axis for axis, n in enumerate(first.shape) if n == 1)  # an optimiser came half the way
    return next((each.length_of for each in inputs if isinstance(each, Computed) and each.length_of), None)


def _shaped(node: Node, inputs: Sequence[Held | Computed | None]) -> Held | None:
    """Return what a graph makes of a constant that it filled itself, as a mask: of that only the shape is known."""
    count = _MASKING.get(node.op, 0)
    given = [each for each in inputs[:count] if isinstance(each, Held)]
    if not count or len(given) < count or any(_is_weight(node, each) for each in given):
        return None
    dtype = torch.bool if node.op in ("Equal", "Not") else given[-1].constant.dtype
    if not (dtype.is_floating_point or dtype == torch.bool):
        return None
    try:
        shape = list(torch.broadcast_shapes(*(each.shape for each in given)))  # type: ignore[no-untyped-call]
        if node.op == "Slice":
            told = [whole(each) for each in inputs[1:]]
            if any(each is None for each in told):
                return None
            for axis, left in places(tuple(shape), *(each for each in told if each is not None)):
                shape[axis] = len(left)
    except (RuntimeError, ValueError, TypeError, IndexError):  # they do not go together
        return None
    return Held(Constant(node.outputs[0], tuple(shape), None, dtype)) if math.prod(shape) > 1 else None


def _joined(node: Node, inputs: Sequence[Held | Computed | None]) -> Held | None:
    """Return what a graph joins of a few weights, as the biases of queries, keys and values."""
    parts = tuple(each for each in inputs if isinstance(each, Held) and each.constant.floating)
    if node.op != "Concat" or not 1 < len(parts) <= MAX_PARTS or len(parts) < len(inputs):
        return None
    if any(each.parts or each.index is not None for each in parts) or sum(len(p.steps) for p in parts) > MAX_TURNS:
        return None  # each time that they are looked at they are made anew
    first, *others = (part.shape for part in parts)
    axis = int(node.number("axis", 0))
    if not -len(first) <= axis < len(first):
        return None
    axis %= len(first)
    rest = (*first[:axis], *first[axis + 1 :])
    if any(len(each) != len(first) or (*each[:axis], *each[axis + 1 :]) != rest for each in others):
        return None
    shape = (*first[:axis], sum(part.shape[axis] for part in parts), *first[axis + 1 :])
    if math.prod(shape) > MAX_GATHERED:
        return None
    known = all(part.constant.values is not None for part in parts)
    values = (lambda: torch.cat([part.values() for part in parts], axis)) if known else None
    constant = Constant(node.outputs[0], shape, values, parts[0].constant.dtype, made=True)
    return Held(constant, parts=parts, axis=axis)


def _is_weight(node: Node, held: Held) -> bool:
    """Tell whether a constant is one that the graph holds, more than a number and not about to be written into."""
    made = held.count == 1 or held.constant.made or held.constant.values is None or node.op == "ScatterND"
    return held.constant.parameter is not None or not made


def _shape(node: Node, held: Held) -> Held:
    if node.op == "Size":
        return stated(node, torch.tensor(held.count))
    start, end = (int(node.number(key, default)) for key, default in (("start", 0), ("end", len(held.shape))))
    return stated(node, torch.tensor(held.shape[start:end], dtype=torch.int64))


def _changes_nothing(node: Node, held: Held, inputs: Sequence[Held | Computed | None]) -> bool:
    """Tell whether a node joins a single constant, or expands it to what it is already."""
    if node.op in ("Concat", "Max", "Min"):
        return len(inputs) == 1
    wanted = whole(inputs[1]) if node.op == "Expand" and len(inputs) > 1 else None
    if wanted is None or len(wanted) > len(held.shape):
        return False
    ends = held.shape[len(held.shape) - len(wanted) :]
    return held.count > 1 and all(n in (1, here) for n, here in zip(wanted, ends, strict=True))


def _gathered(node: Node, held: Held, inputs: Sequence[Held | Computed | None]) -> Step | None:
    """Return how a node reads a table: entries along one axis, by an index that the graph holds.

    What was gathered is not gathered again, nor what is made each time, so that reading it takes no more than its size.
    """
    index = inputs[1] if len(inputs) > 1 else None
    if not isinstance(index, Held) or index.constant.floating or not held.constant.floating or not held.shape:
        return None
    if held.index is not None or held.constant.made or index.constant.made:
        return None
    axis = 0
    if node.op == "Gather":
        axis = int(node.number("axis", 0))
    elif node.op == "GatherND" and not node.number("batch_dims", 0) and index.shape[-1:] == (1,):
        index = index.then(Step(RESHAPE, index.shape[:-1]))
    else:
        return None
    if not -len(held.shape) <= axis < len(held.shape):
        return None
    step = Step(GATHER, (axis % len(held.shape),), index)
    return step if 0 < math.prod(step.shape(held.shape)) <= MAX_GATHERED else None


def turned(node: Node, held: Held, inputs: Sequence[Held | Computed | None]) -> Step | None:
    """Return how a node transposes or reshapes a constant, if that is what it does.

    Args:
        node: the node.
        held: the constant.
        inputs: all that it takes.
    """
    shape = held.shape
    if node.op == "Transpose":
        return Step(TRANSPOSE, tuple(node.ints("perm", tuple(reversed(range(len(shape)))))))
    if node.op not in ("Reshape", "Unsqueeze", "Squeeze", "Flatten"):
        return None
    told = whole(inputs[1]) if len(inputs) > 1 else None
    axes = node.ints("axes") or told or ()
    if node.op == "Reshape":
        wanted = list(node.ints("shape") or told or ())
        wanted = [shape[i] if n == 0 and i < len(shape) else n for i, n in enumerate(wanted)]
        if wanted.count(-1) == 1:
            known = math.prod(n for n in wanted if n != -1)
            wanted[wanted.index(-1)] = held.count // known if known else 0
        new = tuple(wanted)
    elif node.op == "Unsqueeze":
        rank = len(shape) + len(axes)
        places = {axis % rank for axis in axes} if rank else set()
        rest = iter(shape)
        new = tuple(1 if axis in places else next(rest, 1) for axis in range(rank))
    elif node.op == "Squeeze":
        places = {axis % len(shape) for axis in axes} if shape else set()
        new = tuple(n for axis, n in enumerate(shape) if not (axis in places or (not axes and n == 1)))
    else:
        axis = int(node.number("axis", 1))
        new = (math.prod(shape[:axis]), math.prod(shape[axis:]))
    return Step(RESHAPE, new) if len(new) <= MAX_DIMS and math.prod(new) == held.count else None


def _filled(node: Node, shape: Held, constants: dict[str, Constant]) -> Held | Computed:
    dims = whole(shape)
    if dims is None or min(dims, default=0) < 0 or math.prod(dims) > MAX_FILLED:
        return Computed(shape_like=False)
    filler = constants.get(filling(node))
    value = filler.values() if filler is not None and filler.values is not None else torch.zeros(1)
    name = node.outputs[0]
    constant = Constant(name, dims, lambda: value.reshape(-1)[0].expand(dims).contiguous(), value.dtype, made=True)
    return Held(constant)
