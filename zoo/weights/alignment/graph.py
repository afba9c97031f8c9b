"""Graph: nodes and constants as both sides of an alignment have them, the stranger's file and our own export."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from zoo.weights.onnx.ports import Shape

MAX_NODES = 50_000
"""How many operators a graph may have."""


@dataclass(frozen=True)
class Reference:
    """An attribute of a node within a function that is what the call gives under a name."""

    name: str


Attribute = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | Reference | None
"""What a node was given besides its inputs; None stands for a tensor or a graph, which are kept apart."""


@dataclass(frozen=True)
class Constant:
    """A tensor that a graph holds.

    Attributes:
        name: what it is called there.
        shape: its shape.
        values: gives its values; None if only its name matters, as that of a parameter of ours.
        dtype: its dtype.
        parameter: the name of the tensor of ours that it is, in our own graph.
        made: whether all of its values are made each time: the graph only says of what, one number or others that it
            joins.
    """

    name: str
    shape: tuple[int, ...]
    values: Callable[[], torch.Tensor] | None
    dtype: torch.dtype = torch.float32
    parameter: str | None = None
    made: bool = False

    @property
    def floating(self) -> bool:
        """Whether it is of floating point."""
        return self.dtype.is_floating_point


@dataclass(frozen=True)
class Node:
    """One operator of a graph.

    Attributes:
        name: its name, for messages; the first thing that it gives if it has none.
        op: which operator.
        domain: whose operator; empty for ONNX's own.
        inputs: the names of what it takes; an input that is left out has an empty name.
        outputs: the names of what it gives.
        attributes: what it was given besides.
        overload: which of several functions of one name it calls.
    """

    name: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    overload: str = ""

    @property
    def operands(self) -> tuple[str, ...]:
        """The inputs whose numbers matter: of the second one of ``CastLike`` only the dtype does."""
        return self.inputs[:1] if self.op == "CastLike" else self.inputs

    def ints(self, name: str, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Return an attribute that is a list of whole numbers."""
        value = self.attributes.get(name)
        return tuple(n for n in value if isinstance(n, int)) if isinstance(value, tuple) else default

    def number(self, name: str, default: float) -> float:
        """Return an attribute that is a number."""
        value = self.attributes.get(name)
        return value if isinstance(value, int | float) else default

    def text(self, name: str, default: str = "") -> str:
        """Return an attribute that is text."""
        value = self.attributes.get(name)
        return value if isinstance(value, str) else default


@dataclass(frozen=True)
class Graph:
    """The operators of a model.

    Attributes:
        nodes: every operator but those that only state a constant.
        constants: the tensors that it holds, by name.
        inputs: what it takes, with shapes.
        outputs: what it gives, in order.
        producer: what wrote it, as it says itself.
        outside: whether tensors of it are in other files.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, Constant]
    inputs: Mapping[str, Shape]
    outputs: tuple[str, ...]
    producer: str = ""
    outside: bool = False

    @property
    def tensors(self) -> dict[str, Constant]:
        """The tensors that it holds, each under one name only: calls of one function share those within it."""
        return dict({id(each): (name, each) for name, each in self.constants.items()}.values())


def holding(node: Node) -> str:
    """Return what the tensor within a node is called; nothing if it is none to keep."""
    if node.op == "Constant" and len(node.outputs) == 1:
        return node.outputs[0]
    return filling(node) if node.op == "ConstantOfShape" else ""


def filling(node: Node) -> str:
    """Return what the constant is called with which a ``ConstantOfShape`` fills."""
    return f"{node.outputs[0] if node.outputs else node.name}\0value"
