"""The walk over protobuf fields: what ``onnx`` writes is found; what is damaged or ambiguous is refused."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from zoo.weights.onnx import wire as protowire
from zoo.weights.onnx.messages import read_messages
from zoo.weights.onnx.wire import BYTES, FIXED32, FIXED64, VARINT, Field, Wire


def varint(value: int) -> bytes:
    content = bytearray()
    while value >> 7:
        content.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*content, value])


def message(number: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return varint(number << 3 | BYTES) + varint(len(content)) + content


NODE = message(1)


def walk(content: bytes) -> list[Field]:
    wire = Wire(BytesIO(content))
    return list(wire.fields(0, wire.size, {}))


def test_fields_are_found_with_their_places_and_values() -> None:
    content = varint(1 << 3) + varint(300) + message(2, b"ab") + b"\x1d1234" + b"\x2112345678"
    assert walk(content) == [
        Field(1, VARINT, 1, 3, 300),
        Field(2, BYTES, 5, 7),
        Field(3, FIXED32, 8, 12),
        Field(4, FIXED64, 13, 21),
    ]
    proto = TensorProto(name="w", dims=[-1], raw_data=b"\0" * 10_000)
    dims, name, data = walk(proto.SerializeToString())
    assert (dims.signed, name.end - name.begin, data.end - data.begin) == (-1, 1, 10_000)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x80", "a number at byte 0 ends beyond byte 1"),
        (b"\x08", "a number at byte 1 ends beyond byte 1"),
        (b"\x08" + b"\xff" * 9, "a number at byte 1 ends beyond byte 10"),
        (b"\x08" + b"\xff" * 10, "a number of more than 64 bits at byte 1"),
        (b"\x08" + b"\xff" * 9 + b"\x02", "a number of more than 64 bits at byte 1"),
        (b"\x08" + b"\x80" * 10 + b"\x01", "a number of more than 64 bits at byte 1"),
        (b"\x12\x05abc", "field 2 at byte 0 ends at byte 7, beyond byte 5"),
        (b"\x12" + b"\xff" * 9 + b"\x01", "field 2 at byte 0 ends at byte 18446744073709551626, beyond byte 11"),
        (b"\x15abc", "field 2 at byte 0 ends at byte 5, beyond byte 4"),
        (b"\x00\x00", "a field of number 0 at byte 0"),
        (varint(1 << 32) + b"\x00", "a field of number 536870912 at byte 0"),
        (b"\x0b" * 10_000, "field 1 at byte 0 has the wire type 3, which ONNX does not use"),
        (b"\x0c", "field 1 at byte 0 has the wire type 4, which ONNX does not use"),
        (b"\x0f", "field 1 at byte 0 has the wire type 7, which ONNX does not use"),
    ],
)
def test_what_is_no_field_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}$"):
        walk(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it has no graph"),
        (b"\x38\x01", "field 7 at byte 0 has the wire type 0"),
        (message(7, message(5, message(8, b"\xff"))), "the text at byte 6 is not UTF-8"),
        (message(7, message(5, b"\x10\x01\x10\x01")), "field 2 of an initializer is there twice, again at byte 7"),
        (message(7, message(5), message(5)), "two initializers have the same name, ''"),
        (message(7, message(5, message(1, b"\x01" * 65))), "an initializer has more than 64 dimensions"),
        (message(7, message(5, message(1, b"\x80"))), "a number ends beyond byte 7"),
        (message(7, message(5, message(9, b""), message(9, b""))), "field 9 of an initializer is there twice"),
        (message(7, message(5, b"\x25abcd")), "field 4 at byte 4 has the wire type 5"),
        (message(7, message(5, b"\x70\x02")), "initializer '' has the data_location 2; 0 and 1 are known"),
        (message(7, message(5, message(13, message(1), message(1)))), "has two keys or two values"),
        (message(7, message(5, message(13), message(13))), "an initializer has '' twice in its external_data"),
        (message(7, message(5, b"\x12\x05")), "field 2 at byte 4 has the wire type 2"),
    ],
)
def test_messages_that_are_ambiguous_or_damaged_are_refused(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_messages(Wire(BytesIO(content)), ["zoo"])


def test_dims_are_read_packed_and_one_by_one() -> None:
    for dims in (message(1, b"\x02\x03"), b"\x08\x02\x08\x03"):
        found = read_messages(Wire(BytesIO(message(7, NODE, message(5, dims)))), ["zoo"])
        assert found.initializers[""].shape == (2, 3)


def test_fields_names_and_initializers_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = [message(5, message(8, str(i).encode() * 10)) for i in range(10)]
    content = message(7, *tensors)
    monkeypatch.setattr(protowire, "MAX_FIELDS", 15)
    with pytest.raises(ValueError, match=r"^more than 15 fields"):
        read_messages(Wire(BytesIO(content)), ["zoo"])
    monkeypatch.setattr(protowire, "MAX_FIELDS", 100)
    monkeypatch.setattr(protowire, "MAX_TEXT", 95)
    with pytest.raises(ValueError, match=r"^more than 95 bytes of names"):
        read_messages(Wire(BytesIO(content)), ["zoo"])
    monkeypatch.setattr(protowire, "MAX_TEXT", 100)
    monkeypatch.setattr("zoo.weights.onnx.messages.MAX_INITIALIZERS", 9)
    with pytest.raises(ValueError, match="it has more than 9 initializers"):
        read_messages(Wire(BytesIO(content)), ["zoo"])


@given(st.lists(st.integers(0, 2**64 - 1) | st.sampled_from([0, 127, 128, 2**63, 2**64 - 1])), st.integers(10, 40))
def test_packed_numbers_are_decoded_across_the_pieces_that_are_read(numbers: list[int], piece: int) -> None:
    content = b"".join(map(varint, numbers))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protowire, "_PIECE", piece)
        found = [n for part in Wire(BytesIO(content)).varints(0, len(content)) for n in part.tolist()]
    assert found == numbers


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x01\x80", "a number ends beyond byte 2"),
        (b"\xff" * 9 + b"\x02", "a number of more than 64 bits at about byte 0"),
        (b"\x80" * 10 + b"\x01", "a number of more than 64 bits at about byte 0"),
        (b"\x80" * 1_000_000, "a number of more than 64 bits at about byte 0"),
    ],
)
def test_packed_numbers_that_are_none_are_refused(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}$"):
        np.concatenate(list(Wire(BytesIO(content)).varints(0, len(content))))


def test_a_file_that_becomes_shorter_on_the_way_is_refused() -> None:
    file = BytesIO(message(7, NODE) + message(2, b"x" * 20_000) + message(3, b"end"))
    fields = (wire := Wire(file)).fields(0, wire.size, {})
    next(fields)
    file.truncate(100)
    next(fields)
    with pytest.raises(ValueError, match="it became shorter while it was read, at byte"):
        next(fields)
