"""Reading a pickle without unpickling it: what it would build, as plain data; no code is looked up, nothing is called.

A pickle is a program for a small stack machine. This machine knows the instructions but none of the names: where a
pickle asks for a class or a function it gets a :class:`Wanted`, and where it calls one, a record of the call. What a
state dict needs is then read from those records. PyTorch's own safe loader calls a fixed list of functions, and two
holes in it ran code (CVE-2025-32434, CVE-2026-24747); here there is nothing to call.

Source: the opcodes of the Python standard library's ``pickletools``.
"""

from __future__ import annotations

import pickletools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Any, NamedTuple, NoReturn

from zoo.weights.strictjson import brief, is_unicode

MAX_LENGTH = 16_000_000
"""How long a pickle may be, in bytes, tensors not counted: a hundred thousand of them need less."""

MAX_STEPS = 2_000_000
"""How many instructions it may have: a tensor takes about 32, a hostile one makes 80 bytes of memory of each byte."""

_MAX_NAME = 1000  # letters: names are put together, and a long one may be used again and again
_MAX_NUMBER = 16  # bytes; the number at the beginning of the older format has 10


class Wanted(NamedTuple):
    """A class or function that a pickle asks for, by its dotted name; it is not looked up."""

    name: str


class Stored(NamedTuple):
    """What a pickle says is kept beside it: for torch, a storage."""

    identity: Any


@dataclass(eq=False, slots=True, repr=False)
class Called:
    """What a pickle would make by calling ``function``; it is not called.

    Attributes:
        function: the dotted name.
        arguments: what it would be called with.
        state: what the result would get as its attributes, if anything.
        items: what would be put into it by key.
        values: what would be put into it without a key.
    """

    function: str
    arguments: tuple[Any, ...]
    state: Any = None
    items: dict[Any, Any] | None = None
    values: list[Any] | None = None


def contents(value: Any) -> Iterator[Any]:
    """Give a value and everything within it, outermost first, each thing once: it may hold itself, or much twice."""
    seen, waiting = {id(value)}, deque([value])
    while waiting:
        each = waiting.popleft()
        yield each
        inside: Iterable[Any] = ()
        if isinstance(each, Called):
            inside = (each.arguments, each.state, each.items, each.values)
        elif isinstance(each, Stored):
            inside = (each.identity,)
        elif isinstance(each, list | tuple | dict):
            inside = each.values() if isinstance(each, dict) else each
        for part in inside:
            if isinstance(part, Called | list | tuple | dict) and id(part) not in seen:
                seen.add(id(part))
                waiting.append(part)


class PickleError(ValueError):
    """A pickle is damaged, or does what no state dict needs."""


def read_pickle(stream: BytesIO, most: int = MAX_STEPS) -> Any:
    """Read one pickle from a stream, which is left at the byte after it.

    Args:
        stream: what is to be read.
        most: how many instructions it may have.

    Returns:
        What it describes: numbers, text, lists, tuples and dicts as they are, all else as the records above.

    Raises:
        PickleError: the stream ends too early, or holds no pickle that this machine knows.
    """
    machine = _Machine(most)
    try:
        while code := stream.read(1):
            if code == b".":
                return machine.result()
            name, reader = _words()[code]
            machine.step(name, None if reader is None else reader(stream))
    except PickleError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise PickleError(f"its pickle is damaged ({type(error).__name__}: {str(error)[:200]})") from None
    raise PickleError("its pickle ends too early")


@cache
def _words() -> Mapping[bytes, tuple[str, Callable[[BytesIO], Any] | None]]:
    """Return the instructions that are known here, each with what reads its argument; the others are not even read."""
    known = _PUSHED | _FIXED.keys() | _TUPLES.keys() | _OTHERS
    words = {each.code.encode("latin-1"): each for each in pickletools.opcodes}
    # pickletools takes escapes in these for what they stand for, and warns of some; who unpickles them does not.
    lines: dict[str, Callable[[BytesIO], Any]] = {"GLOBAL": lambda s: f"{_line(s)}.{_line(s)}", "PERSID": _line}
    return _Words(
        {
            code: (w.name, lines.get(w.name, w.arg.reader if w.arg else None))
            for code, w in words.items()
            if w.name in known
        },
        {code: w.name for code, w in words.items()},
    )


class _Words(dict[bytes, tuple[str, Callable[[BytesIO], Any] | None]]):
    def __init__(self, known: Mapping[bytes, tuple[str, Callable[[BytesIO], Any] | None]], names: Mapping[bytes, str]):
        super().__init__(known)
        self.names = names

    def __missing__(self, code: bytes) -> NoReturn:
        raise PickleError(f"its pickle uses {self.names.get(code, repr(code))}, which no state dict needs")


_PUSHED = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING",
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
_NUMBERS = {"LONG", "LONG1", "LONG4", "INT"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_OTHERS = {
    "PROTO", "FRAME", "MARK", "BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE", "BINGET", "LONG_BINGET", "GET", "TUPLE",
    "LIST", "DICT", "APPEND", "APPENDS", "ADDITEMS", "SETITEM", "SETITEMS", "FROZENSET", "GLOBAL", "STACK_GLOBAL",
    "REDUCE", "NEWOBJ", "NEWOBJ_EX", "BUILD", "BINPERSID", "PERSID",
}  # fmt: skip
_MARK = object()


class _Machine:
    def __init__(self, most: int) -> None:
        self.most = most
        self.stack: list[Any] = []
        self.memo: list[Any] = []
        self.steps = 0

    def step(self, name: str, argument: Any) -> None:  # noqa: PLR0912, PLR0915 - one branch an instruction
        stack = self.stack
        self.steps += 1
        if self.steps > self.most:
            raise PickleError(f"its pickle has more than {self.most} instructions")
        if name in _PUSHED:
            if name in _NUMBERS and argument.bit_length() > 8 * _MAX_NUMBER:
                raise PickleError(f"its pickle has a number of {argument.bit_length() // 8 + 1} bytes")
            if isinstance(argument, str) and not is_unicode(argument):
                raise PickleError(f"its text {brief(argument)} is not Unicode text")
            stack.append(argument)
        elif name in _FIXED:
            stack.append(_FIXED[name]())
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.remember(argument)
        elif name == "MEMOIZE":
            self.remember(len(self.memo))
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self.remembered(argument))
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
            flat = self.to_mark()
            stack.append({})
            self.set_items(flat)
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            values = [self.pop()] if name == "APPEND" else self.to_mark()
            target = self.top()
            if isinstance(target, Called):
                target.values = target.values or []
                target = target.values
            if not isinstance(target, list):
                raise PickleError("its pickle is damaged (it appends to what is no list)")
            target.extend(values)
        elif name in ("SETITEM", "SETITEMS"):
            self.set_items(list(reversed([self.pop(), self.pop()])) if name == "SETITEM" else self.to_mark())
        elif name == "FROZENSET":
            stack.append(Called("builtins.frozenset", (self.to_mark(),)))
        elif name == "GLOBAL":
            stack.append(Wanted(_text(argument)))
        elif name == "STACK_GLOBAL":
            attribute, module = self.pop(), self.pop()
            stack.append(Wanted(f"{_text(module)}.{_text(attribute)}"))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, function = self.pop(), self.pop()
            stack.append(_called(function, arguments))
        elif name == "NEWOBJ_EX":
            keywords, arguments, function = self.pop(), self.pop(), self.pop()
            stack.append(_called(function, arguments))
            stack[-1].values = [keywords]
        elif name == "BUILD":
            state, target = self.pop(), self.top()
            if not isinstance(target, Called) or target.state is not None:
                raise PickleError("its pickle is damaged (it gives attributes to what can have none, or has some)")
            target.state = state
        elif name in ("BINPERSID", "PERSID"):
            stack.append(Stored(self.pop() if name == "BINPERSID" else argument))

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise PickleError("its pickle is damaged (it takes what is not there)")
        return self.stack.pop()

    def top(self) -> Any:
        if not self.stack:
            raise PickleError("its pickle is damaged (it takes what is not there)")
        return self.stack[-1]

    def result(self) -> Any:
        value = self.pop()
        if self.stack:
            raise PickleError("its pickle is damaged (it makes more than it gives)")
        return value

    def remember(self, index: int) -> None:
        # Who writes pickles numbers what they remember from 0 or 1; numbers at will could fill any memory, or be made
        # to fall into one place of a table.
        if not 0 <= index <= self.steps:
            raise PickleError(f"its pickle remembers as number {index} what is at most the {self.steps}th")
        self.memo.extend([_MARK] * (index + 1 - len(self.memo)))
        value = self.memo[index] = self.top()
        if value is _MARK:
            raise PickleError("its pickle is damaged (it remembers what is not there)")

    def remembered(self, index: int) -> Any:
        if not 0 <= index < len(self.memo) or self.memo[index] is _MARK:
            raise PickleError("its pickle is damaged (it takes what it does not remember)")
        return self.memo[index]

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
            target.items = target.items or {}
            target = target.items
        if not isinstance(target, dict):
            raise PickleError("its pickle is damaged (it puts items into what is no dict)")
        for key, value in _pairs(flat):
            if key in target:
                raise PickleError(f"its pickle has the key {brief(key)} twice")
            target[key] = value


def _pairs(flat: list[Any]) -> Iterator[tuple[str | bytes, Any]]:
    """Give keys and values; a key that is no text comes as the bytes of what it looks like.

    Numbers can be chosen so that a table of them takes quadratic time; texts and bytes are hashed with a secret.
    """
    if len(flat) % 2:
        raise PickleError("its pickle is damaged (a key has no value)")
    for key, value in zip(flat[::2], flat[1::2], strict=True):
        # Hashing anything else may recurse without end.
        if not isinstance(key, str | int | float | None):
            raise PickleError(f"its pickle has a dict with a key of type {type(key).__name__}")
        yield key if isinstance(key, str) else repr(key).encode(), value


def _called(function: Any, arguments: Any) -> Called:
    if not isinstance(function, Wanted) or not isinstance(arguments, tuple):
        raise PickleError("its pickle is damaged (it calls what is no function)")
    return Called(function.name, arguments)


def _line(stream: BytesIO) -> str:
    line = stream.readline(_MAX_NAME)
    if not line.endswith(b"\n"):
        raise PickleError("its pickle is damaged (it asks for what has no name)")
    return line[:-1].decode()


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MAX_NAME:
        raise PickleError("its pickle is damaged (it asks for what has no name)")
    return value
