"""The header of a safetensors file: where each tensor is, checked more strictly than the format's own library does.

Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from zoo.errors import FileFormatError
from zoo.weights.dtypes import BY_SAFETENSORS, BY_TORCH
from zoo.weights.regions import MAX_DIMS, Region
from zoo.weights.strictjson import MAX_LENGTH, brief, strict_json

_METADATA = "__metadata__"
_FIELDS = {"dtype", "shape", "data_offsets"}

ALIGNMENT = 64
"""Where the first tensor begins, as torch's own memory does."""


@dataclass(frozen=True)
class Header:
    """What the header of a file says.

    Attributes:
        regions: where each tensor is in the file, in the order of their bytes.
        metadata: text by name.
    """

    regions: tuple[Region, ...]
    metadata: Mapping[str, str]


def read_header(file: BinaryIO, size: int, path: Path) -> Header:
    """Read and check the header of an open file; the tensors have to fill the rest of it without gaps or overlaps.

    Args:
        file: the file, at its beginning.
        size: how many bytes it has.
        path: how it is called in errors.

    Raises:
        FileFormatError: something in it is not as the format has it.
    """
    try:
        return _parse(file, size)
    except ValueError as error:
        raise FileFormatError(path, f"not a whole safetensors file: {error}") from None


def header_bytes(tensors: Mapping[str, torch.Tensor], order: Iterable[str], metadata: Mapping[str, str]) -> bytes:
    """Return the header of a file that holds tensors in the given order, padded so that the first one is aligned."""
    told: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    offset = 0
    for name in order:
        tensor = tensors[name]
        told[name] = {
            "dtype": BY_TORCH[tensor.dtype].safetensors,
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset := offset + tensor.nbytes],
        }
    text = json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _parse(file: BinaryIO, size: int) -> Header:
    first = file.read(8)
    if len(first) < 8:
        raise ValueError(f"it has {len(first)} bytes; the length of the header alone takes 8")
    length = int.from_bytes(first, "little")
    if length > size - 8:
        raise ValueError(f"its header claims {length} bytes; {size - 8} are left in the file")
    if length > MAX_LENGTH:
        raise ValueError(f"its header claims {length} bytes; at most {MAX_LENGTH} are read")
    text = file.read(length)
    if not text.startswith(b"{"):
        raise ValueError("its header is no JSON object")
    told = strict_json(text)
    metadata = told.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError(f"{_METADATA} is not text by name")
    begin = 8 + length
    regions = sorted((_region(name, each, begin) for name, each in told.items()), key=lambda r: (r.offset, r.nbytes))
    end = begin
    for region in regions:
        if region.offset != end:
            what = "overlaps the one before" if region.offset < end else f"leaves {region.offset - end} bytes unused"
            raise ValueError(f"{brief(region.name)} {what}")
        end += region.nbytes
    if end != size:
        raise ValueError(f"its tensors end at byte {end}, the file at byte {size}")
    return Header(tuple(regions), metadata)


def _region(name: str, told: Any, begin: int) -> Region:
    if not isinstance(told, dict) or told.keys() != _FIELDS:
        found = (
            ", ".join(map(brief, sorted(told)[:5])) + ("…" * (len(told) > 5)) if isinstance(told, dict) else brief(told)
        )
        raise ValueError(f"{brief(name)} is described by {found}; expected {sorted(_FIELDS)}")
    known = BY_SAFETENSORS.get(told["dtype"]) if isinstance(told["dtype"], str) else None
    if known is None:
        raise ValueError(f"{brief(name)} has the dtype {brief(told['dtype'])}; known are {', '.join(BY_SAFETENSORS)}")
    shape, offsets = _sizes(told["shape"]), _sizes(told["data_offsets"])
    if shape is None or len(shape) > MAX_DIMS:
        raise ValueError(f"{brief(name)} has no shape of at most {MAX_DIMS} dimensions")
    if offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"{brief(name)} has no data_offsets, a begin and an end")
    needed = math.prod(shape) * known.torch.itemsize
    if offsets[1] - offsets[0] != needed:
        raise ValueError(
            f"{brief(name)} has {offsets[1] - offsets[0]} bytes; {told['dtype']} {list(shape)} needs {needed}"
        )
    return Region(name, known.torch, shape, begin + offsets[0])


def _sizes(values: Any) -> tuple[int, ...] | None:
    if not isinstance(values, list) or not all(type(v) is int and 0 <= v < 1 << 62 for v in values):
        return None
    return tuple(values)
