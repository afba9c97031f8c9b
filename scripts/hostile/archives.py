"""Zips whose directory, headers and members disagree, overlap, are packed or end early."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from hostile.case import Case
from hostile.pickletext import Entry, archive, entries, honest, ordered

_WORDS = ordered(honest())
_GOOD = entries(_WORDS)
_LOCAL = 30


def cases() -> Iterator[Case]:
    """Give every file."""
    for what, (data, phrase) in {**_members(), **_directories()}.items():
        yield Case(f"zip-{what}.pt", data, "FileFormatError", phrase)
    whole = archive(_GOOD)
    first = len(_GOOD[0].name) + _LOCAL
    directory = whole.index(b"PK\1\2")
    end = whole.index(b"PK\5\6")
    cuts = (0, 3, 4, _LOCAL, first, first + len(_GOOD[0].data), directory, directory + 46, end, end + 4, end + 21)
    for number, at in enumerate(cuts):
        yield Case(f"zip-cut-{number}.pt", whole[:at], "FileFormatError", "not a whole PyTorch file")


def _changed(index: int, **changes: object) -> list[Entry]:
    members = list(_GOOD)
    members[index] = members[index]._replace(**changes)  # type: ignore[arg-type] # names and types as in Entry
    return members


def _members() -> dict[str, tuple[bytes, str]]:
    zeros = zlib.compress(bytes(20_000_000), 9)[2:-4]
    bomb = Entry(
        b"x/data/9", zeros, method=8, local_method=8, size=20_000_000, packed=len(zeros), local_size=len(zeros)
    )
    disagrees = "one thing, its own header another"
    packed = "is compressed, which torch.save never does"
    pickle = _GOOD[0]
    inner = Entry(b"x/data/5", b"PK\3\4" + bytes(40))
    return {
        "bomb": (archive([*_GOOD, bomb]), packed),
        "bomb-pickle": (archive([bomb._replace(name=b"x/data.pkl"), *_GOOD[1:]]), packed),
        "packed-size": (archive(_changed(2, packed=1)), packed),
        "stored-larger": (archive(_changed(2, size=1 << 20)), disagrees),
        "method-unknown": (archive(_changed(2, method=99, local_method=99)), packed),
        "method-local": (archive(_changed(2, local_method=8)), disagrees),
        "name-local": (archive(_changed(2, local_name=b"x/data/7")), disagrees),
        "name-local-longer": (archive(_changed(2, local_name=b"x/data/0" + b"y" * 8)), disagrees),
        "size-local": (archive(_changed(2, local_size=4)), disagrees),
        "flags-local": (archive(_changed(2, local_flags=0x801)), disagrees),
        "encrypted": (archive(_changed(2, flags=1, local_flags=1)), "is encrypted"),
        "encrypted-strongly": (archive(_changed(2, flags=0x41, local_flags=0x41)), "is encrypted"),
        "masked": (archive(_changed(2, flags=0x2000, local_flags=0x2000)), "is encrypted"),
        "descriptor": (archive(_changed(2, flags=8, local_flags=8, local_size=8)), disagrees),
        "twice": (archive([*_GOOD, _GOOD[2]]), "two members are called 'x/data/0'"),
        "pickle-twice": (archive([*_GOOD, pickle]), "two members are called 'x/data.pkl'"),
        "two-pickles": (archive([*_GOOD, pickle._replace(name=b"y/data.pkl")]), "a zip with 2 data.pkl"),
        "no-pickle": (archive(_GOOD[1:]), "a zip with no data.pkl"),
        "same-place": (archive([*_GOOD[:3], _GOOD[3]._replace(name=b"x/data/0", offset=None), *_GOOD[4:]]), "two"),
        "overlap": (archive(_changed(3, offset=_offset(2))), disagrees),
        "overlap-inside": (archive([*_GOOD, inner, Entry(b"x/data/6", b"", offset=_inside(inner))]), disagrees),
        "overlap-next": (
            archive(_changed(2, data=_GOOD[2].data, size=80, packed=80, local_size=80)),
            "overlaps another member",
        ),
        "overlap-directory": (archive(_changed(-1, size=100, packed=100, local_size=100)), "overlaps the directory"),
        "beyond": (archive(_changed(2, size=1 << 30, packed=1 << 30, local_size=1 << 30)), "overlaps"),
        "offset-beyond": (archive(_changed(2, offset=1 << 30)), "is not where the directory says"),
        "offset-wrong": (archive(_changed(2, offset=7)), "is not where the directory says"),
        "size-4-gigabytes": (archive(_changed(2, size=0xFFFFFFFF, packed=0xFFFFFFFF)), "zip"),
        "folder": (archive(_changed(2, attributes=0x10)), "'x/data/0' in it is called a folder and has content"),
        "other-disk": (archive(_changed(2, disk=1)), "on another disk"),
        "name-not-text": (archive([*_GOOD, Entry(b"x/data/\xff\xfe", b"")]), "a name that is no text"),
        "name-with-zero": (archive([*_GOOD, Entry(b"x/data/0\0", b"")]), "a name that is no text"),
        "byteorder-big": (archive(_changed(1, data=b"big")), "its byte order is b'big'"),
        "byteorder-noise": (archive(_changed(1, data=b"\0" * 999)), "its byte order takes 999 bytes"),
        "pickle-empty": (archive(_changed(0, data=b"")), "its pickle"),
        "pickle-in-two": (archive(_changed(0, data=pickle.data[:99])), "its pickle"),
        "storage-lost": (archive(_GOOD[:2] + _GOOD[3:]), "it has no"),
    }


def _directories() -> dict[str, tuple[bytes, str]]:
    whole, own = archive(_GOOD), "its zip directory"
    return {
        "prefix": (archive(_GOOD, prefix=b"PK\3\4" + b"#!/bin/sh\n" * 9), "belong to no member"),
        "prefix-adjusted": (b"PK\3\4junk" + whole, own),
        "suffix": (whole + b"junk", "it has no zip directory at its end"),
        "suffix-zeros": (whole + bytes(70_000), "it has no zip directory at its end"),
        "comment": (archive(_GOOD, comment=b"a comment"), "it has no zip directory at its end"),
        "comment-of-an-end": (archive(_GOOD, comment=whole[-22:]), own),
        "gap": (archive(_GOOD, between=b"junk" * 9), "36 bytes before its zip directory belong to no member"),
        "count-more": (archive(_GOOD, count=60_000), "its zip directory"),
        "count-less": (archive(_GOOD, count=2), "its zip directory"),
        "directory-size-huge": (archive(_GOOD, directory_size=0xFFFFFFF0), "its zip directory"),
        "directory-size-small": (archive(_GOOD, directory_size=46), "its zip directory"),
        "directory-offset-beyond": (archive(_GOOD, directory_offset=1 << 30), "its zip directory"),
        "directory-offset-0": (archive(_GOOD, directory_offset=0), "its zip directory"),
        "zip64-huge": (archive(_GOOD, directory_size=0xFFFFFFFF, zip64=(9, 1 << 40, 0)), "its zip directory"),
        "zip64-other": (archive(_GOOD, zip64=(9, 1 << 40, 0)), "its zip directory"),
        "zip64-overflow": (archive(_GOOD, count=0xFFFF, zip64=(1 << 63, 1 << 63, 1 << 63)), "its zip directory"),
        "end-alone": (b"PK\3\4" + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0, 0, 0, 4, 0), "no data.pkl"),
        "end-of-noise": (b"PK\3\4" + b"PK\5\6" * 9, "zip directory"),
    }


def _offset(index: int) -> int:
    return sum(_LOCAL + len(m.name) + len(m.data) for m in _GOOD[:index])


def _inside(inner: Entry) -> int:
    return _offset(len(_GOOD)) + _LOCAL + len(inner.name)
