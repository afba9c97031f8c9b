"""What the messages of an ONNX file say of its tensors: which there are and where, as plain records.

Format: https://github.com/onnx/onnx/blob/main/onnx/onnx-ml.proto
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from zoo.weights.onnx.wire import BYTES, VARINT, Field, Kinds, Wire
from zoo.weights.regions import MAX_BYTES, MAX_DIMS

MAX_INITIALIZERS = 100_000
"""How many initializers a graph may have."""

RAW_DATA = 9
DATA_FIELDS = {
    4: "float_data",
    5: "int32_data",
    6: "string_data",
    7: "int64_data",
    RAW_DATA: "raw_data",
    10: "double_data",
    11: "uint64_data",
}
"""The fields of a TensorProto that may hold its values; one of them does."""

_NUMBER, _MESSAGE = (VARINT,), (BYTES,)
_MODEL: Kinds = {7: _MESSAGE, 14: _MESSAGE}
_GRAPH: Kinds = {1: _MESSAGE, 5: _MESSAGE, 15: _MESSAGE}
_TENSOR: Kinds = {
    1: (VARINT, BYTES),
    2: _NUMBER,
    3: _MESSAGE,
    8: _MESSAGE,
    13: _MESSAGE,
    14: _NUMBER,
    **dict.fromkeys(DATA_FIELDS, _MESSAGE),
}
_ENTRY: Kinds = {1: _MESSAGE, 2: _MESSAGE}


@dataclass(frozen=True)
class Initializer:
    """One TensorProto of a graph.

    Attributes:
        name: how it is called.
        number: its ``data_type``.
        shape: its ``dims``; none is negative.
        data: the field that holds its values, if one does.
        external: where its values are instead, as text by key; None if they are in this file.
    """

    name: str
    number: int
    shape: tuple[int, ...]
    data: Field | None
    external: Mapping[str, str] | None


@dataclass(frozen=True)
class OnnxModel:
    """What is of use in a ModelProto.

    Attributes:
        initializers: the tensors of the graph, by name.
        computes: whether the graph has nodes.
        properties: where the values of the metadata are that were asked for, by key.
    """

    initializers: dict[str, Initializer] = field(default_factory=dict)
    computes: bool = False
    properties: dict[str, Field] = field(default_factory=dict)


def read_messages(wire: Wire, keys: Collection[str]) -> OnnxModel:
    """Walk over the ModelProto that is a file.

    Args:
        wire: the file.
        keys: the metadata to look for.

    Raises:
        ValueError: it is damaged, ambiguous, or has what no reader of tensors can follow.
    """
    graph = None
    properties: dict[str, Field] = {}
    for each in wire.fields(0, wire.size, _MODEL):
        if each.number == 7:
            if graph is not None:
                raise ValueError("it has two graphs, which a parser would merge into one")
            graph = each
        elif each.number == 14:
            _add_property(wire, each, keys, properties)
    if graph is None:
        raise ValueError("it has no graph")
    initializers: dict[str, Initializer] = {}
    computes = False
    for each in wire.fields(graph.begin, graph.end, _GRAPH):
        if each.number == 1:
            computes = True
        elif each.number == 5:
            found = read_tensor(wire, each)
            if found.name in initializers:
                raise ValueError(f"two initializers have the same name, {found.name!r}")
            if len(initializers) == MAX_INITIALIZERS:
                raise ValueError(f"it has more than {MAX_INITIALIZERS} initializers")
            initializers[found.name] = found
        elif each.number == 15:
            raise ValueError("it has a sparse initializer; only dense ones can be read")
    return OnnxModel(initializers, computes, properties)


def _add_property(wire: Wire, entry: Field, keys: Collection[str], properties: dict[str, Field]) -> None:
    key, value = _entry(wire, entry)
    longest = max(map(len, keys))
    spelled = wire.read(key.begin, key.end) if key.end - key.begin <= longest else b""
    name = next((k for k in keys if k.encode() == spelled), None)
    if name in properties:
        raise ValueError(f"its metadata has {name!r} twice")
    if name is not None:
        properties[name] = value


def _entry(wire: Wire, entry: Field) -> tuple[Field, Field]:
    """Return the key and the value of a StringStringEntryProto; what is left out is empty."""
    found: dict[int, Field] = {}
    for each in wire.fields(entry.begin, entry.end, _ENTRY):
        if each.number in found:
            raise ValueError(f"an entry at byte {entry.begin} has two keys or two values")
        if each.number in _ENTRY:
            found[each.number] = each
    nothing = Field(0, BYTES, entry.begin, entry.begin)
    return found.get(1, nothing), found.get(2, nothing)


def read_tensor(wire: Wire, message: Field) -> Initializer:
    """Read a TensorProto: what it is and where its values are.

    Args:
        wire: the file.
        message: where in it the message is.

    Raises:
        ValueError: it is damaged, ambiguous, or none that can be read as a whole.
    """
    dims: list[int] = []
    once: dict[int, Field] = {}
    external: dict[str, str] = {}
    for each in wire.fields(message.begin, message.end, _TENSOR):
        if each.number == 1:
            dims += _dims(wire, each)
            if len(dims) > MAX_DIMS:
                raise ValueError(f"an initializer has more than {MAX_DIMS} dimensions")
        elif each.number == 13:
            key, value = (wire.text(part) for part in _entry(wire, each))
            if key in external:
                raise ValueError(f"an initializer has {key!r} twice in its external_data")
            external[key] = value
        elif each.number in once and each.number in _TENSOR and each.number != 6:
            raise ValueError(f"field {each.number} of an initializer is there twice, again at byte {each.begin}")
        elif each.number in _TENSOR:
            once[each.number] = each
    name = wire.text(once[8]) if 8 in once else ""
    if 3 in once:
        raise ValueError(f"initializer {name!r} is a segment of a tensor; only whole ones can be read")
    if min(dims, default=0) < 0 or math.prod(max(1, n) for n in dims) > MAX_BYTES >> 4:  # 16 bytes a number at most
        raise ValueError(f"initializer {name!r} has the impossible shape {dims}")
    data = [once[number] for number in DATA_FIELDS if number in once]
    if len(data) > 1:
        kinds = " and ".join(DATA_FIELDS[each.number] for each in data)
        raise ValueError(f"initializer {name!r} has its values twice, in {kinds}")
    location = once[14].signed if 14 in once else 0
    if location not in (0, 1):
        raise ValueError(f"initializer {name!r} has the data_location {location}; 0 and 1 are known")
    if location and data:
        raise ValueError(f"initializer {name!r} has its values in {DATA_FIELDS[data[0].number]} and in another file")
    number = once[2].signed if 2 in once else 0
    return Initializer(name, number, tuple(dims), data[0] if data else None, external if location else None)


def _dims(wire: Wire, found: Field) -> list[int]:
    if found.kind == VARINT:
        return [found.signed]
    if found.end - found.begin > 10 * MAX_DIMS:
        raise ValueError(f"an initializer has more than {MAX_DIMS} dimensions")
    return [n for piece in wire.varints(found.begin, found.end) for n in piece.view("int64").tolist()]
