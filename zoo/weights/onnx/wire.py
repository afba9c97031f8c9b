"""A walk over the fields of a protobuf message in a file: where each one is, without reading what is in it.

Stricter than a protobuf parser has to be: a parser skips what it does not know and lets the last of two values win;
here both are refused where they could hide something.

Format: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""The wire types: a number of variable length, 8 bytes, a length and as many bytes, 4 bytes."""

MAX_FIELDS = 1_000_000
"""How many fields are walked over in one file: the largest graphs have a tenth, and each takes about a microsecond."""

MAX_TEXT = 10_000_000
"""How many bytes of text are read in one file."""

_WIDTH = {FIXED64: 8, FIXED32: 4}
_LONGEST = 10  # bytes that a varint of 64 bits takes
_WINDOW = 4096  # bytes that are read at once on the walk
_PIECE = 1 << 18  # bytes of packed numbers that are decoded at once

Kinds = Mapping[int, Collection[int]]
"""For the number of each known field, the wire types that it may have."""


class Field(NamedTuple):
    """One field: its number and wire type, where its content begins and ends, and its value if it is a varint."""

    number: int
    kind: int
    begin: int
    end: int
    value: int = 0

    @property
    def signed(self) -> int:
        """The value of a varint as an ``int64`` or ``int32`` field has it."""
        return self.value - (1 << 64) if self.value >> 63 else self.value


class Wire:
    """The bytes of a file as protobuf has them; every method raises ValueError where they are not.

    Args:
        file: the file; small pieces of it are read, never the whole.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = file.seek(0, 2)
        self._window, self._from = b"", 0
        self._fields, self._text = MAX_FIELDS, MAX_TEXT

    def fields(self, begin: int, end: int, kinds: Kinds) -> Iterator[Field]:
        """Give the fields of the message between two bytes, in their order.

        Args:
            begin: the byte at which it begins.
            end: the byte before which it ends.
            kinds: the fields that are known; others may have any wire type but that of a group.
        """
        at = begin
        while at < end:
            if not self._fields:
                raise ValueError(f"more than {MAX_FIELDS} fields")
            self._fields -= 1
            tag, start = self._varint(at, end)
            number, kind = tag >> 3, tag & 7
            if not 0 < number < 1 << 29:
                raise ValueError(f"a field of number {number} at byte {at}")
            if number in kinds and kind not in kinds[number]:
                raise ValueError(f"field {number} at byte {at} has the wire type {kind}")
            value, stop = 0, start
            if kind == VARINT:
                value, stop = self._varint(start, end)
            elif kind == BYTES:
                length, start = self._varint(start, end)
                stop = start + length
            elif kind in _WIDTH:
                stop = start + _WIDTH[kind]
            else:
                raise ValueError(f"field {number} at byte {at} has the wire type {kind}, which ONNX does not use")
            if stop > end:
                raise ValueError(f"field {number} at byte {at} ends at byte {stop}, beyond byte {end}")
            yield Field(number, kind, start, stop, value)
            at = stop

    def read(self, begin: int, end: int) -> bytes:
        """Return the bytes from ``begin`` to before ``end``."""
        self.file.seek(begin)
        found = self.file.read(end - begin)
        if len(found) < end - begin:
            raise ValueError(f"it became shorter while it was read, at byte {begin + len(found)}")
        return found

    def text(self, field: Field) -> str:
        """Return the text in a field."""
        self._text -= field.end - field.begin
        if self._text < 0:
            raise ValueError(f"more than {MAX_TEXT} bytes of names")
        try:
            return self.read(field.begin, field.end).decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"the text at byte {field.begin + error.start} is not UTF-8") from None

    def varints(self, begin: int, end: int) -> Iterator[npt.NDArray[np.uint64]]:
        """Give the numbers that are packed between two bytes, many at a time."""
        rest = b""
        for at in range(begin, end, _PIECE):
            data = np.frombuffer(rest + self.read(at, min(at + _PIECE, end)), dtype=np.uint8)
            ends = np.flatnonzero(data < 0x80) + 1
            starts = np.concatenate(([0], ends))
            rest = data[starts[-1] :].tobytes()
            lengths = ends - starts[:-1]
            longest = max(lengths.max(initial=0), len(rest))
            if longest > _LONGEST or (longest == _LONGEST and data[ends[lengths == _LONGEST] - 1].max(initial=0) > 1):
                raise ValueError(f"a number of more than 64 bits at about byte {at}")
            values = np.zeros(len(ends), dtype=np.uint64)
            for place in range(lengths.max(initial=0)):
                here = np.flatnonzero(lengths > place)
                bits = (data[starts[here] + place] & 0x7F).astype(np.uint64)
                values[here] |= bits << np.uint64(7 * place)
            yield values
        if rest:
            raise ValueError(f"a number ends beyond byte {end}")

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for place, byte in enumerate(self._peek(at, min(at + _LONGEST, end))):
            value |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                if value >> 64:
                    break
                return value, at + place + 1
        if end - at < _LONGEST:
            raise ValueError(f"a number at byte {at} ends beyond byte {end}")
        raise ValueError(f"a number of more than 64 bits at byte {at}")

    def _peek(self, begin: int, end: int) -> bytes:
        skip = begin - self._from
        if skip < 0 or end > self._from + len(self._window):
            self._window, self._from, skip = self.read(begin, min(begin + _WINDOW, self.size)), begin, 0
        return self._window[skip : skip + end - begin]
