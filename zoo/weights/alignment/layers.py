"""Layers: what is left of a graph when everything that holds no weights and joins nothing is taken out.

A layer is an operator with weights (a convolution with the norm that follows it is one), or one that joins several
paths. What lies between two layers, activations and poolings and reshapes, is a trail: words along an edge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch

from zoo.weights.alignment.graph import Constant, Node

Step = tuple[str, tuple[int, ...]]
"""``("transpose", permutation)``, ``("reshape", shape)``, ``("unit", axes)``: divided by its length along them,
or ``("first", ())``: the first along its first axis."""

UNIT, FIRST = "unit", "first"
_LEAST = 1e-12


@dataclass(frozen=True)
class Held:
    """A constant as an operator takes it: transposed and reshaped on the way.

    Attributes:
        constant: the tensor that the graph holds.
        steps: what is done to it, in order. Of our own graph, the axes along which it becomes a unit are not known.
    """

    constant: Constant
    steps: tuple[Step, ...] = ()

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
        return Held(self.constant, (*self.steps, *steps))

    def values(self) -> torch.Tensor:
        """Return the numbers that the operator sees; nothing is copied as long as that can be helped."""
        if self.constant.values is None:
            raise ValueError(f"{self.constant.name!r} has no values")
        tensor = self.constant.values()
        for what, how in self.steps:
            if what == FIRST:
                tensor = tensor[:1]
            elif what == UNIT:
                tensor = tensor / tensor.norm(dim=how, keepdim=True).clamp(min=_LEAST)
            else:
                tensor = tensor.permute(how) if what == "transpose" else tensor.reshape(how)
        return tensor

    def undone(self, seen: torch.Tensor) -> torch.Tensor:
        """Return the tensor that the graph would have to hold for the operator to see these numbers.

        What is a unit stays one when it is made one.
        """
        shapes = self._shapes()
        tensor = seen.reshape(shapes[-1])
        for (what, how), before in zip(reversed(self.steps), reversed(shapes[:-1]), strict=True):
            if what == "transpose":
                tensor = tensor.permute([how.index(axis) for axis in range(len(how))])
            elif what != UNIT:
                tensor = tensor.reshape(before)
        return tensor

    @property
    def unit(self) -> bool:
        """Whether it is divided by its length."""
        return any(what == UNIT for what, _ in self.steps)

    def of_any_length(self) -> Held:
        """Return it as it is before it is divided by its length."""
        return replace(self, steps=tuple(step for step in self.steps if step[0] != UNIT))

    def same(self, other: Held) -> bool:
        """Tell whether both are the same numbers, seen the same way."""
        return self.constant is other.constant and self.steps == other.steps

    def _shapes(self) -> list[tuple[int, ...]]:
        shapes = [self.constant.shape]
        for what, how in self.steps:
            same = (1, *shapes[-1][1:]) if what == FIRST else shapes[-1]
            shapes.append(
                tuple(same[axis] for axis in how) if what == "transpose" else same if what in (UNIT, FIRST) else how
            )
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
        return {each.constant.parameter for each in held if each.constant.parameter is not None}

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
