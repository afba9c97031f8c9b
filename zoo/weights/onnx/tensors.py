"""From an initializer of an ONNX file to its tensor: at its place in the file, or decoded from a list of numbers.

Format: the comments of ``TensorProto`` in https://github.com/onnx/onnx/blob/main/onnx/onnx-ml.proto
"""

from __future__ import annotations

import math

import numpy as np
import torch

from zoo.weights.dtypes import BY_ONNX, dtype_name
from zoo.weights.onnx.messages import DATA_FIELDS, RAW_DATA, Initializer
from zoo.weights.onnx.wire import Field, Wire
from zoo.weights.regions import Region

_FLOAT_DATA, _INT32_DATA, _INT64_DATA, _DOUBLE_DATA, _UINT64_DATA = 4, 5, 7, 10, 11
_AT_ITS_PLACE = {  # packed numbers of fixed width lie as raw_data does; a complex number is two of them
    RAW_DATA: frozenset(each.torch for each in BY_ONNX.values()),
    _FLOAT_DATA: {torch.float32, torch.complex64},
    _DOUBLE_DATA: {torch.float64, torch.complex128},
}
_DECODED = {
    _INT32_DATA: frozenset(each.torch for each in BY_ONNX.values() if each.torch.itemsize <= 2)
    | {torch.int32, torch.bool},
    _INT64_DATA: {torch.int64},
    _UINT64_DATA: {torch.uint32, torch.uint64},
}
_BY_WIDTH = {1: torch.uint8, 2: torch.uint16}


def dtype_of(initializer: Initializer) -> torch.dtype:
    """Return the dtype of an initializer.

    Raises:
        ValueError: torch has none for it.
    """
    known = BY_ONNX.get(initializer.number)
    if known is None:
        from onnx import TensorProto

        numbers = TensorProto.DataType.values()
        number = initializer.number
        kind = TensorProto.DataType.Name(number) if number in numbers else f"number {number}"
        raise ValueError(f"initializer {initializer.name!r} is of type {kind}, which has no counterpart here")
    return known.torch


def nbytes_of(initializer: Initializer) -> int:
    """Return how many bytes the values of an initializer take.

    Raises:
        ValueError: torch has no dtype for it.
    """
    return math.prod(initializer.shape) * dtype_of(initializer).itemsize


def read_initializer(wire: Wire, initializer: Initializer, name: str) -> Region | torch.Tensor:
    """Return where the values of an initializer are or, where they lie in another way than in memory, its tensor.

    Args:
        wire: the file, which holds the values itself.
        initializer: the initializer.
        name: what to call its tensor.

    Raises:
        ValueError: its values are not those of its dtype and shape.
    """
    dtype, data = dtype_of(initializer), initializer.data
    where = data.number if data else RAW_DATA
    begin, end = (data.begin, data.end) if data else (0, 0)
    if dtype in _AT_ITS_PLACE.get(where, ()):
        refuse_other_length(initializer, end - begin)
        return Region(name, dtype, initializer.shape, begin)
    if data is None or dtype not in _DECODED.get(where, ()):
        raise ValueError(f"initializer {initializer.name!r} is {dtype_name(dtype)}, but has {DATA_FIELDS[where]}")
    return _decode(wire, data, dtype, initializer)


def refuse_other_length(initializer: Initializer, found: int) -> None:
    """Check that as many bytes are there as the shape needs.

    Raises:
        ValueError: they are more or less.
    """
    needed = nbytes_of(initializer)
    if found != needed:
        raise ValueError(
            f"initializer {initializer.name!r} has {found} bytes; its shape {list(initializer.shape)} needs {needed}"
        )


def _decode(wire: Wire, data: Field, dtype: torch.dtype, initializer: Initializer) -> torch.Tensor:
    """Decode a list of numbers; of a float of 16 or 8 bits the number is its bits."""
    needed = math.prod(initializer.shape)
    if needed > data.end - data.begin:  # each takes a byte at least: nothing larger than the file is allocated
        raise ValueError(f"initializer {initializer.name!r} has fewer numbers than its shape {list(initializer.shape)}")
    held = _BY_WIDTH[dtype.itemsize] if dtype.is_floating_point else dtype
    values = torch.empty(needed, dtype=torch.uint8 if held == torch.bool else held)
    target = values.numpy()
    lowest, highest = (0, 1) if dtype == torch.bool else (torch.iinfo(held).min, torch.iinfo(held).max)
    done = 0
    for piece in wire.varints(data.begin, data.end):
        numbers = piece if data.number == _UINT64_DATA else piece.view(np.int64)
        if done + len(numbers) > needed:
            raise ValueError(
                f"initializer {initializer.name!r} has more numbers than its shape {list(initializer.shape)}"
            )
        if len(numbers) and not lowest <= int(numbers.min()) <= int(numbers.max()) <= highest:
            raise ValueError(
                f"initializer {initializer.name!r} is {dtype_name(dtype)}, but has a number outside of "
                f"{lowest} to {highest}"
            )
        target[done : done + len(numbers)] = numbers
        done += len(numbers)
    if done < needed:
        raise ValueError(f"initializer {initializer.name!r} has fewer numbers than its shape {list(initializer.shape)}")
    return values.view(dtype).reshape(initializer.shape)
