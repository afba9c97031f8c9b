"""Where the members of an uncompressed zip are: what ``torch.save`` writes, checked before a byte of it is used.

The directory is read here rather than by ``zipfile``: that library believes either of two ends of a file that
disagree, reads a directory of any length into many times as much memory, and never looks at a member's own header.

Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, sections 4.3.7 to 4.3.16
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import BinaryIO, NamedTuple

from zoo.weights.strictjson import MAX_LENGTH, brief

_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_ENTRY = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END = struct.Struct("<4sHHHHIIH")
_END64 = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR64 = struct.Struct("<4sIQI")
_MANY, _LARGE = 0xFFFF, 0xFFFFFFFF  # what stands where a number is in another place, because it is too large
_ENCRYPTED = 0x2041  # bits of the flags
_DESCRIBED_AFTER = 0x8
_FOLDER = 0x10  # a bit of the attributes
_AFTER = 24  # bytes that a member may be described by after its content


class Member(NamedTuple):
    """A member of a zip: the byte of the file at which it begins, and how many it has."""

    offset: int
    size: int


class _Entry(NamedTuple):
    name: bytes
    flags: int
    crc: int
    size: int
    header: int


def members_of(file: BinaryIO, size: int) -> Mapping[str, Member]:
    """Return the members of a zip by name.

    Args:
        file: the zip.
        size: how many bytes it has.

    Raises:
        ValueError: it is no zip, or has what ``torch.save`` never writes: compression (it may be a bomb), encryption,
            two members of one name or at one place, a directory that does not end the file or is too long.
    """
    begin, length, count = _directory_of(file, size)
    file.seek(begin)
    directory = file.read(length)
    found: dict[str, Member] = {}
    places = []
    for entry in _entries(directory, count):
        try:
            name = entry.name.decode()
        except UnicodeDecodeError:
            name = "\0"
        if "\0" in name:
            raise ValueError(f"a member of it has a name that is no text: {entry.name[:99]!r}")
        if name in found:
            raise ValueError(f"two members are called {brief(name)}")
        found[name] = member = _member(file, entry, name)
        places.append((entry.header, member.offset + member.size, name))
    end = 0
    for header, after, name in sorted(places):
        if header < end:
            raise ValueError(f"{brief(name)} overlaps another member")
        if header - end > _AFTER:
            raise ValueError(f"{header - end} bytes before {brief(name)} belong to no member")
        end = after
    if end > begin:
        raise ValueError("one of its members overlaps the directory")
    if begin - end > _AFTER:
        raise ValueError(f"{begin - end} bytes before its zip directory belong to no member")
    return found


def _directory_of(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Return where the directory begins, how many bytes it has and how many entries."""
    tail_size = min(size, _END.size + _LOCATOR64.size + _END64.size)
    file.seek(size - tail_size)
    tail = file.read(tail_size)
    if tail_size < _END.size or tail[-_END.size :][:4] != b"PK\5\6":
        raise ValueError("it has no zip directory at its end")
    _, *disks, here, count, length, begin, comment = _END.unpack(tail[-_END.size :])
    end = size - _END.size
    locator = tail[-_END.size - _LOCATOR64.size : -_END.size]
    if locator[:4] == b"PK\6\7":
        end64 = tail[: _END64.size]
        if tail_size < _END.size + _LOCATOR64.size + _END64.size or end64[:4] != b"PK\6\6":
            raise ValueError("its zip directory has two ends, one of them damaged")
        told = (here, count, length, begin)
        *_, here, count, length, begin = _END64.unpack(end64)
        for old, new, full in zip(told, (here, count, length, begin), (_MANY, _MANY, _LARGE, _LARGE), strict=True):
            if old not in (new, full):
                raise ValueError(f"its zip directory has two ends that disagree: {old} and {new}")
        end = size - tail_size
        if _LOCATOR64.unpack(locator)[2] != end:
            raise ValueError("its zip directory has two ends, one of them elsewhere")
    if any(disks) or here != count or comment:
        raise ValueError("its zip directory tells of other disks, or has a comment")
    if length > MAX_LENGTH:
        raise ValueError(f"its zip directory claims {length} bytes; at most {MAX_LENGTH} are read")
    if begin + length != end:
        raise ValueError(f"its zip directory should end at byte {begin + length}; it does at {end}")
    return begin, length, count


def _entries(directory: bytes, count: int) -> list[_Entry]:
    found = []
    at = 0
    while at < len(directory):
        if at + _ENTRY.size > len(directory) or directory[at : at + 4] != b"PK\1\2":
            raise ValueError(f"its zip directory is damaged at its byte {at}")
        _, _, _, flags, method, _, _, crc, packed, size, *lengths, disk, _, traits, header = _ENTRY.unpack_from(
            directory, at
        )
        after_name = at + _ENTRY.size + lengths[0]
        name, extra = directory[at + _ENTRY.size : after_name], directory[after_name : after_name + lengths[1]]
        at += _ENTRY.size + sum(lengths)
        if at > len(directory):
            raise ValueError("the last entry of its zip directory ends outside")
        size, packed, header = _extended(extra, size, packed, header)
        called = repr(name[:99])[1:]
        if flags & _ENCRYPTED:
            raise ValueError(f"{called} in it is encrypted")
        if method or packed != size:
            raise ValueError(f"{called} in it is compressed, which torch.save never does")
        if traits & _FOLDER and size:  # torch.load would not read it, and give what was in memory before
            raise ValueError(f"{called} in it is called a folder and has content")
        if disk:
            raise ValueError(f"{called} is on another disk")
        found.append(_Entry(name, flags, crc, size, header))
    if len(found) != count:
        raise ValueError(f"its zip directory has {len(found)} entries; it claims {count}")
    return found


def _extended(extra: bytes, *numbers: int) -> list[int]:
    """Return numbers, those that were too large for their place taken from the extra field that has room for them."""
    large: Iterator[int] = iter(())
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            content = extra[at + 4 : at + 4 + length]
            large = iter(struct.unpack(f"<{len(content) // 8}Q", content[: len(content) // 8 * 8]))
        at += 4 + length
    found = [next(large, None) if number == _LARGE else number for number in numbers]
    if any(number is None for number in found):
        raise ValueError("its zip directory lacks the size of a large member")
    return [number for number in found if number is not None]


def _member(file: BinaryIO, entry: _Entry, name: str) -> Member:
    """Return where the content of a member is, after its own header, which has to say the same as the directory."""
    file.seek(entry.header)
    local = file.read(_LOCAL.size)
    if len(local) < _LOCAL.size or local[:4] != b"PK\3\4":
        raise ValueError(f"{brief(name)} is not where the directory says")
    _, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack(local)
    # torch.save learns checksum and size as it writes, and puts them after the content.
    later = bool(entry.flags & _DESCRIBED_AFTER)
    sizes = {entry.size, _LARGE, 0} if later else {entry.size, _LARGE}
    same = (
        file.read(name_length) == entry.name
        and (method, flags) == (0, entry.flags)
        and crc in ({entry.crc, 0} if later else {entry.crc})
        and {packed, size} <= sizes
    )
    if not same:
        raise ValueError(f"the directory tells of {brief(name)} one thing, its own header another")
    return Member(entry.header + _LOCAL.size + name_length + extra_length, entry.size)
