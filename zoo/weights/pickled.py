"""Reading a pickle without unpickling it: what it would build, as plain data; no code is looked up, nothing is called.

A pickle is a program for a small stack machine. This machine knows the instructions but none of the names: where a
pickle asks for a class or a function it gets a :class:`Wanted`, and where it calls one, a record of the call. What a
state dict needs is then read from those records. PyTorch's own safe loader calls a fixed list of functions, and two
holes in it ran code (CVE-2025-32434, CVE-2026-24747); here there is nothing to call.

Source: the opcodes of the Python standard library's ``pickletools``.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, NamedTuple

MAX_LENGTH = 16_000_000
"""How long a pickle may be, in bytes, tensors not counted: a hundred thousand of them need less."""


class Wanted(NamedTuple):
    """A class or function that a pickle asks for, by its dotted name; it is not looked up."""

    name: str


class Stored(NamedTuple):
    """What a pickle says is kept beside it: for torch, a storage."""

    identity: Any


@dataclass(eq=False)
class Called:
    """What a pickle would make by calling ``function``; it is not called.

    Attributes:
        function: the dotted name.
        arguments: what it would be called with.
        state: what the result would get as its attributes, if anything.
        items: what would be put into it by key.
    """

    function: str
    arguments: tuple[Any, ...]
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)


class PickleError(ValueError):
    """A pickle is damaged, or does what no state dict needs."""


def read_pickle(stream: BytesIO) -> Any:
    """Read one pickle from a stream, which is left at the byte after it.

    Returns:
        What it describes: numbers, text, lists, tuples and dicts as they are, all else as the records above.

    Raises:
        PickleError: the stream ends too early, or holds no pickle that this machine knows.
    """
    machine = _Machine()
    try:
        for code, argument, _ in pickletools.genops(stream):
            if code.name == "STOP":
                return machine.pop()
            machine.step(code.name, argument)
    except PickleError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, UnicodeError) as error:
        raise PickleError(f"its pickle is damaged ({type(error).__name__}: {str(error)[:200]})") from None
    raise PickleError("its pickle ends too early")


_PUSHED = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_FIXED: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": lambda: Called("builtins.set", ()),
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:  # noqa: PLR0912, PLR0915 - one branch an instruction
        stack = self.stack
        if name in _PUSHED:
            stack.append(argument)
        elif name in _FIXED:
            stack.append(_FIXED[name]())
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[int(argument)] = self.top()
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.top()
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self.memo[int(argument)])
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _TUPLES:
            count = _TUPLES[name]
            stack.append(tuple(reversed([self.pop() for _ in range(count)])))
        elif name == "TUPLE":
            stack.append(tuple(self.to_mark()))
        elif name == "LIST":
            stack.append(self.to_mark())
        elif name == "DICT":
            stack.append(dict(_pairs(self.to_mark())))
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            values = [self.pop()] if name == "APPEND" else self.to_mark()
            if isinstance(self.top(), list):
                self.top().extend(values)
            elif not isinstance(self.top(), Called):
                raise PickleError("its pickle is damaged (it appends to what is no list)")
        elif name in ("SETITEM", "SETITEMS"):
            self.set_items(list(reversed([self.pop(), self.pop()])) if name == "SETITEM" else self.to_mark())
        elif name == "FROZENSET":
            stack.append(Called("builtins.frozenset", (self.to_mark(),)))
        elif name == "GLOBAL":
            stack.append(Wanted(argument.replace(" ", ".", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = self.pop(), self.pop()
            stack.append(Wanted(f"{_text(module)}.{_text(attribute)}"))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, function = self.pop(), self.pop()
            stack.append(_called(function, arguments))
        elif name == "NEWOBJ_EX":
            keywords, arguments, function = self.pop(), self.pop(), self.pop()
            stack.append(_called(function, (*arguments, keywords)))
        elif name == "BUILD":
            state = self.pop()
            if isinstance(self.top(), Called):
                self.top().state = state
        elif name in ("BINPERSID", "PERSID"):
            stack.append(Stored(self.pop() if name == "BINPERSID" else argument))
        elif name == "POP":
            self.pop()
        elif name not in ("PROTO", "FRAME"):
            raise PickleError(f"its pickle uses {name}, which no state dict needs")

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise PickleError("its pickle is damaged (it takes what is not there)")
        return self.stack.pop()

    def top(self) -> Any:
        if not self.stack:
            raise PickleError("its pickle is damaged (it takes what is not there)")
        return self.stack[-1]

    def to_mark(self) -> list[Any]:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                values = self.stack[index + 1 :]
                del self.stack[index:]
                return values
        raise PickleError("its pickle is damaged (it takes what is not there)")

    def set_items(self, flat: list[Any]) -> None:
        target = self.top()
        if isinstance(target, Called):
            target = target.items
        if not isinstance(target, dict):
            raise PickleError("its pickle is damaged (it puts items into what is no dict)")
        for key, value in _pairs(flat):
            if key in target:
                raise PickleError(f"its pickle has the key {key!r} twice")
            target[key] = value


def _pairs(flat: list[Any]) -> Iterator[tuple[Any, Any]]:
    if len(flat) % 2:
        raise PickleError("its pickle is damaged (a key has no value)")
    for key, value in zip(flat[::2], flat[1::2], strict=True):
        # Hashing anything else may recurse without end.
        if not isinstance(key, str | int | float | bytes | None):
            raise PickleError(f"its pickle has a dict with a key of type {type(key).__name__}")
        yield key, value


def _called(function: Any, arguments: Any) -> Called:
    if not isinstance(function, Wanted) or not isinstance(arguments, tuple):
        raise PickleError("its pickle is damaged (it calls what is no function)")
    return Called(function.name, arguments)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise PickleError("its pickle is damaged (it asks for what has no name)")
    return value
