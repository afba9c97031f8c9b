"""How the numbers of one tensor lie differently in two libraries: reshaped, permuted, cut and joined."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch

from zoo.errors import RuleError

Side = Literal["theirs", "ours"]
"""The other library's, or zoo's."""


class Misfit(Exception):  # noqa: N818 - a finding: the plan makes a problem of it, with key and rule
    """What is wrong with the tensors that a rule is given."""


@dataclass(frozen=True)
class Reshape:
    """The same numbers in the same order, in another shape.

    Attributes:
        theirs: their shape. 0 stands for the size that the other side has at this place, -1, once, for what is left.
        ours: our shape, with 0 at the same places.

    Raises:
        RuleError: the two cannot be shapes of one tensor.

    >>> kernel = Reshape(theirs=(0, -1, 7, 7), ours=(0, -1))
    >>> tuple(kernel.convert(torch.zeros(10, 98), towards="theirs").shape)
    (10, 2, 7, 7)
    """

    theirs: tuple[int, ...]
    ours: tuple[int, ...]

    def __post_init__(self) -> None:
        zeros = []
        for shape in (self.theirs, self.ours):
            if not are_ints(shape) or any(n < -1 for n in shape) or shape.count(-1) > 1:
                raise RuleError(str(self), f"found {shape!r}; expected a tuple of sizes, 0 and at most one -1")
            zeros.append([place for place, n in enumerate(shape) if n == 0])
        if zeros[0] != zeros[1]:
            raise RuleError(str(self), "0 has to stand at the same places on both sides")
        if -1 not in self.theirs + self.ours:
            known = [math.prod(n for n in shape if n) for shape in (self.theirs, self.ours)]
            if known[0] != known[1]:
                raise RuleError(str(self), f"the sides hold {known[0]} and {known[1]} numbers")

    def convert(self, tensor: torch.Tensor, towards: Side) -> torch.Tensor:
        """Return a tensor in the other shape: a view wherever its strides allow one."""
        source, target = (self.theirs, self.ours) if towards == "ours" else (self.ours, self.theirs)
        shape = tuple(tensor.shape)
        if len(shape) != len(source) or any(n not in (0, -1, found) for n, found in zip(source, shape, strict=True)):
            raise Misfit(f"found the shape {shape}; expected {source}")
        sizes = [shape[place] if n == 0 else n for place, n in enumerate(target)]
        if -1 in sizes:
            others = math.prod(n for n in sizes if n != -1)
            sizes[sizes.index(-1)] = tensor.numel() // others if others else 0
        if math.prod(sizes) != tensor.numel():
            raise Misfit(f"found the shape {shape}, whose {tensor.numel()} numbers do not fill {target}")
        return tensor.reshape(sizes)


@dataclass(frozen=True)
class Permute:
    """The same numbers with the axes in another order.

    Attributes:
        axes: for each axis of ours, which one of theirs it is.

    Raises:
        RuleError: they are no permutation.

    >>> tuple(Permute((1, 0)).convert(torch.zeros(2, 3), towards="ours").shape)
    (3, 2)
    """

    axes: tuple[int, ...]

    def __post_init__(self) -> None:
        if not are_ints(self.axes) or sorted(self.axes) != list(range(len(self.axes))):
            raise RuleError(str(self), f"found {self.axes!r}; expected each axis once, from 0")

    def convert(self, tensor: torch.Tensor, towards: Side) -> torch.Tensor:
        """Return a view of a tensor with its axes in the other order."""
        if tensor.dim() != len(self.axes):
            raise Misfit(f"found {tensor.dim()} axes; expected {len(self.axes)}")
        back = sorted(range(len(self.axes)), key=lambda axis: self.axes[axis])
        return tensor.permute(self.axes if towards == "ours" else back)


Layout = Reshape | Permute
"""How the numbers of one tensor lie differently on the two sides."""


def are_ints(values: Any) -> bool:
    """Tell whether something is a tuple of whole numbers."""
    return isinstance(values, tuple) and all(isinstance(n, int) and not isinstance(n, bool) for n in values)


def cut(whole: torch.Tensor, parts: int, axis: int, sizes: tuple[int, ...] | None) -> tuple[torch.Tensor, ...]:
    """Return the parts of a tensor along an axis, equal ones unless sizes are stated, as views of it."""
    if axis >= whole.dim():
        raise Misfit(f"found {whole.dim()} axes; expected one to cut at {axis}")
    length = whole.shape[axis]
    if sizes is None and length % parts:
        raise Misfit(f"found {length} along axis {axis}, which cannot be cut into {parts} equal parts")
    wanted = [length // parts] * parts if sizes is None else list(sizes)
    if sum(wanted) != length:
        raise Misfit(f"found {length} along axis {axis}; expected {' + '.join(map(str, wanted))}")
    return torch.split(whole, wanted, axis)


def joined(parts: tuple[torch.Tensor, ...], axis: int, sizes: tuple[int, ...] | None) -> torch.Tensor:
    """Return one tensor made of parts along an axis, which have to be those that :func:`cut` would give."""
    shapes = [tuple(part.shape) for part in parts]
    others = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    if any(len(shape) <= axis for shape in shapes) or len(others) > 1:
        raise Misfit(f"found the shapes {_listed(shapes)}; expected them to agree but for axis {axis}")
    lengths = tuple(shape[axis] for shape in shapes)
    if lengths != (sizes or lengths[:1] * len(parts)):
        raise Misfit(
            f"found {_listed(lengths)} along axis {axis}; expected {_listed(sizes) if sizes else 'equal sizes'}"
        )
    if len(dtypes := {part.dtype for part in parts}) > 1:
        raise Misfit(f"found the dtypes {_listed(sorted(map(str, dtypes)))}; expected one")
    return torch.cat(parts, axis)


def _listed(values: Any) -> str:
    return " and ".join(map(str, values))
