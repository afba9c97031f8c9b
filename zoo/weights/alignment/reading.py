"""Reading the graph of a stranger's ONNX file: strictly, with bounds, and without running or unpacking anything.

Nothing is recursive: what holds further graphs (``If``, ``Loop``) is refused, not walked; functions are inlined.

Format: https://github.com/onnx/onnx/blob/main/onnx/onnx-ml.proto
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from zoo.errors import AlignmentError, FileFormatError
from zoo.weights.alignment.functions import RESERVED, Function, inlined
from zoo.weights.alignment.graph import MAX_NODES, Attribute, Constant, Graph, Node, Reference, holding
from zoo.weights.onnx.messages import Initializer, read_tensor
from zoo.weights.onnx.ports import Shape, value_info
from zoo.weights.onnx.reading import read_tensors
from zoo.weights.onnx.wire import BYTES, FIXED32, VARINT, Field, Kinds, Wire
from zoo.weights.sniff import likeness

MAX_LIST = 4096
"""How many numbers an attribute may have."""

_NUMBER, _MESSAGE = (VARINT,), (BYTES,)
_MODEL: Kinds = {2: _MESSAGE, 3: _MESSAGE, 7: _MESSAGE, 25: _MESSAGE}
_GRAPH: Kinds = {1: _MESSAGE, 5: _MESSAGE, 11: _MESSAGE, 12: _MESSAGE}
_FUNCTION: Kinds = dict.fromkeys((1, 4, 5, 6, 7, 10, 11, 13), _MESSAGE)
_NODE: Kinds = dict.fromkeys((1, 2, 3, 4, 5, 7, 8), _MESSAGE)
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
_GRAPHS = "\0graph"
_EMPTY: dict[int, Attribute] = {1: 0.0, 2: 0, 3: "", 6: (), 7: (), 8: ()}  # by AttributeType


@dataclass
class _Found:
    """What a file says of its graph."""

    producer: list[str] = field(default_factory=lambda: ["", ""])
    nodes: list[Node] = field(default_factory=list)
    functions: list[Function] = field(default_factory=list)
    held: dict[str, Initializer] = field(default_factory=dict)
    inputs: dict[str, Shape] = field(default_factory=dict)
    outputs: dict[str, Shape] = field(default_factory=dict)
    outside: bool = False


def read_graph(path: Path, tensors: Mapping[str, torch.Tensor], *, mapped: bool) -> Graph:
    """Read the graph of an ONNX file.

    Args:
        path: the file.
        tensors: its initializers, as they were read already, by name.
        mapped: whether tensors that nodes hold may stay in the file until they are used.

    Raises:
        FileFormatError: it is damaged, or has more of something than any model.
        AlignmentError: it has graphs within nodes, or functions that cannot be followed.
    """
    with path.open("rb") as file:
        wire = Wire(file)
        found = _walked(wire, path)
        stated, _ = read_tensors(wire, found.held, path, mapped=mapped, fingerprint=None)
    known = {**tensors, **stated}
    if twice := sorted(tensors.keys() & stated.keys()):
        raise FileFormatError(path, f"two tensors are called {twice[0]!r}")
    constants = {name: Constant(name, tuple(each.shape), _giving(each), each.dtype) for name, each in known.items()}
    nodes = found.nodes
    if found.functions:
        names = (name for each in nodes for name in (*each.inputs, *each.outputs))
        _refuse_reserved((*tensors, *found.inputs, *found.outputs, *names), path)
        nodes, within = inlined(nodes, found.functions, path)
        for each in found.functions:
            for own, kept in each.held.items():
                constants[kept] = replace(constants[kept], name=f"{each.key[1]}/{own}")
        constants.update({name: constants[kept] for name, kept in within.items()})
    nodes, numbers = _without_numbers(nodes)
    constants.update(numbers)
    taken = {name: shape for name, shape in found.inputs.items() if name not in constants}
    producer = " ".join(found.producer).strip()
    return Graph(tuple(nodes), constants, taken, tuple(found.outputs), producer, found.outside)


def read_output_shapes(path: Path) -> dict[str, Shape]:
    """Return what an ONNX file says of the shapes that it gives, by name; None for an axis of any length.

    Raises:
        FileFormatError: it is damaged, or has more of something than any model.
        AlignmentError: it has graphs within nodes, which cannot be followed.
    """
    with path.open("rb") as file:
        return _walked(Wire(file), path).outputs


def _giving(tensor: torch.Tensor) -> Callable[[], torch.Tensor]:
    return lambda: tensor


def _refuse_reserved(names: Iterable[str], path: Path) -> None:
    if any(name.startswith(RESERVED) for name in names):
        raise AlignmentError(path, "has functions, and a value whose name begins with a zero byte")


def _walked(wire: Wire, path: Path) -> _Found:
    try:
        return _walk(wire, path)
    except ValueError as error:
        raise FileFormatError(path, f"not a whole ONNX file ({error}){likeness(path)}") from None


def _walk(wire: Wire, path: Path) -> _Found:
    found = _Found()
    graph: Field | None = None
    count = 0
    for each in wire.fields(0, wire.size, _MODEL):
        if each.number == 7:
            graph = each
        elif each.number in (2, 3):
            found.producer[each.number - 2] = wire.text(each)[:100]
        elif each.number == 25:
            function = _function(wire, each, found.held, len(found.functions), path)
            found.functions.append(function)
            count += len(function.nodes)
            _refuse_many(count)
    if graph is None:
        raise ValueError("it has no graph")
    for each in wire.fields(graph.begin, graph.end, _GRAPH):
        if each.number == 1:
            count += 1
            _refuse_many(count)
            node, tensor = _node(wire, each, path)
            if any(isinstance(value, Reference) for value in node.attributes.values()):
                raise ValueError(f"a node takes an attribute of a function, and is in none, at byte {each.begin}")
            found.nodes.append(node)
            if tensor is not None and (name := holding(node)):
                found.held[name] = tensor
        elif each.number == 5:
            found.outside |= read_tensor(wire, each).external is not None
        elif each.number in (11, 12):
            name, shape = value_info(wire, each)
            (found.inputs if each.number == 11 else found.outputs)[name] = shape
    found.outside |= any(each.external is not None for each in found.held.values())
    return found


def _refuse_many(count: int) -> None:
    if count > MAX_NODES:
        raise ValueError(f"it has more than {MAX_NODES} nodes")


def _function(wire: Wire, message: Field, tensors: dict[str, Initializer], index: int, path: Path) -> Function:
    """Read a function; the tensors within its nodes are put among those of the file."""
    lists: dict[int, list[str]] = {4: [], 5: []}
    texts: dict[int, str] = {}
    defaults: dict[str, Attribute] = {}
    nodes: list[Node] = []
    held: dict[str, str] = {}
    for each in wire.fields(message.begin, message.end, _FUNCTION):
        if each.number in lists:
            lists[each.number].append(wire.text(each))
        elif each.number in (1, 10, 13):
            if each.number in texts:
                raise ValueError(f"a function has a name or a domain twice, again at byte {each.begin}")
            texts[each.number] = wire.text(each)
        elif each.number == 11:
            name, value, _ = _attribute(wire, each)
            defaults[name] = value
        elif each.number == 7:
            node, tensor = _node(wire, each, path)
            nodes.append(node)
            _refuse_many(len(nodes))
            if tensor is not None and (name := holding(node)):
                held[name] = f"{RESERVED}{index}{RESERVED}{len(held)}"
                tensors[held[name]] = tensor
    domain = texts.get(10, "")
    key = ("" if domain == "ai.onnx" else domain, texts.get(1, ""), texts.get(13, ""))
    return Function(key, tuple(lists[4]), tuple(lists[5]), defaults, nodes, held)


def _node(wire: Wire, message: Field, path: Path) -> tuple[Node, Initializer | None]:
    lists: dict[int, list[str]] = {1: [], 2: []}
    texts: dict[int, str] = {}
    attributes: dict[str, Attribute] = {}
    tensor: Initializer | None = None
    for each in wire.fields(message.begin, message.end, _NODE):
        if each.number in lists:
            lists[each.number].append(wire.text(each))
        elif each.number in (3, 4, 7, 8):
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
    op, domain = texts.get(4, ""), texts.get(7, "")
    if _GRAPHS in attributes.values():
        raise AlignmentError(path, "has graphs within a node, which cannot be followed", f"{op} {name!r}")
    domain = "" if domain == "ai.onnx" else domain
    return Node(name, op, domain, inputs, outputs, attributes, texts.get(8, "")), tensor


def _attribute(wire: Wire, message: Field) -> tuple[str, Attribute, Initializer | None]:
    name, kind, tensor, reference = "", 0, None, ""
    value: Attribute = None
    many: dict[int, list[Any]] = {7: [], 8: [], 9: []}
    for each in wire.fields(message.begin, message.end, _ATTRIBUTE):
        if each.number == 1:
            name = wire.text(each)
        elif each.number == 5:
            tensor = read_tensor(wire, each)
        elif each.number == 21:
            reference = wire.text(each)
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
    if reference:
        return name, Reference(reference), None
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
