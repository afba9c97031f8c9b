"""ONNX files whose messages, initializers, external data and metadata lie."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

from hostile.case import LOADING, TENSORS, WAYS, Case, description, fingerprint
from hostile.headers import held
from hostile.protobuf import NODE, entry, field, floats, graph, honest, metadata, model, tensor, varint

_FIRST = next(iter(TENSORS))
_FORMAT = "FileFormatError"
_WHOLE = "not a whole ONNX file"


def cases() -> Iterator[Case]:
    """Give every file."""
    for what, (words, phrase) in _initializers().items():
        data = model(graph({**honest(), _FIRST: words}))
        yield Case(f"initializer-{what}.onnx", data, _FORMAT, phrase)
    for what, (external, phrase) in _external().items():
        data = model(graph({**honest(), _FIRST: tensor(_FIRST, (2, 2), None, external=external)}))
        yield Case(f"external-{what}.onnx", data, _FORMAT, phrase)
    for what, (data, phrase) in _messages().items():
        yield Case(f"message-{what}.onnx", data, _FORMAT, phrase)
    for what, (told, error, phrase, ways) in _metadata().items():
        yield Case(f"told-{what}.onnx", model(graph(honest()), told), error, phrase, ways)
    deep = b""
    for _ in range(2000):
        deep = field(1, field(5, field(6, deep)))  # a graph whose node has an attribute that is a graph
    data = model(graph(honest(), field(1, field(5, field(6, deep)))))
    yield Case("message-deep.onnx", data, "", "", ())  # the nodes are never looked into
    whole = model(graph(honest()), {})
    cuts = (0, 1, 2, 3, 5, 9, len(NODE) + 5, whole.index(b"head.fc.weight"), whole.index(b"head.fc.bias") - 2)
    for number, at in enumerate(cuts):
        yield Case(f"message-cut-{number}.onnx", whole[:at], _FORMAT, _WHOLE)


def _initializers() -> dict[str, tuple[bytes, str]]:
    four = TENSORS[_FIRST][1]

    def one(dims: tuple[int, ...], data: bytes | None = four, kind: int = 1, more: bytes = b"") -> bytes:
        return tensor(_FIRST, dims, data, kind, more)

    needs = f"initializer {_FIRST!r}"
    return {
        "dims-more": (one((2, 3)), "has 16 bytes; its shape [2, 3] needs 24"),
        "dims-less": (one((3,)), "has 16 bytes; its shape [3] needs 12"),
        "dims-none": (one(()), "has 16 bytes; its shape [] needs 4"),
        "dims-negative": (one((-1, -4)), needs),
        "dims-negative-one": (one((-4,)), needs),
        "dims-overflow": (one((1 << 32, 1 << 32)), needs),
        "dims-overflow-to-4": (one(((1 << 62) + 1, 4)), needs),
        "dims-empty-vast": (one((0, (1 << 63) - 1), b""), needs),
        "dims-empty-negative": (one((0, -5), b""), needs),
        "dims-rank-5000": (one((1,) * 5000), "an initializer has more than 64 dimensions"),
        "type-0": (one((2, 2), kind=0), needs),
        "type-999": (one((2, 2), kind=999), needs),
        "type-negative": (one((2, 2), kind=-1), needs),
        "type-text": (one((2, 2), None, 8, field(6, b"a") * 4), needs),
        "type-text-raw": (one((2, 2), four, 8), needs),
        "no-data": (one((2, 2), None), needs),
        "no-data-vast": (one((1 << 40,), None), needs),
        "typed-less": (one((2, 2), None, 1, floats(3)), needs),
        "typed-more": (one((2, 2), None, 1, floats(5)), needs),
        "typed-other": (one((2, 2), None, 1, field(7, varint(1) * 4)), needs),
        "typed-and-raw": (one((2, 2), four, 1, floats(4)), needs),
        "typed-cut": (one((2, 2), None, 1, field(4, b"\0" * 15)), "has 15 bytes; its shape [2, 2] needs 16"),
        "typed-overflow": (one((2, 2), None, 3, field(5, varint(300) * 4)), needs),
        "segment": (one((2, 2), four, 1, field(3, field(1, 0) + field(2, 4))), needs),
        "name-not-text": (tensor(b"\xff\xfe", (2, 2), four), ""),
        "name-empty": (tensor("", (2, 2), four), ""),
    }


def _external() -> dict[str, tuple[bytes, str]]:
    def at(location: str | bytes, offset: str | None = None, length: str | None = "16") -> bytes:
        facts = {"offset": offset, "length": length}
        return entry("location", location) + b"".join(entry(k, v) for k, v in facts.items() if v is not None)

    here = "data.bin"
    return {
        "parent": (at("../data.bin"), _FIRST),
        "parent-inside": (at("a/../../data.bin"), _FIRST),
        "absolute": (at("/etc/hostname"), _FIRST),
        "windows": (at("C:\\data.bin"), _FIRST),
        "backslash": (at("..\\data.bin"), _FIRST),
        "device": (at("/dev/zero"), _FIRST),
        "url": (at("http://evil.example/data.bin"), _FIRST),
        "empty": (at(""), _FIRST),
        "folder": (at("."), _FIRST),
        "absent": (at("absent.bin"), _FIRST),
        "zero-byte": (at("data.bin\0.txt"), _FIRST),
        "long": (at("d" * 5000), _FIRST),
        "itself": (at("external-itself.onnx", "0", "16"), "'this file' and 'external-itself.onnx'"),
        "offset-negative": (at(here, "-1"), _FIRST),
        "offset-beyond": (at(here, "1000000"), _FIRST),
        "offset-2-to-64": (at(here, str(1 << 64)), _FIRST),
        "offset-digits": (at(here, "9" * 5000), _FIRST),
        "offset-text": (at(here, "0x0"), _FIRST),
        "offset-space": (at(here, " 0"), _FIRST),
        "offset-underscore": (at(here, "1_0"), _FIRST),
        "offset-digit-of-elsewhere": (at(here, "\u0664"), _FIRST),
        "length-negative": (at(here, "0", "-16"), _FIRST),
        "length-less": (at(here, "0", "8"), _FIRST),
        "length-more": (at(here, "0", "17"), _FIRST),
        "length-beyond": (at(here, "0", str(1 << 62)), _FIRST),
        "no-location": (entry("length", "16"), _FIRST),
        "location-twice": (at(here) + entry("location", "/etc/hostname"), "has 'location' twice"),
        "fact-unknown": (at(here) + entry("run", "os.system"), _FIRST),
        "and-raw": (at(here) + field(9, TENSORS[_FIRST][1]), _FIRST),
    }


def _messages() -> dict[str, tuple[bytes, str]]:
    good = graph(honest())
    first = honest()[_FIRST]
    return {
        "empty-graph": (model(graph([], node=b"")), "no graph"),
        "no-graph": (field(1, 8), "no graph"),
        "varint-endless": (model(good, more=b"\x80" * 11), _WHOLE),
        "varint-cut": (model(good, more=b"\x08\xff"), _WHOLE),
        "varint-vast": (model(good, more=varint(7 << 3 | 2) + varint((1 << 64) - 1)), _WHOLE),
        "length-beyond": (model(good, more=varint(7 << 3 | 2) + varint(1 << 30) + b"x"), _WHOLE),
        "length-2-gigabytes": (model(good, more=varint(7 << 3 | 2) + varint((1 << 31) - 1) + b"x"), _WHOLE),
        "length-of-tensor": (model(good[:-4]), _WHOLE),
        "field-0": (model(good, more=b"\x00\x01"), _WHOLE),
        "group-open": (model(good, more=varint(99 << 3 | 3)), _WHOLE),
        "group-closed": (model(good, more=varint(99 << 3 | 4)), _WHOLE),
        "wire-6": (model(good, more=varint(99 << 3 | 6) + b"\0"), _WHOLE),
        "deep-groups": (model(good, more=varint(99 << 3 | 3) * 5000), _WHOLE),
        "initializer-twice": (model(graph([*honest().values(), first])), "the same name"),
        "graph-twice": (model(good, more=field(7, graph([first], node=b""))), "it has two graphs"),
        "sparse": (model(graph(honest(), field(15, field(1, first) + field(3, 4)))), "sparse"),
        "sparse-only": (model(graph([], field(15, field(1, first) + field(3, 4))), {}), "sparse"),
        "packed-dims": (model(graph({**honest(), _FIRST: field(1, varint(2) + varint(9)) + first[4:]})), _FIRST),
    }


def _metadata() -> dict[str, tuple[dict[str, str], str, str, object]]:
    names = {name: name for name in TENSORS}
    bias = next(reversed(TENSORS))
    blob = base64.b64encode(held({"a": {"dtype": "U8", "shape": [9], "data_offsets": [0, 9]}}, b"x")).decode()
    again = base64.b64encode(held({bias: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4))).decode()
    damaged = "its metadata is damaged"

    def told(**changes: str | None) -> dict[str, str]:
        return metadata(**changes)

    lie = f"sha256:{'0' * 64}"
    refused = {
        "names-absent": (told(zoo_initializers=json.dumps({**names, "a": "gone"})), damaged),
        "names-missing": (told(zoo_initializers=None), damaged),
        "names-list": (told(zoo_initializers="[]"), damaged),
        "names-numbers": (told(zoo_initializers=json.dumps({**names, "a": 1})), damaged),
        "names-twice": (told(zoo_initializers=json.dumps(names)[:-1] + f', "{bias}": "{_FIRST}"}}'), "twice"),
        "names-one-tensor": (told(zoo_initializers=json.dumps({**names, "a": bias})), bias),
        "names-deep": (told(zoo_initializers="[" * 5000), damaged),
        "tensors-missing": (told(zoo_tensors=None), damaged),
        "tensors-no-base64": (told(zoo_tensors="!!!!"), damaged),
        "tensors-cut": (told(zoo_tensors=blob[:8]), damaged),
        "tensors-empty": (told(zoo_tensors=""), damaged),
        "tensors-lie": (told(zoo_tensors=blob), damaged),
        "tensors-pickle": (told(zoo_tensors=base64.b64encode(b"cos\nsystem\n(Vid\ntR.").decode()), damaged),
        "tensors-again": (told(zoo_tensors=again), f"two tensors are called {bias!r}"),
        "description-cut": (told(zoo=description()[:-1]), "its description is damaged"),
        "alias-shadows": (told(zoo=description(aliases={bias: _FIRST})), f"{bias!r} is a tensor and stands for"),
        "alias-nowhere": (told(zoo=description(aliases={"a": "gone"})), "that are not there: 'gone'"),
    }
    return {
        **{what: (props, _FORMAT, phrase, WAYS) for what, (props, phrase) in refused.items()},
        "fingerprint-lies": (
            told(zoo=description(fingerprint=lie)), "FingerprintError", f"expected {lie}", ("verify",),
        ),
        "alias-more": (
            told(zoo=description(aliases={"a": bias}, fingerprint=fingerprint({"a": bias}))),
            "TensorMismatchError", "1 unexpected (a)", (*LOADING, "load with a spec"),
        ),
    }  # fmt: skip
