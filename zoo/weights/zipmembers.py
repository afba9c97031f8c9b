"""Where the members of an uncompressed zip are: what ``torch.save`` writes, checked before a byte of it is used."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from typing import BinaryIO, NamedTuple

from zoo.weights.strictjson import MAX_LENGTH

_END = b"PK\x05\x06"
_END64 = b"PK\x06\x06"
_LOCAL = struct.Struct("<4sHHHHHIIIHH")


class Member(NamedTuple):
    """A member of a zip: the byte of the file at which it begins, and how many it has."""

    offset: int
    size: int


def members_of(file: BinaryIO, size: int) -> Mapping[str, Member]:
    """Return the members of a zip by name.

    Args:
        file: the zip.
        size: how many bytes it has.

    Raises:
        ValueError: it is no zip, or has what ``torch.save`` never writes: compression (which may be a bomb), two
            members of one name or at one place, or too many of them.
    """
    _refuse_long_directory(file, size)
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, struct.error) as error:
        raise ValueError(str(error)) from None
    found: dict[str, Member] = {}
    for info in infos:
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise ValueError(f"{info.filename!r} in it is compressed, which torch.save never does")
        if info.filename in found:
            raise ValueError(f"two members are called {info.filename!r}")
        file.seek(info.header_offset)
        local = file.read(_LOCAL.size)
        if len(local) < _LOCAL.size or local[:4] != b"PK\x03\x04":
            raise ValueError(f"{info.filename!r} is not where the directory says")
        begin = info.header_offset + _LOCAL.size + sum(_LOCAL.unpack(local)[-2:])
        if begin + info.file_size > size:
            raise ValueError(f"{info.filename!r} ends outside the file")
        found[info.filename] = Member(begin, info.file_size)
    end = 0
    for name, member in sorted(found.items(), key=lambda item: item[1]):
        if member.size and member.offset < end:
            raise ValueError(f"{name!r} overlaps another member")
        end = max(end, member.offset + member.size)
    return found


def _refuse_long_directory(file: BinaryIO, size: int) -> None:
    """Look how long the directory says it is before it is read: a hostile one takes many times as much memory."""
    file.seek(max(0, size - 65_600))
    tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < 22:
        raise ValueError("it has no zip directory at its end")
    length = int.from_bytes(tail[at + 12 : at + 16], "little")
    at64 = tail.rfind(_END64, 0, at)
    if at64 >= 0 and length == 0xFFFFFFFF:
        length = int.from_bytes(tail[at64 + 40 : at64 + 48], "little")
    if length > MAX_LENGTH:
        raise ValueError(f"its zip directory claims {length} bytes; at most {MAX_LENGTH} are read")
