"""Layers: what is left of a graph when everything that holds no weights and joins nothing is taken out.

A layer is an operator with weights (a convolution with the norm that follows it is one), or one that joins several
paths. What lies between two layers, activations and poolings and reshapes, is a trail: words along an edge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch

from zoo.weights.alignment.graph import Constant, Node

TRANSPOSE, RESHAPE, UNIT, FIRST, GATHER = "transpose", "reshape", "unit", "first", "gather"
_LEAST = 1e-12


class Step(NamedTuple):
    """One thing that is done to a constant.

    Attributes:
        what: ``transpose``, ``reshape``, ``unit``: divided by its length, ``first``: the first along its first axis,
            or ``gather``: entries along an axis, as a table is read.
        how: the permutation, the shape, the axes of the length, or the axis of the entries.
        by: which entries.
    """

    what: str
    how: tuple[int, ...] = ()
    by: Held | None = None

    def shape(self, before: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape that it gives."""
        if self.what == RESHAPE:
            return self.how
        if self.what == TRANSPOSE:
            return tuple(before[axis] for axis in self.how)
        if self.what == GATHER and self.by is not None:
            (axis,) = self.how
            return (*before[:axis], *self.by.shape, *before[axis + 1 :])
        return (1, *before[1:]) if self.what == FIRST else before

    def done(self, tensor: torch.Tensor) -> torch.Tensor:
        """Do it; nothing is copied as long as that can be helped."""
        if self.what == RESHAPE:
            return tensor.reshape(self.how)
        if self.what == TRANSPOSE:
            return tensor.permute(self.how)
        if self.what == GATHER and self.by is not None:
            return entries(tensor, self.how[0], self.by.values().long())
        return tensor[:1] if self.what == FIRST else tensor / tensor.norm(dim=self.how, keepdim=True).clamp(min=_LEAST)

    def undone(self, tensor: torch.Tensor, before: tuple[int, ...]) -> torch.Tensor:
        """Return what it was done to, of this shape: what is a unit stays one, and what was not gathered is zero."""
        if self.what == UNIT:
            return tensor
        if self.what == TRANSPOSE:
            return tensor.permute([self.how.index(axis) for axis in range(len(self.how))])
        if self.what == GATHER and self.by is not None:
            (axis,) = self.how
            table, index = tensor.new_zeros(before), self.by.values().reshape(-1).long() % before[axis]
            return table.index_copy_(axis, index, tensor.reshape(*before[:axis], -1, *before[axis + 1 :]))
        return tensor.reshape(before)


def entries(tensor: torch.Tensor, axis: int, index: torch.Tensor) -> torch.Tensor:
    """Return the entries of a tensor along an axis that an index names; one below zero counts from the end."""
    where: Any = (*(slice(None) for _ in range(axis)), index)
    return tensor[where]


@dataclass(frozen=True)
class Held:
    """A constant as an operator takes it: transposed, reshaped or gathered on the way.

    Attributes:
        constant: the tensor that the graph holds.
        steps: what is done to it, in order. Of our own graph, the axes along which it becomes a unit are not known.
        parts: what the graph joins to it, if it does.
        axis: along which axis.
    """

    constant: Constant
    steps: tuple[Step, ...] = ()
    parts: tuple[Held, ...] = ()
    axis: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that the operator sees."""
        return self._shapes()[-1]

    @property
    def count(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    def then(self, *steps: Step) -> Held:
        """Return it with more done to it."""
        return replace(self, steps=(*self.steps, *steps))

    def values(self) -> torch.Tensor:
        """Return the numbers that the operator sees."""
        if self.constant.values is None:
            raise ValueError(f"{self.constant.name!r} has no values")
        return self.seen(self.constant.values())

    def seen(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return what the operator sees if this is what the graph holds."""
        for step in self.steps:
            tensor = step.done(tensor)
        return tensor

    def undone(self, seen: torch.Tensor) -> torch.Tensor:
        """Return the tensor that the graph would have to hold for the operator to see these numbers.

        What is a unit stays one when it is made one. Of an entry that is gathered several times it is one of these
        numbers, of one that is never gathered zero.
        """
        shapes = self._shapes()
        tensor = seen.reshape(shapes[-1])
        for step, before in zip(reversed(self.steps), reversed(shapes[:-1]), strict=True):
            tensor = step.undone(tensor, before)
        return tensor

    @property
    def parameters(self) -> frozenset[str]:
        """The names of our tensors that it is made of."""
        names = {each.constant.parameter for each in self.parts or (self,)}
        return frozenset(name for name in names if name is not None)

    @property
    def unit(self) -> bool:
        """Whether it is divided by its length."""
        return any(step.what == UNIT for step in self.steps)

    @property
    def index(self) -> Held | None:
        """By what its entries are gathered, if they are."""
        return next((step.by for step in self.steps if step.by is not None), None)

    def of_any_length(self) -> Held:
        """Return it as it is before it is divided by its length."""
        return replace(self, steps=tuple(step for step in self.steps if step.what != UNIT))

    def same(self, other: Held) -> bool:
        """Tell whether both are the same numbers, seen the same way."""
        return self.constant is other.constant and self.steps == other.steps

    def _shapes(self) -> list[tuple[int, ...]]:
        shapes = [self.constant.shape]
        for step in self.steps:
            shapes.append(step.shape(shapes[-1]))
        return shapes


class Number(NamedTuple):
    """One number between two layers: what is multiplied by, an exponent, a slope.

    Attributes:
        op: the operator that takes it.
        held: the number; None if the graph computes it.
        at: what the operator gives, by name.
    """

    op: str
    held: Held | None
    at: str


@dataclass(frozen=True)
class Edge:
    """The way from one layer to the next.

    Attributes:
        source: the index of the layer that it comes from.
        trail: what lies on the way, a word each.
        numbers: those among them, in order.
    """

    source: int
    trail: tuple[str, ...] = ()
    numbers: tuple[Number, ...] = ()


@dataclass(eq=False)
class Layer:
    """One layer of a graph.

    Attributes:
        kind: ``input``, ``output``, ``affine`` (convolution or linear), ``norm`` or ``join``; of another operator with
            weights ``other``.
        op: the operator, as messages call it.
        node: the node that it begins with; None for inputs and outputs.
        inputs: where what it takes comes from.
        ordered: whether it matters which input is which.
        slots: its weights by role: ``weight``, ``bias``, ``scale``, ``shift``, ``mean``, ``var``, or a number.
        unknown: the roles whose weights are computed in the graph; for each, the tensors of ours that they are of.
        window: stride, padding and the like, as words.
        group: of a convolution.
        eps: of a norm.
        normed: whether a norm belongs to it.
        nodes: how many nodes of the graph it is made of.
    """

    kind: str
    op: str
    node: Node | None = None
    inputs: list[Edge] = field(default_factory=list)
    ordered: bool = True
    slots: dict[str, Held] = field(default_factory=dict)
    unknown: dict[str, frozenset[str]] = field(default_factory=dict)
    window: tuple[str, ...] = ()
    group: int = 1
    eps: float = 0.0
    normed: bool = False
    nodes: int = 1

    @property
    def parameters(self) -> set[str]:
        """The names of our tensors that are its weights, or numbers on the way to it."""
        held = [*self.slots.values(), *(number.held for edge in self.inputs for number in edge.numbers if number.held)]
        return {name for each in held for name in each.parameters}

    @property
    def out(self) -> int:
        """How many channels an affine layer gives."""
        shape = self.slots["weight"].shape
        return shape[1] * self.group if self.op == "ConvTranspose" else shape[0]

    @property
    def label(self) -> tuple[object, ...]:
        """What has to be the same for two layers to be counterparts."""
        if self.kind == "affine":
            return ("affine", self.op == "ConvTranspose", self.out, self.slots["weight"].count, self.group)
        if self.kind == "norm" and "weight" not in self.slots:
            return ("norm", max(held.count for held in self.slots.values()))
        sizes = tuple(sorted((role, held.count) for role, held in self.slots.items()))
        return (self.kind, self.op, sizes, tuple(sorted(self.unknown)))

    def parameter(self) -> str:
        """Return the name of the first tensor of ours among its weights, or nothing."""
        return next((held.constant.parameter for held in self.slots.values() if held.constant.parameter), "")

    def told(self, *, trails: bool = False) -> str:
        """Describe it for a message: ``Conv 'conv1.weight' 64×3×7×7 strides=2,2 after Relu``."""
        name = self.parameter() or (self.node.name if self.node is not None else "")
        weight = self.slots.get("weight") or next(iter(self.slots.values()), None)
        shape = "×".join(map(str, weight.shape)) if weight is not None else ""
        words = [", ".join(edge.trail) or "nothing" for edge in self.inputs] if trails else []
        after = [f"after {' and '.join(words)}"] if words else []
        return " ".join([self.op, *([repr(name)] if name else []), *([shape] if shape else []), *self.window, *after])


@dataclass(frozen=True)
class Layout:
    """The layers of a graph, each after those that it takes from.

    Attributes:
        layers: the layers; the first is the input, the last ones are the outputs.
        outputs: which outputs of the graph these are; what depends on sizes alone is none of them.
    """

    layers: Sequence[Layer]
    outputs: tuple[int, ...]

    def consumers(self) -> Mapping[int, list[tuple[int, int]]]:
        """Return, for each layer, which layers take what it gives, and as which input."""
        found: dict[int, list[tuple[int, int]]] = {index: [] for index in range(len(self.layers))}
        for index, layer in enumerate(self.layers):
            for slot, edge in enumerate(layer.inputs):
                found[edge.source].append((index, slot))
        return found
