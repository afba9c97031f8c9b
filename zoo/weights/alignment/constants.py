"""What a graph makes of constants alone: seen through where it only turns them round, given up where it computes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from zoo.weights.alignment.graph import Constant, Node, filling
from zoo.weights.alignment.layers import UNIT, Held

MAX_FILLED = 1 << 31
"""How many numbers a constant may be filled with that the graph does not hold."""

MAX_TURNS = 64
"""How often one constant may be turned or reshaped: each time costs as much as all those before it."""

_SAME = ("Identity", "Cast", "CastLike", "Dropout")
_SMALL = 64


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


def small(held: object) -> tuple[float, ...] | None:
    """Return the numbers of a constant that has only a few."""
    if not isinstance(held, Held) or held.count > _SMALL or held.constant.values is None:
        return None
    return tuple(held.values().reshape(-1).tolist())


def whole(held: object) -> tuple[int, ...] | None:
    """Return the whole numbers of a constant that has only a few."""
    numbers = small(held)
    return None if numbers is None else tuple(int(n) for n in numbers)


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
    few = _evaluated(node, inputs)
    if few is not None:
        return few
    given = [each for each in inputs if each is not None]
    parameters = frozenset(
        name
        for each in given
        for name in ([each.constant.parameter] if isinstance(each, Held) else each.parameters)
        if name is not None
    )
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
    steps = _turned(node, held, inputs)
    if steps is not None:
        return held.then(steps)
    if node.op == "ConstantOfShape":
        return _filled(node, held, constants)
    other = inputs[1] if len(inputs) > 1 else None
    length = other.length_of if node.op == "Div" and isinstance(other, Computed) else None
    return held.then((UNIT, length[1])) if length is not None and length[0] in (held, None) else None


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


def _evaluated(node: Node, inputs: Sequence[Held | Computed | None]) -> Held | None:
    """Return what a node makes of a few whole numbers, as exporters write axes, shapes and lengths."""
    compute = _ARITHMETIC.get(node.op)
    few = [each for each in inputs if isinstance(each, Held) and not each.constant.floating and small(each) is not None]
    if compute is None or not few or len(few) < len(inputs):
        return None
    try:
        made = compute(node, *(each.values().long() for each in few))
        return None if made.numel() > _SMALL else _stated(node, made)
    except (RuntimeError, TypeError, ValueError, IndexError):  # they do not go together
        return None


def _shape(node: Node, held: Held) -> Held:
    if node.op == "Size":
        return _stated(node, torch.tensor(held.count))
    start, end = (int(node.number(key, default)) for key, default in (("start", 0), ("end", len(held.shape))))
    return _stated(node, torch.tensor(held.shape[start:end], dtype=torch.int64))


def _stated(node: Node, numbers: torch.Tensor) -> Held:
    numbers = numbers.contiguous()
    return Held(Constant(node.outputs[0], tuple(numbers.shape), lambda: numbers, numbers.dtype))


def _range(_: Node, *numbers: torch.Tensor) -> torch.Tensor:
    start, end, step = (int(each.item()) for each in numbers)
    nearest = min if step > 0 else max
    return torch.arange(start, nearest(end, start + (_SMALL + 1) * step), step)


def _expand(_: Node, value: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
    both = torch.broadcast_shapes(value.shape, tuple(shape.tolist()))  # type: ignore[no-untyped-call] # torch has none
    return value.expand(both)  # a view: it may be vast


_ARITHMETIC: Mapping[str, Callable[..., torch.Tensor]] = {
    "Add": lambda _, left, right: left + right,
    "Sub": lambda _, left, right: left - right,
    "Mul": lambda _, left, right: left * right,
    "Concat": lambda node, *parts: torch.cat(parts, int(node.number("axis", 0))),
    "Expand": _expand,
    "Range": _range,
}


def _turned(node: Node, held: Held, inputs: Sequence[Held | Computed | None]) -> tuple[str, tuple[int, ...]] | None:
    shape = held.shape
    if node.op == "Transpose":
        return "transpose", tuple(node.ints("perm", tuple(reversed(range(len(shape))))))
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
    return ("reshape", new) if math.prod(new) == held.count else None


def _filled(node: Node, shape: Held, constants: dict[str, Constant]) -> Held | Computed:
    dims = whole(shape)
    if dims is None or min(dims, default=0) < 0 or math.prod(dims) > MAX_FILLED:
        return Computed(shape_like=False)
    filler = constants.get(filling(node))
    value = filler.values() if filler is not None and filler.values is not None else torch.zeros(1)
    name = node.outputs[0]
    constant = Constant(name, dims, lambda: value.reshape(-1)[0].expand(dims).contiguous(), value.dtype)
    return Held(constant)
