"""The bytes of an ONNX file: a small graph and large tensors, written one after the other, never together in memory.

A protobuf message is a sequence of fields in any order: the initializers are appended to the serialised rest of the
graph, whose length is computed beforehand. Numbers may be written longer than they need to be, and a tensor may have a
remark, which is used to let every tensor begin at a multiple of 8 bytes, and a large one at a multiple of 64, so that a
reader can map it.

Formats: https://protobuf.dev/programming-guides/encoding, https://github.com/onnx/onnx/blob/main/docs/ExternalData.md
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import EncodeError

from zoo.errors import WeightsError
from zoo.weights.durable import replacing
from zoo.weights.regions import SMALL

MAX_BYTES = 2_000_000_000
"""The largest file that holds its tensors itself: protobuf reads 2 GiB, and onnx.checker a little less."""

ALIGNMENT = 64
"""Where tensors begin in a data file; those of a page or more begin at a page."""

_PAGE = 4096
_ITEM = 8  # the largest number that tensors are made of, but for complex128
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA, _REMARK = b"\x08", b"\x10", b"\x42", b"\x4a", b"\x62"  # of a TensorProto
_INITIALIZER = b"\x2a"  # of a GraphProto
_GRAPH = b"\x3a"  # of a ModelProto


@dataclass(frozen=True)
class Payload:
    """One initializer: its name, ONNX's number of its dtype, its shape, and its bytes when they are asked for."""

    name: str
    data_type: int
    dims: tuple[int, ...]
    nbytes: int
    view: Callable[[], memoryview]


@dataclass(frozen=True)
class Place:
    """Where an initializer's bytes are if not in the graph's file: a file beside it, and the byte they begin at."""

    location: str
    offset: int


def write_model(skeleton: onnx.ModelProto, payloads: Sequence[Payload], path: Path, mark: str) -> None:
    """Write a graph and its tensors: one file, or a graph and a data file beside it if one would be too large.

    The data file is called ``net.onnx.1a2b3c4d.data``: the name depends on the tensors and their places, so that a new
    one never overwrites what an older graph still needs. The new graph is put on the disk without its name, then the
    data file, then the graph takes the place of the old one, then the old data file goes. A crash in between leaves
    the old pair or the new one, and at worst a data file that no graph names; the next save removes it.

    Args:
        skeleton: the model without these tensors.
        payloads: the tensors.
        path: the file.
        mark: what tells these tensors from others: a fingerprint.

    Raises:
        WeightsError: the graph without its tensors is too large, or a file cannot be written; what was there is intact.
    """
    model, graph = _serialised(skeleton, path)
    pieces, size = _embedded(model, graph, payloads)
    if size <= MAX_BYTES:
        with replacing(path) as temporary, temporary.open("wb") as file:
            for before, payload in pieces:
                file.write(before)
                if payload is not None:
                    file.write(payload.view())
        remove_data_files(path)
        return
    places = _laid_out(payloads, path, mark)
    data = path.with_name(next(iter(places.values())).location)
    with (
        _graph_without_name(model, graph, payloads, places, path),
        replacing(data) as temporary,
        temporary.open("wb") as file,
    ):
        for payload in payloads:
            if payload.name in places:
                file.write(bytes(places[payload.name].offset - file.tell()))
                file.write(payload.view())
    remove_data_files(path, keep=data.name)


def write_beside(
    skeleton: onnx.ModelProto,
    payloads: Sequence[Payload],
    places: Mapping[str, Place],
    path: Path,
    write_others: Callable[[], None],
) -> None:
    """Write a graph whose tensors are in another file, right after that file.

    Args:
        skeleton: the model without these tensors.
        payloads: the tensors; those without a place, and empty ones, are kept in the graph.
        places: where in a file of the same folder the tensors are going to be.
        path: the graph's file.
        write_others: writes that file; when it is called the graph is on the disk and only lacks its name.

    Raises:
        WeightsError: a file cannot be written.
    """
    model, graph = _serialised(skeleton, path)
    with _graph_without_name(model, graph, payloads, places, path):
        write_others()
    remove_data_files(path)


@contextmanager
def _graph_without_name(
    model: bytes, graph: bytes, payloads: Iterable[Payload], places: Mapping[str, Place], path: Path
) -> Iterator[None]:
    """Put a graph on the disk, which gets its name when the block ends without an error."""
    tensors = b"".join(
        _field(_INITIALIZER, _pointer(payload, places[payload.name]))
        if payload.name in places and payload.nbytes
        else _field(_INITIALIZER, _head(payload, 0) + bytes(payload.view()))
        for payload in payloads
    )
    with replacing(path) as temporary:
        temporary.write_bytes(model + _field(_GRAPH, graph + tensors))
        yield


def _serialised(skeleton: onnx.ModelProto, path: Path) -> tuple[bytes, bytes]:
    """Return the fields of a model but its graph, and those of the graph."""
    outer = onnx.ModelProto()
    for field, value in skeleton.ListFields():
        if field.name == "graph":
            continue
        if field.is_repeated:
            getattr(outer, field.name).extend(value)
        else:
            setattr(outer, field.name, value)
    try:
        return outer.SerializeToString(deterministic=True), skeleton.graph.SerializeToString(deterministic=True)
    except (EncodeError, ValueError) as error:
        raise WeightsError(
            path, f"the graph alone, without its weights, is larger than a file may be: {error}"
        ) from error


def _embedded(
    model: bytes, graph: bytes, payloads: Sequence[Payload]
) -> tuple[list[tuple[bytes, Payload | None]], int]:
    """Return a file in pieces, each some bytes and the tensor that comes after them, and its size."""
    # The length of the graph stands before it and depends on the padding, which depends on where the graph begins.
    most = len(graph) + sum(len(_head(each, ALIGNMENT)) + each.nbytes + 16 for each in payloads)
    width = len(_varint(most))
    begin = len(model) + len(_GRAPH) + width
    at = begin + len(graph)
    pieces: list[tuple[bytes, Payload | None]] = []
    for payload in payloads:
        alignment = ALIGNMENT if payload.nbytes > SMALL else _ITEM  # small ones are read to where torch has them
        before = next(
            before
            for padding in range(2 * alignment)
            if (at + len(before := _opening(payload, padding))) % alignment == 0
        )
        pieces.append((before, payload))
        at += len(before) + payload.nbytes
    first = model + _GRAPH + _varint(at - begin, width) + graph
    return [(first, None), *pieces], at


def _opening(payload: Payload, padding: int) -> bytes:
    head = _head(payload, padding)
    return _INITIALIZER + _varint(len(head) + payload.nbytes) + head


def _head(payload: Payload, padding: int) -> bytes:
    """Return a tensor up to where its bytes begin, so many bytes longer than it has to be.

    A few are in the number of its dtype, more are a remark of blanks.
    """
    dims = b"".join(_DIMS + _varint(n) for n in payload.dims)
    kind = _DATA_TYPE + _varint(payload.data_type, 1 + padding if padding <= _ITEM else 1)
    remark = _field(_REMARK, b" " * (padding - 2)) if padding > _ITEM else b""
    return dims + kind + _field(_NAME, payload.name.encode()) + remark + _RAW_DATA + _varint(payload.nbytes)


def _pointer(payload: Payload, place: Place) -> bytes:
    tensor = onnx.TensorProto(name=payload.name, data_type=payload.data_type, dims=payload.dims)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", place.location), ("offset", place.offset), ("length", payload.nbytes)):
        tensor.external_data.add(key=key, value=str(value))
    blob: bytes = tensor.SerializeToString(deterministic=True)
    return blob


def _laid_out(payloads: Iterable[Payload], path: Path, mark: str) -> dict[str, Place]:
    """Choose where in a data file each tensor begins, and the file's name."""
    offsets: dict[str, int] = {}
    at = 0
    for payload in payloads:
        if payload.nbytes:
            at += -at % (_PAGE if payload.nbytes >= _PAGE else ALIGNMENT)
            offsets[payload.name] = at
            at += payload.nbytes
    layout = hashlib.sha256(json.dumps([mark, offsets]).encode()).hexdigest()
    return {name: Place(f"{path.name}.{layout[:8]}.data", offset) for name, offset in offsets.items()}


def remove_data_files(path: Path, keep: str | None = None) -> None:
    """Remove the data files of graphs that were at ``path`` before."""
    ours = re.compile(rf"{re.escape(path.name)}\.[0-9a-f]{{8}}\.data")
    for other in path.parent.iterdir():
        if ours.fullmatch(other.name) and other.name != keep:
            other.unlink(missing_ok=True)


def _field(tag: bytes, content: bytes) -> bytes:
    return tag + _varint(len(content)) + content


def _varint(number: int, width: int = 1) -> bytes:
    """Return a number as protobuf writes it: seven bits a byte, lowest first, at least ``width`` bytes."""
    encoded = bytearray()
    while number > 0x7F or len(encoded) < width - 1:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])
