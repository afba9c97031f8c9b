"""skeleton: an ONNX file without its weights, which are said to lie where they do: in the file itself.

What runs it maps the file and holds none of it twice; what it runs is the graph that was read, whatever becomes of the
file meanwhile.

Format: https://github.com/onnx/onnx/blob/main/onnx/onnx-ml.proto
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from zoo.errors import FileFormatError
from zoo.weights.onnx.messages import RAW_DATA, Initializer, read_tensor
from zoo.weights.onnx.wire import BYTES, VARINT, Field, Kinds, Wire
from zoo.weights.sniff import likeness

_MESSAGE = (BYTES,)
_MODEL: Kinds = {7: _MESSAGE, 14: _MESSAGE}
_GRAPH: Kinds = {5: _MESSAGE}
_TENSOR: Kinds = {RAW_DATA: _MESSAGE}
_METADATA, _EXTERNAL, _LOCATION = 14, 13, 14
_FLOATS = {1, 10, 11, 16}  # float32, float16, float64, bfloat16: of others, shapes may be made
_SMALL = 4096


class Skeleton(NamedTuple):
    """A graph, and where the weights are that it names.

    Attributes:
        graph: the bytes of a ModelProto.
        folder: the folder that the names of other files in it are relative to.
    """

    graph: bytes
    folder: Path


def skeleton(path: Path, added: Sequence[str] = ()) -> Skeleton:
    """Return an ONNX file without its weights, and without what it says of itself.

    Args:
        path: the file. One that is a link to another folder, and names files beside it, keeps its weights.
        added: values within its graph that it is to give besides its outputs.

    Raises:
        FileFormatError: it is damaged.
    """
    found = path.resolve()
    linked = found.parent != path.absolute().parent.resolve()
    with path.open("rb") as file:
        wire = Wire(file)
        try:
            whole = linked and _names_others(wire)
            parts = list(_model(wire, None if whole else found.name))
        except ValueError as error:
            raise FileFormatError(path, f"not a whole ONNX file ({error}){likeness(path)}") from None
    # A parser merges two messages in one field: what is appended is a graph that has nothing but these outputs.
    parts.append(_field(7, b"".join(_field(12, _field(1, name.encode())) for name in added)))
    return Skeleton(b"".join(parts), path.absolute().parent if whole else found.parent)


def _names_others(wire: Wire) -> bool:
    graphs = (each for each in wire.fields(0, wire.size, _MODEL) if each.number == 7)
    held = (each for graph in graphs for each in wire.fields(graph.begin, graph.end, _GRAPH) if each.number == 5)
    return any(read_tensor(wire, each).external is not None for each in held)


def _model(wire: Wire, name: str | None) -> Iterator[bytes]:
    """Give the pieces of a model, its weights said to be in the file of that name; as it is if there is none."""
    at = 0
    for each in wire.fields(0, wire.size, _MODEL):
        if each.number == 7:
            yield _field(7, b"".join(_graph(wire, each, name)))
        elif each.number != _METADATA:
            yield wire.read(at, each.end)
        at = each.end


def _graph(wire: Wire, graph: Field, name: str | None) -> Iterator[bytes]:
    at = graph.begin
    for each in wire.fields(graph.begin, graph.end, _GRAPH):
        held = read_tensor(wire, each) if each.number == 5 and name is not None else None
        if held is None or name is None or not _is_large(held):
            yield wire.read(at, each.end)
        else:
            yield _field(5, b"".join(_elsewhere(wire, each, name)))
        at = each.end


def _is_large(held: Initializer) -> bool:
    data = held.data
    return data is not None and data.number == RAW_DATA and data.end - data.begin >= _SMALL and held.number in _FLOATS


def _elsewhere(wire: Wire, tensor: Field, name: str) -> Iterator[bytes]:
    """Give the pieces of a tensor whose values are said to be where they are in the file of that name."""
    at = tensor.begin
    for each in wire.fields(tensor.begin, tensor.end, _TENSOR):
        if each.number == RAW_DATA:
            entries = {"location": name, "offset": str(each.begin), "length": str(each.end - each.begin)}
            for key, value in entries.items():
                yield _field(_EXTERNAL, _field(1, key.encode()) + _field(2, value.encode()))
            yield bytes([_LOCATION << 3 | VARINT, 1])
        elif each.number not in (_EXTERNAL, _LOCATION):
            yield wire.read(at, each.end)
        at = each.end


def _field(number: int, content: bytes) -> bytes:
    """Return a field of a protobuf message: its number, its length, its bytes."""
    length, left = b"", len(content)
    while left > 127:
        length, left = length + bytes([left & 127 | 128]), left >> 7
    return bytes([number << 3 | BYTES]) + length + bytes([left]) + content
