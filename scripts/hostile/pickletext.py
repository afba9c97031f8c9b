"""Words of the pickle language, and the zip that torch.save puts a pickle into: honest unless told otherwise."""

from __future__ import annotations

import binascii
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hostile.case import MARK, TENSORS


def text(value: str) -> bytes:
    """Return the words for a text."""
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    """Return the words for a number of any size."""
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data if len(data) < 256 else b"\x8b" + struct.pack("<i", len(data)) + data


def name(module: str, attribute: str) -> bytes:
    """Return the words that look up a class or function."""
    return f"c{module}\n{attribute}\n".encode()


def row(*values: bytes) -> bytes:
    """Return the words for a tuple."""
    return b"(" + b"".join(values) + b"t"


def call(function: bytes, *arguments: bytes) -> bytes:
    """Return the words that call a function."""
    return function + row(*arguments) + b"R"


def table(items: Mapping[str, bytes]) -> bytes:
    """Return the words for a dict."""
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def ordered(items: Mapping[str, bytes]) -> bytes:
    """Return the words for an ordered dict."""
    return name("collections", "OrderedDict") + b")R(" + b"".join(text(k) + v for k, v in items.items()) + b"u"


def whole(words: bytes, protocol: int = 2) -> bytes:
    """Return a whole pickle."""
    return (b"" if protocol < 2 else b"\x80" + bytes([protocol])) + words + b"."


def storage(key: str, count: int, kind: str = "FloatStorage") -> bytes:
    """Return the words for a storage that is kept beside the pickle."""
    return row(text("storage"), name("torch", kind), text(key), text("cpu"), number(count)) + b"Q"


EMPTY = name("collections", "OrderedDict") + b")R"


def tensor(
    held: bytes,
    shape: Sequence[int],
    stride: Sequence[int] | None = None,
    offset: int = 0,
    *more: bytes,
    version: str = "_v2",
    hooks: bytes = EMPTY,
) -> bytes:
    """Return the words for a view of a storage, contiguous unless told otherwise."""
    steps = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        steps[axis] = steps[axis + 1] * shape[axis + 1]
    sizes = row(*map(number, shape)), row(*map(number, steps if stride is None else stride))
    return call(name("torch._utils", f"_rebuild_tensor{version}"), held, number(offset), *sizes, b"\x89", hooks, *more)


def honest() -> dict[str, bytes]:
    """Return the words for the four tensors."""
    return {n: tensor(storage(str(i), len(d) // 4), s) for i, (n, (s, d)) in enumerate(TENSORS.items())}


CODE = call(name("os", "mkdir"), text(MARK))
"""What would show that something ran."""


class Entry(NamedTuple):
    """One member of a zip: what its local header says, what the directory says, and its bytes.

    ``None`` is what the directory or the header would say if it were honest.
    """

    name: bytes
    data: bytes
    local_name: bytes | None = None
    local_size: int | None = None
    local_method: int = 0
    local_flags: int = 0x800
    method: int = 0
    flags: int = 0x800
    size: int | None = None
    packed: int | None = None
    offset: int | None = None
    disk: int = 0
    attributes: int = 0


def archive(
    members: Sequence[Entry],
    *,
    prefix: bytes = b"",
    suffix: bytes = b"",
    comment: bytes = b"",
    count: int | None = None,
    directory_size: int | None = None,
    directory_offset: int | None = None,
    zip64: tuple[int, int, int] | None = None,
    between: bytes = b"",
) -> bytes:
    """Return a zip, its members in their order; ``zip64`` is the count, size and offset that its second end claims."""
    out, directory = bytearray(prefix), bytearray()
    for m in members:
        at = len(out)
        local = m.name if m.local_name is None else m.local_name
        told = len(m.data) if m.local_size is None else m.local_size
        crc = binascii.crc32(m.data)
        out += struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 0, m.local_flags, m.local_method, 0, 0, crc, told, told,
                           len(local), 0) + local + m.data  # fmt: skip
        size = len(m.data) if m.size is None else m.size
        packed, header = size if m.packed is None else m.packed, at if m.offset is None else m.offset
        directory += struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", 0, 0, m.flags, m.method, 0, 0, crc, packed, size,
                                 len(m.name), 0, 0, m.disk, 0, m.attributes, header) + m.name  # fmt: skip
    out += between
    begin, number_of = len(out), len(members) if count is None else count
    out += directory
    if zip64 or number_of > 0xFFFF:
        entries, size64, offset64 = zip64 or (number_of, len(directory), begin)
        number_of = min(number_of, 0xFFFF)
        at64 = len(out)
        out += struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, entries, entries, size64, offset64)
        out += struct.pack("<4sIQI", b"PK\6\7", 0, at64, 1)
    size = len(directory) if directory_size is None else directory_size
    offset = begin if directory_offset is None else directory_offset
    out += struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, number_of, number_of, size, offset, len(comment)) + comment
    return bytes(out + suffix)


def entries(words: bytes, storages: Mapping[str, bytes] | None = None, protocol: int = 2) -> list[Entry]:
    """Return the members that torch.save writes for a pickle and its storages."""
    held = {str(i): data for i, (_, data) in enumerate(TENSORS.values())} if storages is None else storages
    return [
        Entry(b"x/data.pkl", whole(words, protocol)),
        Entry(b"x/byteorder", b"little"),
        *(Entry(f"x/data/{key}".encode(), data) for key, data in held.items()),
        Entry(b"x/version", b"3\n"),
    ]


def saved(words: bytes, storages: Mapping[str, bytes] | None = None, protocol: int = 2) -> bytes:
    """Return the file that torch.save would write."""
    return archive(entries(words, storages, protocol))


def sequence(words: bytes, keys: bytes = b"", data: bytes = b"", magic: bytes = b"", facts: bytes = b"") -> bytes:
    """Return the file that torch.save wrote before version 1.6: five pickles, then the storages."""
    return b"".join(
        (
            whole(magic or number(0x1950A86A20F9469CFC6C)),
            whole(number(1001)),
            whole(facts or table({"protocol_version": number(1001), "little_endian": b"\x88"})),
            whole(words),
            whole(keys or b"]"),
            data,
        )
    )


def laughs() -> bytes:
    """Return the words for a list of two lists of two lists … , a hundred deep, each written once."""
    words = b"](]q\0"
    for level in range(100):
        words += b"](" + (b"h" + bytes([level])) * 2 + b"eq" + bytes([level + 1])
    return words + b"e"
