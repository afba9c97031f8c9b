"""Pickles that carry code, by every word of their language that looks up, calls or sets state."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from hostile.case import MARK, TENSORS, Case
from hostile.pickletext import (
    CODE,
    EMPTY,
    call,
    honest,
    laughs,
    name,
    number,
    ordered,
    row,
    saved,
    sequence,
    storage,
    table,
    tensor,
    text,
    whole,
)

_ASKS = "refused, and nothing in it was run: it asks for os.mkdir"
_WORD = "which no state dict needs"
_MKDIR = name("os", "mkdir")
_LINES = f"(V{MARK}\nios\nmkdir\n".encode()
_MODEL = name("zoo.model", "Model") + b")\x81}b"


def cases() -> Iterator[Case]:
    """Give every file."""
    yield from _words()
    yield from _protocols()
    yield from _hidden()
    yield from _legacy()


def _words() -> Iterator[Case]:
    """Code as a value of the dict, beside honest tensors, through each word."""
    words = {
        "reduce": (CODE, _ASKS),
        "newobj": (_MKDIR + row(text(MARK)) + b"\x81", _ASKS),
        "newobj_ex": (_MKDIR + row(text(MARK)) + b"}\x92", _ASKS),
        "build": (name("some", "Class") + b")\x81" + CODE + b"b", "it asks for some.Class"),
        "build-of-dict": (b"}" + CODE + b"b", "gives attributes to what can have none"),
        "inst": (_LINES, f"its pickle uses INST, {_WORD}"),
        "obj": (b"(" + _MKDIR + text(MARK) + b"o", f"its pickle uses OBJ, {_WORD}"),
        "global": (_MKDIR, _ASKS),
        "stack_global": (text("os") + text("mkdir") + b"\x93" + row(text(MARK)) + b"R", _ASKS),
        "stack_global-of-number": (text("os") + number(1) + b"\x93", "it asks for what has no name"),
        "call-of-call": (call(call(name("operator", "attrgetter"), text("mkdir")), name("os", "x")), "no function"),
        "eval": (call(name("builtins", "eval"), text(f"open('{MARK}','w')")), "it asks for builtins.eval"),
        "two-words": (call(name("os", "system whoami"), text("x")), "it asks for os.system whoami"),
        "terminal": (call(name("os", "\x1b]0;owned\x07\x1b[2Jx"), text("x")), r"it asks for os.\x1b]0;owned\x07"),
        "extension": (b"\x82\x01", f"its pickle uses EXT1, {_WORD}"),
        "buffer": (b"\x97", f"its pickle uses NEXT_BUFFER, {_WORD}"),
        "whole-model": (_MODEL, "it asks for zoo.model.Model"),
    }
    for word, (value, phrase) in words.items():
        error = "UnsafeFileError" if "asks for" in phrase and "no name" not in phrase else "FileFormatError"
        yield Case(f"code-{word}.pt", saved(table({**honest(), "extra": value}), protocol=4), error, phrase)
    yield Case("code-alone.pt", saved(CODE), "UnsafeFileError", _ASKS)
    yield Case("code-in-list.pt", saved(b"](" + CODE + b"e"), "UnsafeFileError", _ASKS)
    for word, data, phrase in (
        ("then-popped", CODE + b"0" + ordered(honest()), f"its pickle uses POP, {_WORD}"),
        ("then-popped-to-mark", b"(" + CODE + b"1" + ordered(honest()), f"its pickle uses POP_MARK, {_WORD}"),
        ("left-over", CODE + ordered(honest()), "it makes more than it gives"),
        ("overwritten", ordered(honest()) + CODE + b"b" + b"}b", "or has some"),
        ("forgotten", CODE + b"q\1" + ordered(honest()) + b"q\1", "it makes more than it gives"),
    ):
        yield Case(f"code-{word}.pt", saved(data), "FileFormatError", phrase)


def _protocols() -> Iterator[Case]:
    """The plain pickles of each protocol; the first two do not begin as any file that is read."""
    framed = b"\x80\4\x95" + struct.pack("<Q", 99)
    text_of = {
        0: f"cos\nmkdir\n(V{MARK}\ntR.".encode(),
        1: whole(CODE, 1),
        2: whole(CODE, 2),
        3: whole(b"}(" + text("a") + CODE + b"u", 3),
        4: framed + text("os") + b"\x94" + text("mkdir") + b"\x93" + row(text(MARK)) + b"R.",
        5: whole(b"}(" + text("a") + b"\x96" + struct.pack("<Q", 1) + b"x" + text("b") + CODE + b"u", 5),
    }  # fmt: skip
    for protocol, data in text_of.items():
        error, phrase = (
            ("UnsafeFileError", _ASKS) if protocol > 1 else ("FileFormatError", "neither a zip nor a pickle")
        )
        yield Case(f"protocol-{protocol}.pt", data, error, phrase)


def _hidden() -> Iterator[Case]:
    """Code where a state dict has something else: all of it is found before any tensor is made."""
    plain = tensor(storage("0", 4), (2, 2))
    parameter, typed = (
        name("torch._utils", "_rebuild_parameter"),
        name("torch._tensor", "_rebuild_from_type_v2"),
    )
    rebuild = name("torch._utils", "_rebuild_tensor_v2")
    sizes = row(number(2)), row(number(1))
    values = {
        "parameter": call(parameter, CODE, b"\x88", EMPTY),
        "parameter-hooks": call(parameter, plain, b"\x88", CODE),
        "parameter-state": call(name("torch._utils", "_rebuild_parameter_with_state"), plain, b"\x88", EMPTY, CODE),
        "tensor-hooks": tensor(storage("0", 4), (2, 2), hooks=CODE),
        "tensor-shape": call(rebuild, storage("0", 4), number(0), CODE, sizes[1], b"\x89", EMPTY),
        "tensor-offset": call(rebuild, storage("0", 4), CODE, *sizes, b"\x89", EMPTY),
        "tensor-flags": tensor(storage("0", 4), (2, 2), None, 0, table({"conj": CODE})),
        "tensor-state": plain + CODE + b"b",
        "tensor-items": plain + text("a") + CODE + b"s",
        "typed-function": call(typed, _MKDIR, name("torch", "Tensor"), row(text(MARK)), b"}"),
        "typed-class": call(typed, rebuild, _MKDIR, row(storage("0", 4), number(0), *sizes, b"\x89", EMPTY), b"}"),
        "typed-state": call(typed, rebuild, name("torch", "Tensor"), row(storage("0", 4), number(0), *sizes, b"\x89",
                                                                         EMPTY), table({"a": CODE})),
        "ordered-dict": call(name("collections", "OrderedDict"), CODE),
        "default-dict": call(name("collections", "defaultdict"), _MKDIR) + text("a") + CODE + b"s",
        "deep": table({"a": table({"b": b"](" + row(table({"c": CODE})) + b"e"})}),
        "set": b"\x8f(" + CODE + b"\x90",
        "frozen-set": b"(" + CODE + b"\x91",
    }  # fmt: skip
    first = next(iter(TENSORS))
    for where, value in values.items():
        data = saved(ordered({**honest(), first: value}), protocol=4)
        yield Case(f"hidden-{where}.pt", data, "UnsafeFileError", _ASKS)
    for where, identity in {
        "storage": CODE,
        "storage-class": row(text("storage"), _MKDIR, text("0"), text("cpu"), number(4)),
        "storage-key": row(text("storage"), name("torch", "FloatStorage"), CODE, text("cpu"), number(4)),
        "storage-device": row(text("storage"), name("torch", "FloatStorage"), text("0"), CODE, number(4)),
    }.items():
        data = saved(ordered({**honest(), first: tensor(identity + b"Q", (2, 2))}))
        yield Case(f"hidden-{where}.pt", data, "UnsafeFileError", _ASKS)
    whole_dict = ordered(honest())
    yield Case("hidden-attribute.pt", saved(whole_dict + table({"_metadata": CODE}) + b"b"), "UnsafeFileError", _ASKS)
    yield Case("hidden-state.pt", saved(whole_dict + CODE + b"b"), "UnsafeFileError", _ASKS)
    yield Case(
        "hidden-description.pt", saved(whole_dict + table({"zoo": CODE}) + b"b"), "UnsafeFileError", _ASKS
    )  # fmt: skip
    yield Case("hidden-key.pt", saved(b"}" + CODE + number(1) + b"s"), "FileFormatError", "a key of type Called")
    yield Case("hidden-dict-of-dict.pt", saved(call(name("builtins", "dict"), row(CODE))), "UnsafeFileError", _ASKS)
    yield Case(
        "hidden-text-identity.pt",
        saved(ordered({**honest(), first: tensor(f"P{MARK}\n".encode(), (2, 2))})),
        "FileFormatError",
        "keeps something beside its pickle that is no storage of torch",
    )


def _legacy() -> Iterator[Case]:
    keys = b"](" + b"".join(text(str(i)) for i in range(len(TENSORS))) + b"e"
    data = b"".join(struct.pack("<Q", len(each) // 4) + each for _, each in TENSORS.values())
    held = ordered({n: tensor(row(text("storage"), name("torch", "FloatStorage"), text(str(i)), text("cpu"),
                                  number(len(d) // 4), b"N") + b"Q", s)
                    for i, (n, (s, d)) in enumerate(TENSORS.items())})  # fmt: skip
    good = sequence(held, keys, data)
    code = {
        "state": (sequence(table({"a": CODE}), keys, data), "UnsafeFileError", _ASKS),
        "magic": (sequence(held, keys, data, magic=CODE), "UnsafeFileError", _ASKS),
        "facts": (
            sequence(held, keys, data, facts=CODE),
            "FileFormatError",
            "of version 1001 or of another byte order",
        ),
        "keys": (sequence(held, CODE, data), "FileFormatError", "its list of storages is not that of its tensors"),
        "keys-of-code": (sequence(held, b"](" + CODE + b"e", data), "FileFormatError", "its list of storages is not"),
        "big-endian": (
            sequence(held, keys, data, facts=table({"little_endian": b"\x89"})),
            "FileFormatError",
            "of another byte order",
        ),
        "key-twice": (
            sequence(held, b"](" + text("0") * 2 + b"e", data),
            "FileFormatError",
            "its list of storages is not that of its tensors",
        ),
        "key-missing": (sequence(held, b"](" + text("0") + b"e", data), "FileFormatError", "it has no"),
        "count-too-large": (
            sequence(held, keys, struct.pack("<Q", 1 << 61) + data[8:]),
            "FileFormatError",
            "a storage ends at byte",
        ),
        "count-other": (
            sequence(held, keys, struct.pack("<Q", 2) + data[8:]),
            "FileFormatError",
            "a storage ends at byte",
        ),
        "laughs": (sequence(laughs()), "UnsafeFileError", "it holds a list, not a plain state dict"),
        "laughs-version": (
            whole(number(0x1950A86A20F9469CFC6C)) + whole(laughs()) + whole(b"}"),
            "FileFormatError",
            "of another byte order",
        ),
        "circle": (sequence(b"]q\0h\0a"), "UnsafeFileError", "it holds a list"),
        "no-bytes": (good[: -len(data)], "FileFormatError", "a storage ends at byte"),
    }
    for what, (content, error, phrase) in code.items():
        yield Case(f"legacy-{what}.pt", content, error, phrase)
    for number_of, at in enumerate(_ends(good)):
        yield Case(f"legacy-cut-{number_of}.pt", good[:at], "FileFormatError", "not a whole PyTorch file")


def _ends(data: bytes) -> list[int]:
    """Return the place after each of the five pickles but the last, and within the first."""
    import io
    import pickletools

    stream, ends = io.BytesIO(data), [5]
    for _ in range(4):
        for _ in pickletools.genops(stream):
            pass
        ends.append(stream.tell())
    return ends
