"""Reading the graph of a stranger's ONNX file: strictly, with bounds, and without running or unpacking anything.

Nothing is recursive: what holds further graphs (``If``, ``Loop``) is refused, not walked.

Format: https://github.com/onnx/onnx/blob/main/onnx/onnx-ml.proto
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from zoo.errors import AlignmentError, FileFormatError
from zoo.weights.alignment.graph import Attribute, Constant, Graph, Node, Shape
from zoo.weights.onnx.messages import Initializer, read_tensor
from zoo.weights.onnx.reading import read_tensors
from zoo.weights.onnx.wire import BYTES, FIXED32, VARINT, Field, Kinds, Wire
from zoo.weights.sniff import likeness

MAX_NODES = 50_000
"""How many operators a graph may have."""

MAX_LIST = 4096
"""How many numbers an attribute may have."""

_NUMBER, _MESSAGE = (VARINT,), (BYTES,)
_MODEL: Kinds = {2: _MESSAGE, 3: _MESSAGE, 7: _MESSAGE, 25: _MESSAGE}
_GRAPH: Kinds = {1: _MESSAGE, 5: _MESSAGE, 11: _MESSAGE, 12: _MESSAGE}
_NODE: Kinds = dict.fromkeys((1, 2, 3, 4, 5, 7), _MESSAGE)
_ATTRIBUTE: Kinds = {
    1: _MESSAGE,
    2: (FIXED32,),
    3: _NUMBER,
    4: _MESSAGE,
    5: _MESSAGE,
    6: _MESSAGE,
    7: (FIXED32, BYTES),
    8: (VARINT, BYTES),
    9: _MESSAGE,
    10: _MESSAGE,
    11: _MESSAGE,
    20: _NUMBER,
    21: _MESSAGE,
}
_VALUE: Kinds = {1: _MESSAGE, 2: _MESSAGE}
_HOLDER: Kinds = {1: _MESSAGE}
_TENSOR_TYPE: Kinds = {1: _NUMBER, 2: _MESSAGE}
_DIM: Kinds = {1: _NUMBER, 2: _MESSAGE}
_GRAPHS = "\0graph"
_EMPTY: dict[int, Attribute] = {1: 0.0, 2: 0, 3: "", 6: (), 7: (), 8: ()}  # by AttributeType


def read_graph(path: Path, tensors: Mapping[str, torch.Tensor], *, mapped: bool) -> Graph:
    """Read the graph of an ONNX file.

    Args:
        path: the file.
        tensors: its initializers, as they were read already, by name.
        mapped: whether tensors that nodes hold may stay in the file until they are used.

    Raises:
        FileFormatError: it is damaged, or has more of something than any model.
        AlignmentError: it has functions or graphs within nodes, which cannot be followed.
    """
    with path.open("rb") as file:
        wire = Wire(file)
        try:
            nodes, held, inputs, outputs, producer, outside = _walk(wire, path)
        except ValueError as error:
            raise FileFormatError(path, f"not a whole ONNX file ({error}){likeness(path)}") from None
        stated, _ = read_tensors(wire, held, path, mapped=mapped, fingerprint=None)
    found = {**tensors, **stated}
    if twice := sorted(tensors.keys() & stated.keys()):
        raise FileFormatError(path, f"two tensors are called {twice[0]!r}")
    constants = {name: Constant(name, tuple(each.shape), _giving(each), each.dtype) for name, each in found.items()}
    nodes, numbers = _without_numbers(nodes)
    constants.update(numbers)
    taken = {name: shape for name, shape in inputs.items() if name not in constants}
    return Graph(tuple(nodes), constants, taken, tuple(outputs), producer, outside)


def read_output_shapes(path: Path) -> dict[str, Shape]:
    """Return what an ONNX file says of the shapes that it gives, by name; None for an axis of any length.

    Raises:
        FileFormatError: it is damaged, or has more of something than any model.
        AlignmentError: it has functions or graphs within nodes, which cannot be followed.
    """
    with path.open("rb") as file:
        try:
            return _walk(Wire(file), path)[3]
        except ValueError as error:
            raise FileFormatError(path, f"not a whole ONNX file ({error}){likeness(path)}") from None


def _giving(tensor: torch.Tensor) -> Callable[[], torch.Tensor]:
    return lambda: tensor


def _walk(
    wire: Wire, path: Path
) -> tuple[list[Node], dict[str, Initializer], dict[str, Shape], dict[str, Shape], str, bool]:
    nodes: list[Node] = []
    held: dict[str, Initializer] = {}
    inputs: dict[str, Shape] = {}
    outputs: dict[str, Shape] = {}
    producer = ["", ""]
    graph: Field | None = None
    outside = False
    for each in wire.fields(0, wire.size, _MODEL):
        if each.number == 7:
            graph = each
        elif each.number in (2, 3):
            producer[each.number - 2] = wire.text(each)[:100]
        elif each.number == 25:
            raise AlignmentError(path, "has functions of its own, which cannot be followed; inline them first")
    if graph is None:
        raise ValueError("it has no graph")
    for each in wire.fields(graph.begin, graph.end, _GRAPH):
        if each.number == 1:
            if len(nodes) == MAX_NODES:
                raise ValueError(f"it has more than {MAX_NODES} nodes")
            node, tensor = _node(wire, each)
            if _GRAPHS in node.attributes.values():
                raise AlignmentError(
                    path, "has graphs within a node, which cannot be followed", f"{node.op} {node.name!r}"
                )
            nodes.append(node)
            if tensor is not None and (name := _holding(node)):
                held[name] = tensor
        elif each.number == 5:
            outside |= read_tensor(wire, each).external is not None
        elif each.number in (11, 12):
            name, shape = _value_info(wire, each)
            (inputs if each.number == 11 else outputs)[name] = shape
    outside |= any(each.external is not None for each in held.values())
    return nodes, held, inputs, outputs, " ".join(producer).strip(), outside


def _holding(node: Node) -> str:
    """Return what the tensor within a node is called; nothing if it is none to keep."""
    if node.op == "Constant" and len(node.outputs) == 1:
        return node.outputs[0]
    return filling(node) if node.op == "ConstantOfShape" else ""


def filling(node: Node) -> str:
    """Return what the constant is called with which a ``ConstantOfShape`` fills."""
    return f"{node.outputs[0] if node.outputs else node.name}\0value"


def _node(wire: Wire, message: Field) -> tuple[Node, Initializer | None]:
    lists: dict[int, list[str]] = {1: [], 2: []}
    texts: dict[int, str] = {}
    attributes: dict[str, Attribute] = {}
    tensor: Initializer | None = None
    for each in wire.fields(message.begin, message.end, _NODE):
        if each.number in lists:
            lists[each.number].append(wire.text(each))
        elif each.number in (3, 4, 7):
            if each.number in texts:
                raise ValueError(f"a node has a name, an operator or a domain twice, again at byte {each.begin}")
            texts[each.number] = wire.text(each)
        elif each.number == 5:
            name, value, held = _attribute(wire, each)
            if name in attributes:
                raise ValueError(f"a node has the attribute {name!r} twice, again at byte {each.begin}")
            attributes[name] = value
            tensor = held if held is not None and name == "value" else tensor
    inputs, outputs = tuple(lists[1]), tuple(lists[2])
    name = texts.get(3) or next((output for output in outputs if output), "")
    domain = texts.get(7, "")
    return Node(name, texts.get(4, ""), "" if domain == "ai.onnx" else domain, inputs, outputs, attributes), tensor


def _attribute(wire: Wire, message: Field) -> tuple[str, Attribute, Initializer | None]:
    name, kind, tensor = "", 0, None
    value: Attribute = None
    many: dict[int, list[Any]] = {7: [], 8: [], 9: []}
    for each in wire.fields(message.begin, message.end, _ATTRIBUTE):
        if each.number == 1:
            name = wire.text(each)
        elif each.number == 5:
            tensor = read_tensor(wire, each)
        elif each.number in many:
            many[each.number] += _list(wire, each)
            if len(many[each.number]) > MAX_LIST:
                raise ValueError(f"an attribute has more than {MAX_LIST} numbers, at byte {each.begin}")
        elif each.number in (22, 23):
            raise ValueError(f"a node has a sparse tensor, at byte {each.begin}; only dense ones can be read")
        elif each.number == 20:
            kind = each.value
        elif each.number in _ATTRIBUTE:
            value = _single(wire, each)
    if value is None:  # what is zero or empty may be left out of the message
        value = _EMPTY.get(kind)
    for numbers in many.values():
        value = tuple(numbers) if numbers else value
    return name, value, tensor


def _single(wire: Wire, field: Field) -> Attribute:
    if field.number == 2:
        (number,) = struct.unpack("<f", wire.read(field.begin, field.end))
        return float(number)
    if field.number == 3:
        return field.signed
    return _loose_text(wire, field) if field.number == 4 else _GRAPHS


def _list(wire: Wire, field: Field) -> list[Any]:
    if field.number == 9:
        return [_loose_text(wire, field)]
    width = 4 if field.number == 7 else 10
    if field.end - field.begin > MAX_LIST * width:
        raise ValueError(f"an attribute has more than {MAX_LIST} numbers, at byte {field.begin}")
    if field.number == 7:
        count, rest = divmod(field.end - field.begin, 4)
        if rest:
            raise ValueError(f"numbers of an attribute end within one, at byte {field.end}")
        return list(struct.unpack(f"<{count}f", wire.read(field.begin, field.end)))
    if field.kind == VARINT:
        return [field.signed]
    return [n for part in wire.varints(field.begin, field.end) for n in part.view("int64").tolist()]


def _loose_text(wire: Wire, field: Field) -> str:
    """Return the bytes of an attribute as text; what is not UTF-8 cannot be anything that is looked for."""
    if field.end - field.begin > 1000:
        return ""
    return wire.read(field.begin, field.end).decode(errors="replace")


def _value_info(wire: Wire, message: Field) -> tuple[str, Shape]:
    name, dims = "", []
    for each in wire.fields(message.begin, message.end, _VALUE):
        if each.number == 1:
            name = wire.text(each)
        elif each.number == 2:
            for holder in wire.fields(each.begin, each.end, _HOLDER):
                if holder.number == 1:
                    dims = _dims(wire, holder)
    return name, tuple(dims)


def _dims(wire: Wire, message: Field) -> list[int | None]:
    dims: list[int | None] = []
    for part in wire.fields(message.begin, message.end, _TENSOR_TYPE):
        if part.number != 2:
            continue
        for dim in wire.fields(part.begin, part.end, _HOLDER):
            if dim.number == 1:
                length = [f.signed for f in wire.fields(dim.begin, dim.end, _DIM) if f.number == 1]
                dims.append(length[0] if length and length[0] > 0 else None)
            if len(dims) > 64:
                raise ValueError("an input has more than 64 axes")
    return dims


def _without_numbers(nodes: list[Node]) -> tuple[list[Node], dict[str, Constant]]:
    """Take out the nodes that only state a constant; return the others, and those constants that are no tensors."""
    kept: list[Node] = []
    constants: dict[str, Constant] = {}
    for node in nodes:
        if node.op != "Constant" or node.domain or not node.outputs:
            kept.append(node)
            continue
        for key, dtype in (
            ("value_int", torch.int64),
            ("value_ints", torch.int64),
            ("value_float", torch.float32),
            ("value_floats", torch.float32),
        ):
            if key in node.attributes:
                tensor = torch.tensor(node.attributes[key], dtype=dtype)
                name = node.outputs[0]
                constants[name] = Constant(name, tuple(tensor.shape), _giving(tensor), dtype)
    return kept, constants
