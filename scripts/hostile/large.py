"""Hostile files that are too large to keep: made when they are read, to see how much memory a refusal takes."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator

from hostile.case import WAYS, Case
from hostile.headers import held
from hostile.pickletext import Entry, archive, name, ordered, saved, table, text, whole
from hostile.protobuf import field, graph, model, tensor

_MOST = 9_990_000  # just below what a header may have
_PICKLE = 15_900_000  # just below what a pickle may have


def cases() -> Iterator[Case]:
    """Give every file, one at a time."""
    format_, long = "FileFormatError", "at most 10000000 are read"
    one = b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    lists, dicts = b"[]," * (_MOST // 3) + b"[]", b"{}," * 290_000 + b"0"
    yield Case("large-nested.safetensors", held(b'{"a":' + b'{"":' * 5_000_000), format_, long)
    yield Case("large-lists.safetensors", held(b'{"a":[' + lists + b"]}"), format_, "brackets and commas")
    yield Case("large-dicts.safetensors", held(b'{"a":[' + dicts + b"]}"), format_, "'a' is described by list")
    tiny = b",".join(b'"%d":0' % i for i in range(590_000))
    yield Case("large-names.safetensors", held(b"{" + tiny + b"}"), format_, "'0' is described by 0")
    tensors = b",".join(one % i for i in range(80_000))
    yield Case("large-tensors.safetensors", held(b"{" + tensors + b"}", b"x"), format_, "its tensors end at byte")
    wide = "\U0001f600".encode() + b"a" * _MOST
    yield Case("large-wide.safetensors", held(b'{"' + wide + b'":0}'), format_, "is described by 0")
    yield Case("large.pt", saved(b"}(" + text("a" * 50_000_000) + b"N" + b"u"), format_, "at most 16000000 are read")
    for what, words in {
        "lists": b"]" * _PICKLE,
        "sets": b"\x8f" * _PICKLE,
        "dicts": b"}" * _PICKLE,
        "small-dicts": b"}NNs" * (_PICKLE // 4),
        "calls": name("os", "mkdir") + b"q\0" + b"h\0)R" * (_PICKLE // 4),
        "objects": name("os", "mkdir") + b"q\0" + b"h\0)}\x92" * (_PICKLE // 5),
        "remembered": b"]\x94" * (_PICKLE // 2),
        "texts": b"\x8c\2ab" * (_PICKLE // 4),
        "numbers": b"J\0\0\0\1" * (_PICKLE // 5),
        "tuples": b"N\x85" * (_PICKLE // 2),
        "stored": b"NQ" * (_PICKLE // 2),
    }.items():
        yield Case(f"large-{what}.pt", saved(words, protocol=4), format_, "instructions")
    copied = text("x" * 8_000_000) + b"q\0" + name("os", "mkdir") + b"q\1" + b"h\1h\0\x85}\x92" * 400_000
    yield Case("large-arguments.pt", saved(copied, protocol=4), format_, "instructions")
    joined = text("x" * 8_000_000) + b"q\0" + b"h\0h\0\x93" * 1000
    yield Case("large-joined.pt", saved(joined, protocol=4), format_, "asks for what has no name")
    bytes_of = b"B" + struct.pack("<I", 8_000_000) + bytes(8_000_000) + b"q\0"
    yield Case("large-keys.pt", saved(b"](" + bytes_of + b"}h\0Ns" * 1000 + b"e"), format_, "a key of type bytes")
    number = b"\x8b" + struct.pack("<i", 8_000_000) + b"\1" * 8_000_000 + b"q\0"
    yield Case("large-number.pt", saved(b"](" + number + b"}h\0Ns" * 1000 + b"e"), format_, "a number of 8000000 bytes")
    many = {str(i): b"N" for i in range(400_000)}
    yield Case("large-state.pt", saved(ordered(many)), "UnsafeFileError", "'0' (NoneType), '1' (NoneType)")
    yield Case("large-old.pt", whole(table({"a": text("a" * 15_000_000)}) + b"0" * 40_000_000), format_, "its pickle")
    members = [Entry(b"%d" % i, b"") for i in range(180_000)]
    yield Case("large-members.pt", archive(members), format_, "a zip with no data.pkl")
    order = [Entry(b"x/data.pkl", b""), Entry(b"x/byteorder", bytes(60_000_000))]
    yield Case("large-byteorder.pt", archive(order), format_, "its byte order takes 60000000 bytes")
    blob = base64.b64encode(held(b'{"a":[' + lists + b"]}")).decode()
    empty = [tensor(str(i), (0,), b"") for i in range(100_000)]
    yield Case("large-metadata.onnx", model(graph([]), {"zoo": "[" + "[]," * 3_000_000}), format_, "its description is")
    yield Case("large-blob.onnx", model(graph([]), {"zoo": "{}", "zoo.tensors": blob}), format_, "its description is")
    yield Case("large-initializers.onnx", model(graph([*empty, empty[0]])), format_, "the same name")
    yield Case("large-unknown.onnx", model(field(99, bytes(50_000_000))), format_, "no graph", WAYS)
