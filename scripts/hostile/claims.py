"""Pickles without code that claim what is not so: views, storages, numbers, memories and depths."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from hostile.case import TENSORS, Case
from hostile.pickletext import (
    call,
    honest,
    laughs,
    name,
    number,
    ordered,
    row,
    saved,
    storage,
    table,
    tensor,
    text,
)

_FIRST = next(iter(TENSORS))
_HELD = storage("0", 4)
_DAMAGED = "its pickle is damaged"


def cases() -> Iterator[Case]:
    """Give every file."""
    for what, (value, phrase) in {**_views(), **_storages()}.items():
        yield Case(f"{what}.pt", saved(ordered({**honest(), _FIRST: value})), "FileFormatError", phrase)
    for what, (words, error, phrase) in _machine().items():
        yield Case(f"pickle-{what}.pt", saved(words, protocol=4), error, phrase)
    for what, held, asked in (
        ("storage-quantised", tensor(storage("0", 16, "QUInt8Storage"), (2,)), "torch.QUInt8Storage"),
        ("view-quantised", tensor(_HELD, (4,), None, 0, name("torch", "quint8"), version="_v3"), "torch.quint8"),
        ("view-sparse", call(name("torch._utils", "_rebuild_sparse_tensor"), b"N"), "it holds a tensor of a kind"),
    ):
        yield Case(f"{what}.pt", saved(ordered({**honest(), _FIRST: held})), "UnsafeFileError", asked)
    crowd = {str(i): tensor(_HELD, (1 << 18,), (0,), i % 4) for i in range(8)}
    crowd |= {f"{i}b": tensor(_HELD, (1 << 17, 2), (0, i)) for i in range(4)}
    crowd |= {f"{i}c": tensor(_HELD, (1 << 16, 2, 2), (0, i, 1)) for i in range(3)}
    crowd |= {f"{i}d": tensor(_HELD, (1 << 16 - i, 4 << i), (0, 0)) for i in range(16)}
    yield Case("view-crowd.pt", saved(ordered({**honest(), **crowd})), "FileFormatError", "its tensors claim")


def _views() -> Mapping[str, tuple[bytes, str]]:
    impossible = "no possible shape, strides and offset"
    odd = row(text("storage"), name("torch", "ByteStorage"), text("0"), text("cpu"), number(16)) + b"Q"
    newer = "_v3"
    return {
        "view-of-nothing": (tensor(_HELD, (10**12,), (0,)), "claims 4000000000000 bytes; its storage has 16"),
        "view-overflow": (tensor(_HELD, (1 << 40, 1 << 40), (0, 0)), "claims 4835703278458516698824704 bytes"),
        "view-overflow-to-0": (tensor(_HELD, (1 << 32, 1 << 32), (0, 0)), "claims 73786976294838206464 bytes"),
        "view-empty-vast": (tensor(_HELD, (0, 1 << 61), (0, 0)), "impossible shape"),
        "view-negative-stride": (tensor(_HELD, (2, 2), (-2, 1), 2), impossible),
        "view-negative-offset": (tensor(_HELD, (2, 2), (2, 1), -1), impossible),
        "view-negative-shape": (tensor(_HELD, (-2, -2), (2, 1)), impossible),
        "view-beyond": (tensor(_HELD, (2, 2), (2, 2)), "ends at byte 20 of a storage that has 16"),
        "view-offset-beyond": (tensor(_HELD, (2, 2), (2, 1), 1), "ends at byte 20 of a storage that has 16"),
        "view-stride-beyond": (tensor(_HELD, (2, 2), (1 << 61, 1)), "of a storage that has 16"),
        "view-huge-number": (tensor(_HELD, (2, 2), (1 << 80, 1)), impossible),
        "view-strides-lack": (tensor(_HELD, (2, 2), (1,)), impossible),
        "view-rank-65": (tensor(_HELD, (1,) * 65), impossible),
        "view-of-floats": (_built(_HELD, number(0), row(b"G" + struct.pack(">d", 2.0)), row(number(1))), impossible),
        "view-of-bools": (_built(_HELD, number(0), row(b"\x88"), row(number(1))), impossible),
        "view-of-text": (_built(_HELD, number(0), text("22"), text("21")), impossible),
        "view-of-number": (_built(_HELD, number(0), number(4), number(1)), impossible),
        "view-of-text-offset": (_built(_HELD, text("0"), row(number(4)), row(number(1))), impossible),
        "view-of-no-storage": (tensor(text("0"), (2, 2)), "a tensor has no storage"),
        "view-of-little": (call(name("torch._utils", "_rebuild_tensor_v2"), _HELD), "a tensor is described by 1 facts"),
        "view-of-nobody": (call(name("torch._utils", "_rebuild_parameter")), "a parameter holds no tensor"),
        "view-parameters": (_nested(3000), "a parameter holds no tensor"),
        "view-unknown-dtype": (
            tensor(odd, (4,), None, 0, name("torch", "float32"), version=newer),
            "the dtype torch.float32, which no weights have",
        ),
        "view-misfit": (
            tensor(storage("0", 3), (1,), None, 0, name("torch", "uint64"), version=newer),
            "a tensor of uint64 is a view of 12 bytes",
        ),
        "view-dtype-of-text": (tensor(odd, (4,), None, 0, text("torch.uint16"), version=newer), "no weights have"),
        "view-dtype-of-laughs": (tensor(odd, (4,), None, 0, laughs(), version=newer), "which no weights have"),
    }


def _storages() -> Mapping[str, tuple[bytes, str]]:
    none = "keeps something beside its pickle that is no storage of torch"
    more = "should have 20 bytes; it has 16"
    return {
        "storage-larger": (tensor(storage("0", 5), (2, 2)), more),
        "storage-smaller": (tensor(storage("0", 3), (3,)), "should have 12 bytes; it has 16"),
        "storage-missing": (tensor(storage("9", 4), (2, 2)), "should have 16 bytes; it has no"),
        "storage-elsewhere": (tensor(storage("../version", 2, "ByteStorage"), (2,)), "should have 2 bytes; it has no"),
        "storage-of-two-kinds": (tensor(storage("1", 1, "DoubleStorage"), (1,)), "should have 8 bytes; it has 8"),
        "storage-negative": (tensor(storage("0", -4), (0,)), "a storage claims -4 elements"),
        "storage-vast": (tensor(storage("0", 1 << 60), (1,)), "a storage claims 1152921504606846976 elements"),
        "storage-of-longs": (tensor(storage("0", 4, "LongStorage"), (2,)), "should have 32 bytes; it has 16"),
        "storage-of-list": (tensor(b"](" + text("storage") + b"eQ", (2,)), none),
        "storage-of-laughs": (tensor(laughs() + b"Q", (2,)), none),
        "storage-nested": (tensor(storage("0", 4) + b"Q", (2, 2)), none),
    }


def _machine() -> Mapping[str, tuple[bytes, str, str]]:
    format_, good = "FileFormatError", ordered(honest())
    vast = b"\x8b" + struct.pack("<i", 1000) + b"\x7f" * 1000
    put, get = b"r" + struct.pack("<I", 1 << 31), b"j" + struct.pack("<I", 1 << 31)
    twice = text("a") + number(1) + text("a") + number(2)
    collide = b"".join(number(k * (2**61 - 1)) + b"N" for k in range(1, 2000))
    remembered = b"".join(f"p{k * (2**61 - 1)}\n".encode() for k in range(1, 400))
    return {
        "memo-empty": (b"h\7", format_, _DAMAGED),
        "memo-far": (b"N" + put + get, format_, "remembers as number 2147483648"),
        "memo-colliding": (b"N" + remembered, format_, "remembers as number"),
        "memo-negative": (b"Np-1\n", format_, "remembers as number -1"),
        "number-huge": (table({"a": vast}), format_, "a number of 1000 bytes"),
        "number-huge-key": (b"}" + vast + b"Ns", format_, "a number of 1000 bytes"),
        "number-negative-length": (b"\x8b" + struct.pack("<i", -1), format_, _DAMAGED),
        "number-2-gigabytes": (b"\x8b" + struct.pack("<i", 2**31 - 1), format_, _DAMAGED),
        "text-beyond": (b"X" + struct.pack("<I", 2**32 - 1), format_, _DAMAGED),
        "text-4-exbibytes": (b"\x8d" + struct.pack("<Q", 1 << 62), format_, _DAMAGED),
        "bytes-beyond": (b"\x8e" + struct.pack("<Q", 1 << 40), format_, _DAMAGED),
        "array-beyond": (b"\x96" + struct.pack("<Q", 1 << 40), format_, _DAMAGED),
        "key-twice": (b"}(" + twice + b"u", format_, "its pickle has the key 'a' twice"),
        "key-twice-in-dict": (b"(" + twice + b"d", format_, "its pickle has the key 'a' twice"),
        "key-twice-in-honest": (good + text(_FIRST) + number(1) + b"s", format_, f"the key {_FIRST!r} twice"),
        "keys-are-numbers": (b"}" + number(1) + tensor(_HELD, (4,)) + b"s", "UnsafeFileError", "keys are no text"),
        "keys-collide": (b"}(" + collide + b"u", "UnsafeFileError", "keys are no text"),
        "keys-are-lists": (b"}]Ns", format_, "a dict with a key of type list"),
        "keys-are-tuples": (b"})Ns", format_, "a dict with a key of type tuple"),
        "key-alone": (b"}(" + text("a") + b"u", format_, "a key has no value"),
        "deep-lists": (b"]" * 5000 + b"a" * 4999, "UnsafeFileError", "it holds a list"),
        "deep-tuples": (b")" + b"\x85" * 5000, "UnsafeFileError", "it holds a tuple"),
        "deep-dict": (b"}" + (text("a") + b"}") * 5000 + b"s" * 5000, "UnsafeFileError", "'a' (dict)"),
        "deep-calls": (b"(" * 5000, format_, _DAMAGED),
        "laughs": (table({**honest(), "a": laughs()}), "UnsafeFileError", "'a' (list)"),
        "laughs-alone": (laughs(), "UnsafeFileError", "it holds a list"),
        "circle": (b"}q\0" + text("a") + b"h\0s", "UnsafeFileError", "'a' (dict)"),
        "surrogate-text": (table({"a": text("\udfff")}), format_, r"'\udfff' is not Unicode text"),
        "name-endless": (text("m" * 2000) + b"q\1h\1\x93", format_, "it asks for what has no name"),
        "pairs-of-python-2": (
            call(name("collections", "OrderedDict"), b"](](" + text("a") + b"e](" + text("b") + number(1) + b"ee"),
            format_,
            "made of what is no list of keys and values",
        ),
        "mark-remembered": (b"(q\0h\0", format_, _DAMAGED),
        "marks-only": (b"((((", format_, _DAMAGED),
        "nothing": (b"", format_, _DAMAGED),
        "no-list": (b"Na", format_, _DAMAGED),
        "no-dict": (b"NNNs", format_, "puts items into what is no dict"),
        "arguments-no-tuple": (name("os", "mkdir") + text("x" * 999) + b"}\x92", format_, "calls what is no function"),
        "unknown-word": (b"\xff", format_, r"its pickle uses b'\xff'"),
        "bad-escape": (b"S'\\q'\n", format_, "its pickle uses STRING"),
        "bad-number": (b"I1e999\n", format_, _DAMAGED),
        "surrogate-name": (ordered({"\ud800": tensor(_HELD, (4,))}), format_, r"'\ud800' is not Unicode text"),
        "long-name": (table({"n" * 5000: number(1)}), "UnsafeFileError", "…"),
        "frame-beyond": (b"\x95" + struct.pack("<Q", 1 << 60) + b"N", "UnsafeFileError", "a NoneType"),
    }


def _built(*arguments: bytes) -> bytes:
    return call(name("torch._utils", "_rebuild_tensor_v2"), *arguments)


def _nested(depth: int) -> bytes:
    """Return the words for a parameter of a parameter of a parameter, and so on."""
    function = name("torch._utils", "_rebuild_parameter") + b"q\1"
    return function + b"h\1" * (depth - 1) + number(1) + b"\x85R" * depth
