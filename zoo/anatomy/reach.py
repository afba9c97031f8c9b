"""Reach: which positions of the input each position of a tensor depends on, and how that passes through operations.

Along each axis of the input, the position ``i`` of a tensor depends on the positions ``low + jump·i … high + jump·i``.
Convolutions, pools and sums keep that form exactly: for them it is the recurrence F(i) = (F(i+1) − 1)·stride + kernel
with dilation included. Where a map is resized or merged with one of another jump, both lines are bounds.

Not every tensor is a map: a transformer makes one dimension of two axes, a partition into windows makes two of one. So
each dimension of a tensor is a row of factors, the outermost first, and each factor says how far one step along it
moves on each axis of the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import reduce
from math import prod

Number = int | Fraction
"""An exact position: resized maps have jumps that are no whole numbers."""

_Jumps = list[list[Number]]
"""Of each dimension, of each of its factors, the jump along one axis."""


@dataclass(frozen=True)
class Factor:
    """A dimension of a tensor, or one of several that were merged into it.

    Attributes:
        size: how many positions it has.
        jumps: for each axis of the input, how far one position is from the next.
    """

    size: int
    jumps: tuple[Number, ...]


@dataclass(frozen=True)
class Reach:
    """What each position of a tensor depends on.

    Attributes:
        dims: for each dimension of the tensor its factors, the outermost first; their sizes multiply to its own.
        low: for each axis of the input, the first position that the first position of the tensor depends on; below 0
            where padding is reached.
        high: likewise the last.
        known: False where an operation took part that is not known here.
        widths: for each axis how many positions one of the tensor's sees at most, where that is less than lie between
            ``low`` and ``high``: of maps that were put one after the other, which no jump describes.
    """

    dims: tuple[tuple[Factor, ...], ...]
    low: tuple[Number, ...]
    high: tuple[Number, ...]
    known: bool = True
    widths: tuple[Number, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor."""
        return tuple(prod(f.size for f in dim) for dim in self.dims)

    @property
    def still(self) -> tuple[Number, ...]:
        """A jump of nothing along each axis."""
        return (0,) * len(self.low)

    def width(self, axis: int) -> Number:
        """How many positions along an axis of the input one of the tensor's sees at most."""
        return self.high[axis] - self.low[axis] + 1 if self.widths is None else self.widths[axis]

    def jump(self, axis: int) -> Number:
        """How far along an axis of the input one position is from the next; 0 where all depend on the same."""
        steps: list[Number] = []
        for dim in self.dims:
            repeats = 1  # positions that see the same as the one before: maps enlarged by channels, say
            for factor in reversed(dim):
                if factor.jumps[axis]:
                    steps.append(abs(Fraction(factor.jumps[axis]) / repeats))
                repeats *= 1 if any(factor.jumps) else factor.size
        return min(steps, default=0)


def of_input(shape: Sequence[int]) -> Reach:
    """Return the reach of the input itself, ``(N, C, *spatial)``: each position is its own.

    >>> of_input((1, 3, 8, 8)).high
    (0, 0)
    """
    axes = len(shape) - 2
    unit = [tuple(int(a == axis) for a in range(axes)) for axis in range(-2, axes)]
    dims = tuple((Factor(size, jumps),) for size, jumps in zip(shape, unit, strict=True))
    return Reach(dims, (0,) * axes, (0,) * axes)


def constant(reach: Reach, shape: Sequence[int]) -> Reach:
    """Return a reach for another shape whose every position depends on all that any position of this one does."""
    everything = reduce(spread, range(len(reach.dims)), reach)
    return replace(everything, dims=tuple((Factor(size, reach.still),) for size in shape))


def unknown(reach: Reach, shape: Sequence[int]) -> Reach:
    """Return the reach of what an operation that is not known here made of a tensor."""
    return replace(constant(reach, shape), known=False)


def spread(reach: Reach, dim: int) -> Reach:
    """Let every position along a dimension depend on what any of them does: what a sum along it would see."""
    low, high = list(reach.low), list(reach.high)
    for factor in reach.dims[dim]:
        for axis, jump in enumerate(factor.jumps):
            low[axis] += min(0, jump * (factor.size - 1))
            high[axis] += max(0, jump * (factor.size - 1))
    return _with(reach, dim, (Factor(prod(f.size for f in reach.dims[dim]), reach.still),), low, high)


def summed(reach: Reach, dim: int, size: int) -> Reach:
    """Spread along a dimension, and give it another size: what a sum leaves, or channels made of channels."""
    moving = any(any(f.jumps) for f in reach.dims[dim])
    reach = spread(reach, dim) if moving else reach
    return _with(reach, dim, (Factor(size, reach.still),), reach.low, reach.high)


def window(reach: Reach, dim: int, size: int, stride: Number, first: Number, last: Number) -> Reach:
    """Slide a window: the new position ``o`` reads the old ones from ``o·stride + first`` to ``o·stride + last``.

    Args:
        reach: of what it slides over.
        dim: the dimension along which it slides.
        size: how many positions there are then.
        stride: how far it moves.
        first: where it begins; negative in the padding.
        last: where it ends.
    """
    reach = _collapsed(reach, dim)
    jumps = reach.dims[dim][0].jumps
    low, high = list(reach.low), list(reach.high)
    for axis, jump in enumerate(jumps):
        low[axis] += min(first * jump, last * jump)
        high[axis] += max(first * jump, last * jump)
    return _with(reach, dim, (Factor(size, tuple(j * stride for j in jumps)),), low, high)


def union(reaches: Sequence[Reach], shape: Sequence[int]) -> Reach:
    """Return what depends on several tensors, position by position, each broadcast to a shape.

    >>> a, b = of_input((1, 1, 8)), window(of_input((1, 1, 8)), 2, 8, 1, -1, 1)
    >>> union([a, b], (1, 1, 8)).low, union([a, b], (1, 1, 8)).high
    ((-1,), (1,))
    """
    first, *others = (_broadcast(reach, shape) for reach in reaches)
    return reduce(_merge, others, first)


def permute(reach: Reach, order: Sequence[int]) -> Reach:
    """Put the dimensions into another order."""
    return replace(reach, dims=tuple(reach.dims[d] for d in order))


def reshape(reach: Reach, shape: Sequence[int]) -> Reach:
    """Regroup the dimensions, in the order of the elements; what does not divide depends on everything.

    >>> tokens = reshape(of_input((1, 3, 4, 6)), (1, 3, 24))
    >>> [f.jumps for f in tokens.dims[2]]
    [(1, 0), (0, 1)]
    """
    if tuple(shape) == reach.shape:
        return reach
    waiting = [f for dim in reach.dims for f in dim if f.size != 1]
    dims = []
    for size in shape:
        taken: list[Factor] = []
        while size != 1 and waiting:
            factor = waiting.pop(0)
            if size % factor.size == 0:
                taken.append(factor)
                size //= factor.size  # noqa: PLW2901 - what is left of it to fill
            elif factor.size % size == 0:
                inner = factor.size // size
                taken.append(Factor(size, tuple(j * inner for j in factor.jumps)))
                waiting.insert(0, Factor(inner, factor.jumps))
                size = 1  # noqa: PLW2901
            else:
                return constant(reach, shape)
        dims.append(tuple(taken) or (Factor(size, reach.still),))
    return replace(reach, dims=tuple(_joined(dim) for dim in dims))


def select(reach: Reach, dim: int, index: int) -> Reach:
    """Take one position of a dimension, which goes."""
    low, high = list(reach.low), list(reach.high)
    for factor in reversed(reach.dims[dim]):
        index, within = divmod(index, factor.size)
        for axis, jump in enumerate(factor.jumps):
            low[axis] += within * jump
            high[axis] += within * jump
    return replace(reach, dims=reach.dims[:dim] + reach.dims[dim + 1 :], low=tuple(low), high=tuple(high))


def _with(reach: Reach, dim: int, factors: tuple[Factor, ...], low: Sequence[Number], high: Sequence[Number]) -> Reach:
    dims = (*reach.dims[:dim], factors, *reach.dims[dim + 1 :])
    return Reach(dims, tuple(low), tuple(high), reach.known)


def _collapsed(reach: Reach, dim: int) -> Reach:
    """Make one factor of those of a dimension, along each axis of that slope that keeps its lines closest."""
    factors = reach.dims[dim]
    if len(factors) == 1:
        return reach
    inner = [prod(f.size for f in factors[number + 1 :]) for number in range(len(factors))]
    low, high, jumps = list(reach.low), list(reach.high), list(reach.still)
    for axis in range(len(low)):
        slopes = {Fraction(0), *(Fraction(f.jumps[axis]) / n for f, n in zip(factors, inner, strict=True))}
        found: list[tuple[Fraction, Fraction, Fraction]] = []
        for slope in slopes:
            off = [(f.jumps[axis] - slope * n) * (f.size - 1) for f, n in zip(factors, inner, strict=True)]
            below, above = (sum((each for each in off if (each > 0) == up), start=Fraction(0)) for up in (False, True))
            found.append((below, above, slope))
        below, above, jumps[axis] = min(found, key=lambda each: (each[1] - each[0], -abs(each[2])))
        low[axis] += below
        high[axis] += above
    return _with(reach, dim, (Factor(prod(f.size for f in factors), tuple(jumps)),), low, high)


def _joined(factors: tuple[Factor, ...]) -> tuple[Factor, ...]:
    """Make one of neighbours that move as one dimension would: channels split and put together again, say."""
    joined = list(factors[:1])
    for inner in factors[1:]:
        outer = joined[-1]
        if outer.jumps == tuple(j * inner.size for j in inner.jumps):
            joined[-1] = Factor(outer.size * inner.size, inner.jumps)
        else:
            joined.append(inner)
    return tuple(joined)


def _broadcast(reach: Reach, shape: Sequence[int]) -> Reach:
    if reach.shape == tuple(shape):
        return reach
    missing = len(shape) - len(reach.dims)
    dims: list[tuple[Factor, ...]] = [(Factor(size, reach.still),) for size in shape[:missing]]
    for dim, size in zip(reach.dims, shape[missing:], strict=True):
        dims.append(dim if prod(f.size for f in dim) == size else (Factor(size, reach.still),))
    return replace(reach, dims=tuple(dims))


def _merge(one: Reach, other: Reach) -> Reach:
    for dim in range(len(one.dims)):
        if [f.size for f in one.dims[dim]] != [f.size for f in other.dims[dim]]:
            one, other = _alike(one, other, dim)
    low, high = list(one.low), list(one.high)
    jumps: list[_Jumps] = []
    for axis in range(len(low)):
        mine, theirs = _jumps(one, axis), _jumps(other, axis)
        candidates = [mine]
        if mine != theirs:
            common = [
                [j if j == k else 0 for j, k in zip(*pair, strict=True)] for pair in zip(mine, theirs, strict=True)
            ]
            whole = [each for each in (mine, theirs) if all(j == int(j) for row in each for j in row)]
            if not (_moves(mine) and _moves(theirs)):
                candidates = [common]  # as after a global pool
            elif len(whole) == 1 and max(map(len, mine)) == 1:
                candidates = whole  # the other was resized to the size of this one
            else:
                candidates = [mine, theirs, common]
        found = [(*_bounds(one, other, axis, candidate), candidate) for candidate in candidates]
        low[axis], high[axis], chosen = min(found, key=lambda each: each[1] - each[0])
        jumps.append(chosen)
    dims = tuple(
        tuple(Factor(f.size, tuple(each[dim][number] for each in jumps)) for number, f in enumerate(factors))
        for dim, factors in enumerate(one.dims)
    )
    return Reach(dims, tuple(low), tuple(high), one.known and other.known)


def _moves(jumps: _Jumps) -> bool:
    return any(jump for row in jumps for jump in row)


def _jumps(reach: Reach, axis: int) -> _Jumps:
    return [[f.jumps[axis] for f in dim] for dim in reach.dims]


def _alike(one: Reach, other: Reach, dim: int) -> tuple[Reach, Reach]:
    """Give a dimension of both the same factors: those of the one that moves, if the other does not."""
    sides = [one, other]
    for side, model in ((0, 1), (1, 0)):
        if not any(any(f.jumps) for f in sides[side].dims[dim]):
            factors = tuple(Factor(f.size, one.still) for f in sides[model].dims[dim])
            sides[side] = _with(sides[side], dim, factors, sides[side].low, sides[side].high)
            return sides[0], sides[1]
    return spread(one, dim), spread(other, dim)


def _bounds(one: Reach, other: Reach, axis: int, jumps: _Jumps) -> tuple[Number, Number]:
    """Return the ends of lines with these jumps between which those of both lie."""
    ends = []
    for side in (one, other):
        low, high = side.low[axis], side.high[axis]
        for dim, row in zip(side.dims, jumps, strict=True):
            for factor, jump in zip(dim, row, strict=True):
                slope = (factor.jumps[axis] - jump) * (factor.size - 1)
                low += min(0, slope)
                high += max(0, slope)
        ends.append((low, high))
    return min(low for low, _ in ends), max(high for _, high in ends)
