"""Arithmetic: what a graph makes of a few whole numbers, as exporters write axes, shapes and lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

from zoo.weights.alignment.graph import Constant, Node
from zoo.weights.alignment.layers import Held, entries

_SMALL = 64


def small(held: object) -> tuple[float, ...] | None:
    """Return the numbers of a constant that has only a few, and is not read out of a table, which may have many."""
    if not isinstance(held, Held) or held.count > _SMALL or held.constant.values is None or held.index is not None:
        return None
    return tuple(held.values().reshape(-1).tolist())


def whole(held: object) -> tuple[int, ...] | None:
    """Return the numbers of a constant that has only a few, if all of them are whole."""
    numbers = small(held)
    if numbers is None or not all(float(n).is_integer() for n in numbers):
        return None
    return tuple(int(n) for n in numbers)


def evaluated(node: Node, inputs: Sequence[object]) -> Held | None:
    """Return what a node makes of whole numbers, where these and what it makes are few."""
    compute = _ARITHMETIC.get(node.op)
    few = [each for each in inputs if isinstance(each, Held) and not each.constant.floating and small(each) is not None]
    if compute is None or not few or len(few) < len(inputs):
        return None
    try:
        made = compute(node, *(each.values().long() for each in few))
        return None if made.numel() > _SMALL else stated(node, made)
    except (ArithmeticError, RuntimeError, TypeError, ValueError, IndexError):  # they do not go together
        return None


def stated(node: Node, numbers: torch.Tensor) -> Held:
    """Return numbers as what a node gives.

    Args:
        node: the node.
        numbers: what it gives.
    """
    numbers = numbers.contiguous()
    return Held(Constant(node.outputs[0], tuple(numbers.shape), lambda: numbers, numbers.dtype))


def _range(_: Node, *numbers: torch.Tensor) -> torch.Tensor:
    start, end, step = (int(each.item()) for each in numbers)
    nearest = min if step > 0 else max
    return torch.arange(start, nearest(end, start + (_SMALL + 1) * step), step)


def _expand(_: Node, value: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
    both = torch.broadcast_shapes(value.shape, tuple(shape.tolist()))  # type: ignore[no-untyped-call] # torch has none
    return value.expand(both)  # a view: it may be vast


def _each(compute: Callable[[int, int], int]) -> Callable[..., torch.Tensor]:
    """Compute in Python, which no pair of numbers crashes: the processor cannot divide the lowest one by -1."""

    def computed(_: Node, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        left, right = torch.broadcast_tensors(left, right)  # type: ignore[no-untyped-call] # torch has none
        pairs = zip(left.reshape(-1).tolist(), right.reshape(-1).tolist(), strict=True)
        return torch.tensor([compute(a, b) for a, b in pairs], dtype=torch.int64).reshape(left.shape)

    return computed


def _taken(node: Node, value: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return entries(value, int(node.number("axis", 0)) % value.dim(), index)


def _part(_: Node, value: torch.Tensor, *numbers: torch.Tensor) -> torch.Tensor:
    for axis, left in places(tuple(value.shape), *(each.tolist() for each in numbers)):
        value = value.index_select(axis, torch.tensor(left, dtype=torch.int64))
    return value


def places(
    shape: tuple[int, ...],
    starts: Sequence[int],
    ends: Sequence[int],
    axes: Sequence[int] | None = None,
    steps: Sequence[int] | None = None,
) -> Iterator[tuple[int, range]]:
    """Give the axes that a ``Slice`` cuts, each with what it leaves."""
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        length = shape[axis]
        yield axis % len(shape), range(*slice(start, end, step).indices(length))


_ARITHMETIC: Mapping[str, Callable[..., torch.Tensor]] = {
    "Add": lambda _, left, right: left + right,
    "Sub": lambda _, left, right: left - right,
    "Mul": lambda _, left, right: left * right,
    "Div": _each(lambda left, right: abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)),
    "Mod": _each(lambda left, right: left % right),
    "Equal": lambda _, left, right: left == right,
    "Where": lambda _, which, left, right: torch.where(which.bool(), left, right),
    "Concat": lambda node, *parts: torch.cat(parts, int(node.number("axis", 0))),
    "Expand": _expand,
    "Gather": _taken,
    "Range": _range,
    "Slice": _part,
}
