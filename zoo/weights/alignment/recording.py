"""Recording: a graph while a model runs, and which of its tensors is which value there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from zoo.metakernels import Layout, layout, storage_id
from zoo.weights.alignment.graph import Attribute, Constant, Node


class UntraceableError(Exception):
    """A model calls an operator that has no translation here; it is exported instead. It never leaves this package."""

    def __init__(self, operator: str) -> None:
        self.operator = operator
        super().__init__(f"cannot be traced: {operator}")


@dataclass
class Recording:
    """The graph as far as it is known, and which tensor is which value of it.

    Attributes:
        nodes: the operators so far.
        constants: the tensors of the model, and numbers that it states.
    """

    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Constant] = field(default_factory=dict)
    _names: dict[int, dict[Layout, str]] = field(default_factory=dict)
    _kept: list[torch.Tensor] = field(default_factory=list)

    def known(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor depends on the input or on the tensors of the model."""
        return storage_id(tensor) in self._names

    def name(self, tensor: torch.Tensor) -> str:
        """Return the value that a tensor is.

        Raises:
            UntraceableError: it was made of nothing, or was written into through another view.
        """
        found = self._names.get(storage_id(tensor), {}).get(layout(tensor))
        if found is None:
            raise UntraceableError("a tensor that is made on the way, or written into in parts")
        return found

    def learn(self, tensor: torch.Tensor, name: str, *, inplace: bool = False) -> None:
        """Note which value a tensor is; what else shares numbers that are written into is known no more."""
        key = storage_id(tensor)
        if inplace:
            self._names[key] = {}
        self._names.setdefault(key, {})[layout(tensor)] = name
        self._kept.append(tensor)  # another storage may come to lie where one was that is gone

    def number(self, value: float | bool | Sequence[int]) -> str:
        """Return the name of a number, or of a few, that the model states."""
        name = f"constant {len(self.constants)}"
        tensor = torch.tensor(value, device="cpu")
        self.constants[name] = Constant(name, tuple(tensor.shape), lambda: tensor, tensor.dtype)
        return name

    def made(self, tensor: torch.Tensor) -> str:
        """Return the name of a tensor that depends neither on the input nor on the model's: its values stay unknown."""
        name = f"made {len(self.constants)}"
        dtype = torch.float32 if tensor.is_floating_point() else torch.int64
        self.constants[name] = Constant(name, tuple(tensor.shape), None, dtype)
        self.learn(tensor, name)
        return name

    def node(self, op: str, *inputs: str, **attributes: Attribute) -> str:
        """Add an operator and return the name of what it gives."""
        return self.nodes_of(op, 1, *inputs, **attributes)[0]

    def nodes_of(self, op: str, outputs: int, *inputs: str, **attributes: Attribute) -> tuple[str, ...]:
        """Add an operator that gives several values, and return their names."""
        name = f"{op} {len(self.nodes)}"
        names = tuple(f"{name}.{index}" if index else name for index in range(outputs))
        self.nodes.append(Node(name, op, "", inputs, names, attributes))
        return names
