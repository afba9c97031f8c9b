"""Safetensors files whose header lies about itself, about tensors or about the file."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

from hostile.case import TENSORS, Case

_SIZE = sum(len(data) for _, data in TENSORS.values())


def cases() -> Iterator[Case]:
    """Give every file."""
    for what, (data, phrase) in {**_lengths(), **_texts(), **_tensors()}.items():
        yield Case(f"{what}.safetensors", data, "FileFormatError", phrase)
    whole = held(honest())
    length = 8 + int.from_bytes(whole[:8], "little")
    for number, at in enumerate((0, 1, 7, 8, 9, length - 1, length, length + 1, len(whole) - 16, len(whole) - 1)):
        yield Case(f"header-cut-{number}.safetensors", whole[:at], "FileFormatError", "not a whole safetensors file")


def honest() -> dict[str, Any]:
    """Return what the header of the four tensors says."""
    told, at = {}, 0
    for name, (shape, data) in TENSORS.items():
        told[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    return told


def held(told: Any, data: bytes | None = None, length: int | None = None) -> bytes:
    """Return a file, its header as JSON or, if it is bytes, as it is."""
    text = told if isinstance(told, bytes) else json.dumps(told).encode()
    content = b"".join(each for _, each in TENSORS.values()) if data is None else data
    return struct.pack("<Q", len(text) if length is None else length) + text + content


def _lengths() -> dict[str, tuple[bytes, str]]:
    return {
        "length-0": (held(honest(), length=0), "its header is no JSON object"),
        "length-1": (held(honest(), length=1), "its JSON is damaged"),
        "length-less": (held(honest(), length=99), "its JSON is damaged"),
        "length-more": (held(honest(), length=10_000), "its header claims 10000 bytes"),
        "length-all": (held(honest(), length=len(held(honest())) - 8), "its JSON"),
        "length-2-to-63": (held(honest(), length=1 << 63), "its header claims 9223372036854775808 bytes"),
        "length-2-to-64": (held(honest(), length=(1 << 64) - 1), "its header claims 18446744073709551615 bytes"),
        "trailing": (held(honest()) + b"x", f"its tensors end at byte {len(held(honest()))}"),
        "trailing-zip": (held(honest()) + b"PK\5\6" + bytes(18), "its tensors end at byte"),
        "nothing-but-bytes": (held({}, b"x" * 99), "its tensors end at byte 10, the file at byte 109"),
    }


def _texts() -> dict[str, tuple[bytes, str]]:
    one = b'{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'
    return {
        "json-deep": (held(b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"), "its JSON is nested too deeply"),
        "json-deep-dicts": (held(b'{"a":' * 2000 + b"1" + b"}" * 2000), "its JSON is nested too deeply"),
        "json-key-twice": (held(b'{"a":' + one + b',"a":' + one + b"}", b"x"), "the key 'a' is there twice"),
        "json-field-twice": (held(b'{"a":{"dtype":"U8","dtype":"F32"}}', b"x"), "the key 'dtype' is there twice"),
        "json-same-by-escape": (held(b'{"a":' + one + b',"\\u0061":' + one + b"}", b"x"), "the key 'a' is there twice"),
        "json-list": (held(b"[]"), "its header is no JSON object"),
        "json-text": (held(b'"{"'), "its header is no JSON object"),
        "json-space-first": (held(b" {}", b""), "its header is no JSON object"),
        "json-two": (held(b"{}{}", b""), "its JSON is damaged: Extra data"),
        "json-comment": (held(b"{/*a*/}", b""), "its JSON is damaged"),
        "json-zero-bytes": (held(b"{}" + bytes(8), b""), "its JSON is damaged"),
        "json-bom": (held(b"\xef\xbb\xbf{}", b""), "its header is no JSON object"),
        "json-not-utf8": (held(b'{"\xff":' + one + b"}", b"x"), "its JSON is not UTF-8"),
        "json-surrogate": (held(b'{"\\ud800":' + one + b"}", b"x"), r"the key '\ud800' is not Unicode text"),
        "json-surrogate-bytes": (held(b'{"\xed\xa0\x80":' + one + b"}", b"x"), "its JSON is not UTF-8"),
        "json-overlong": (held(b'{"\xc0\x80":' + one + b"}", b"x"), "its JSON is not UTF-8"),
        "json-nan": (held(b'{"a":{"dtype":"U8","shape":[NaN],"data_offsets":[0,1]}}', b"x"), "NaN is no JSON"),
        "json-infinity": (held(b'{"a":{"dtype":"U8","shape":[-Infinity],"data_offsets":[0,1]}}', b"x"), "is no JSON"),
        "json-huge-float": (held(b'{"a":{"dtype":"U8","shape":[1e999],"data_offsets":[0,1]}}', b"x"), "1e999 is no"),
        "json-huge-number": (
            held(b'{"a":{"dtype":"U8","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,1]}}', b"x"),
            "a number of 5000 digits",
        ),
        "json-many-lists": (held(b'{"a":[' + b"[]," * 2000 + b"[]]}"), "'a' is described by list"),
        "json-long-name": (held({"n" * 5000: 1}), "nnn…' is described by 1;"),
        "json-terminal": (held({"\x1b[2J\n\x07": 1}), r"'\x1b[2J\n\x07' is described by 1;"),
        "metadata-list": (held({"__metadata__": [], **honest()}), "__metadata__ is not text by name"),
        "metadata-text": (held({"__metadata__": "zoo", **honest()}), "__metadata__ is not text by name"),
        "metadata-null": (held({"__metadata__": None, **honest()}), "__metadata__ is not text by name"),
        "metadata-numbers": (held({"__metadata__": {"a": 1}, **honest()}), "__metadata__ is not text by name"),
        "metadata-dicts": (held({"__metadata__": {"zoo": {}}, **honest()}), "__metadata__ is not text by name"),
        "metadata-tensor": (held({"__metadata__": honest()["head.fc.bias"]}, b"1234"), "is not text by name"),
    }


def _tensors() -> dict[str, tuple[bytes, str]]:
    def one(data: bytes = b"1234", **changes: Any) -> bytes:
        told = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4], **changes}
        return held({"a": {key: value for key, value in told.items() if value is not ...}}, data)

    def two(first: list[int], second: list[int], size: int) -> bytes:
        told = {n: {"dtype": "U8", "shape": [e - b], "data_offsets": [b, e]} for n, b, e in
                (("a", *first), ("b", *second))}  # fmt: skip
        return held(told, bytes(size))

    no_shape, no_offsets = "'a' has no shape", "'a' has no data_offsets"
    described = "'a' is described by"
    return {
        "shape-negative": (one(shape=[-4]), no_shape),
        "shape-two-negatives": (one(shape=[-2, -2]), no_shape),
        "shape-float": (one(shape=[4.0]), no_shape),
        "shape-bool": (one(shape=[4, True]), no_shape),
        "shape-text": (one(shape="4"), no_shape),
        "shape-null": (one(shape=None), no_shape),
        "shape-nested": (one(shape=[[4]]), no_shape),
        "shape-rank-5000": (one(shape=[1] * 4999 + [4]), no_shape),
        "shape-2-to-64": (one(shape=[1 << 64]), no_shape),
        "shape-overflow": (one(shape=[1 << 33, 1 << 33]), "needs 73786976294838206464"),
        "shape-overflow-to-4": (one(shape=[(1 << 62) - 1, 4]), "has 4 bytes; U8"),
        "shape-empty-vast": (one(b"", shape=[0, (1 << 62) - 1, 9], data_offsets=[0, 0]), "the impossible shape"),
        "shape-empty-many": (one(b"", shape=[0, *[1 << 61] * 63], data_offsets=[0, 0]), "the impossible shape"),
        "shape-larger": (one(shape=[5]), "'a' has 4 bytes; U8 [5] needs 5"),
        "shape-smaller": (one(shape=[3]), "'a' has 4 bytes; U8 [3] needs 3"),
        "shape-scalar": (one(shape=[]), "'a' has 4 bytes; U8 [] needs 1"),
        "dtype-unknown": (one(dtype="F99"), "'a' has the dtype 'F99'; known are F64"),
        "dtype-lower": (one(dtype="u8"), "'a' has the dtype 'u8'"),
        "dtype-number": (one(dtype=8), "'a' has the dtype 8"),
        "dtype-list": (one(dtype=["U8"]), "'a' has the dtype list;"),
        "dtype-long": (one(dtype="F" * 9000), "…"),
        "dtype-4-bits": (one(dtype="F4"), "'a' has the dtype 'F4'"),
        "fields-missing": (one(shape=...), described),
        "fields-unknown": (one(run="os.system"), described),
        "fields-many": (one(**{f"field{i}": i for i in range(500)}), "…"),
        "fields-null": (held({"a": None}), "'a' is described by None;"),
        "offsets-one": (one(data_offsets=[4]), no_offsets),
        "offsets-three": (one(data_offsets=[0, 4, 4]), no_offsets),
        "offsets-backwards": (one(data_offsets=[4, 0]), no_offsets),
        "offsets-negative": (one(data_offsets=[-4, 0]), no_offsets),
        "offsets-float": (one(data_offsets=[0, 4.0]), no_offsets),
        "offsets-bool": (one(shape=[1], data_offsets=[False, True]), no_offsets),
        "offsets-2-to-64": (one(data_offsets=[1 << 64, (1 << 64) + 4]), no_offsets),
        "offsets-beyond": (one(shape=[99], data_offsets=[0, 99]), "its tensors end at byte"),
        "offsets-far": (one(data_offsets=[1 << 40, (1 << 40) + 4]), "'a' leaves 1099511627776 bytes unused"),
        "offsets-same": (two([0, 4], [0, 4], 4), "'b' overlaps the one before"),
        "offsets-overlap": (two([0, 4], [2, 6], 6), "'b' overlaps the one before"),
        "offsets-inside": (two([0, 8], [2, 4], 8), "'b' overlaps the one before"),
        "offsets-hole": (two([0, 4], [5, 9], 9), "'b' leaves 1 bytes unused"),
        "offsets-hole-first": (two([1, 4], [4, 9], 9), "'a' leaves 1 bytes unused"),
    }
