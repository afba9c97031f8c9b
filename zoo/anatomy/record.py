"""What a plan says: frozen records, and their JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Any, Literal

from zoo import kinds
from zoo.anatomy.reach import Reach, spread


@dataclass(frozen=True)
class Field:
    """The receptive field along one axis of the input: which positions of it one position of a tensor can see.

    The sizes are those of the papers: they count what lies in the padding beyond the edges, and may be larger than the
    input. Where maps are resized or merged with resized ones they are upper bounds.

    Attributes:
        extent: ``"part"``; ``"whole"`` where every position sees the whole input, as after global pooling;
            ``"unknown"`` where an operation took part that is not known.
        size: how many positions; None where it is not known.
        jump: how many positions of the input lie between what neighbours see; 0 where all see the same.
        offset: the first position of the input that the first one sees; below 0 in the padding.
    """

    extent: Literal["part", "whole", "unknown"]
    size: int | None
    jump: int | float
    offset: int | None

    def __str__(self) -> str:
        return str(self.size) if self.extent == "part" else self.extent


@dataclass(frozen=True)
class Output:
    """One tensor that a module gives.

    Attributes:
        name: the name of the feature; of other modules the place in what they return, empty for a tensor alone.
        shape: its shape, the batch included.
        stride: for each axis of the input, how many positions one of its own stands for; 0 along an axis that is gone.
            It is the jump of the field, and where that is 0 though there is a map, the ratio of their sizes.
        field: for each axis of the input the receptive field; empty where it does not depend on the input.
    """

    name: str
    shape: tuple[int, ...]
    stride: tuple[int | float, ...]
    field: tuple[Field, ...]


@dataclass(frozen=True)
class Node:
    """One module, with all below it.

    Attributes:
        path: its name in the model: ``"backbone.layer1.0"``; empty for the model itself.
        type: its class; of a part of the model, its name in the spec.
        outputs: what it gives, of all calls one after the other; empty if it is never called.
        calls: how often it is called.
        training_only: whether it is called in training alone, as auxiliary heads are.
        parameters: how many numbers its parameters are, those that occur twice counted once.
        multiply_adds: of its convolutions and matrix products, in a forward pass.
        backward_multiply_adds: of the backward pass in training.
        kept_bytes: of what it makes, how much autograd keeps for the backward pass.
        children: the modules in it.
    """

    path: str
    type: str
    outputs: tuple[Output, ...]
    calls: int
    training_only: bool
    parameters: int
    multiply_adds: int
    backward_multiply_adds: int
    kept_bytes: int
    children: tuple[Node, ...]

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition(".")[2]

    def walk(self) -> Iterator[Node]:
        """Give this node and all below it, in order."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True)
class Inference:
    """What one forward pass in evaluation mode takes.

    Attributes:
        multiply_adds: how many, of convolutions and matrix products.
        peak_bytes: how much memory activations take at most at one time, the input included, without what the kernels
            take for themselves.
    """

    multiply_adds: int
    peak_bytes: int


@dataclass(frozen=True)
class Training:
    """What one step of training takes.

    Attributes:
        batch: of how many samples: as many as planned, or 2 where a batch norm cannot train on 1.
        multiply_adds: of the forward and the backward pass.
        kept_bytes: what autograd keeps between them, the input included; each tensor counts once, parameters do not.
        gradient_bytes: the gradients of the parameters.
    """

    batch: int
    multiply_adds: int
    kept_bytes: int
    gradient_bytes: int


@dataclass(frozen=True)
class Plan:
    """The anatomy of a model.

    Attributes:
        spec: the normalised spec.
        input: the shape of the input, the batch included.
        dtype: of weights and activations.
        parameters: how many numbers the parameters are.
        trainable: how many of them have a gradient.
        buffers: how many numbers are in buffers: batch norm statistics.
        weight_bytes: what parameters and buffers take.
        inference: what a forward pass takes.
        training: what a step of training takes.
        tree: the model and every module in it.
    """

    spec: Mapping[str, Any]
    input: tuple[int, ...]
    dtype: str
    parameters: int
    trainable: int
    buffers: int
    weight_bytes: int
    inference: Inference
    training: Training
    tree: Node

    @property
    def parts(self) -> Mapping[str, Node]:
        """The node of each part that the model has: ``"backbone"``, ``"neck"``, …."""
        return {node.path: node for node in self.tree.children if node.path in kinds.PARTS}

    def node(self, path: str) -> Node:
        """Return the node of a module.

        Raises:
            KeyError: there is no such module.
        """
        return {node.path: node for node in self.tree.walk()}[path]

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        from zoo.anatomy.rendering import text

        return text(self)


def output(name: str, shape: tuple[int, ...], reach: Reach | None, size: tuple[int, ...]) -> Output:
    """Return the record of a tensor.

    Args:
        name: its name.
        shape: its shape.
        reach: what it depends on.
        size: the spatial size of the input.
    """
    if reach is None:
        return Output(name, shape, (), ())
    if len(reach.dims) > 2 and any(any(f.jumps) for dim in reach.dims[2:] for f in dim):
        reach = spread(reach, 1)  # positions that were put into channels are seen together
    field = tuple(_field(reach, axis, n) for axis, n in enumerate(size))
    is_map = len(shape) == len(size) + 2
    ratios = [_number(Fraction(n, max(own, 1))) for n, own in zip(size, shape[2:], strict=True)] if is_map else []
    stride = tuple((f.jump or ratios[axis]) if is_map else 0 for axis, f in enumerate(field))
    return Output(name, shape, stride, field)


def _field(reach: Reach, axis: int, size: int) -> Field:
    jump, low = reach.jump(axis), reach.low[axis]
    if not reach.known:
        return Field("unknown", None, _number(jump), None)
    if not jump and low <= 0 and reach.high[axis] >= size - 1 and reach.widths is None:
        return Field("whole", size, 0, 0)
    width = floor(reach.high[axis]) - ceil(low) + 1 if reach.widths is None else floor(reach.width(axis))
    return Field("part", width, _number(jump), ceil(low))


def _number(value: int | Fraction) -> int | float:
    return int(value) if value == int(value) else float(value)
