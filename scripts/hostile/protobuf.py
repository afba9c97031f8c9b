"""Words of protobuf, and an ONNX file made of them: honest unless told otherwise."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping, Sequence

from hostile.case import TENSORS, description
from hostile.headers import held


def varint(value: int) -> bytes:
    """Return a number as protobuf has it; negative ones take ten bytes."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | bytes | str) -> bytes:
    """Return a field: a number, or a text, bytes or message with its length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor(
    name: str | bytes, dims: Sequence[int], data: bytes | None, kind: int = 1, more: bytes = b"", external: bytes = b""
) -> bytes:
    """Return an initializer; ``external`` are its entries of external data."""
    words = b"".join(field(1, n) for n in dims) + field(2, kind) + field(8, name)
    words += b"" if data is None else field(9, data)
    return words + external + (field(14, 1) if external else b"") + more


def entry(key: str, value: str | bytes) -> bytes:
    """Return one fact about external data."""
    return field(13, field(1, key) + field(2, value))


def honest() -> dict[str, bytes]:
    """Return the four initializers."""
    return {name: tensor(name, shape, data) for name, (shape, data) in TENSORS.items()}


def metadata(**changes: str | None) -> dict[str, str]:
    """Return what zoo says in a file of the four tensors; dots in keys are written as ``_``."""
    told: dict[str, str | None] = {
        "zoo": description(),
        "zoo_initializers": json.dumps({name: name for name in TENSORS}),
        "zoo_tensors": base64.b64encode(held({}, b"")).decode(),
        **changes,
    }
    return {key.replace("_", "."): value for key, value in told.items() if value is not None}


NODE = field(1, field(1, "image") + field(2, "logits") + field(4, "Identity"))


def graph(initializers: Mapping[str, bytes] | Sequence[bytes], more: bytes = b"", node: bytes = NODE) -> bytes:
    """Return a graph of one node and initializers."""
    each = initializers.values() if isinstance(initializers, Mapping) else initializers
    return node + field(2, "graph") + b"".join(field(5, words) for words in each) + more


def model(content: bytes, told: Mapping[str, str | bytes] | None = None, more: bytes = b"") -> bytes:
    """Return a whole ONNX file."""
    props = b"".join(field(14, field(1, k) + field(2, v)) for k, v in (metadata() if told is None else told).items())
    return field(1, 8) + field(7, content) + field(8, field(1, "") + field(2, 18)) + props + more


def floats(count: int) -> bytes:
    """Return numbers in the typed field that holds float32."""
    return field(4, struct.pack(f"<{count}f", *range(count)))
