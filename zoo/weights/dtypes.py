"""The dtypes that weights may have, and what safetensors and ONNX call them: one table for all formats."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Dtype(NamedTuple):
    """One dtype: torch's, its name in a safetensors header (None: it has none), its number in ONNX's ``DataType``."""

    torch: torch.dtype
    safetensors: str | None
    onnx: int


DTYPES = (
    Dtype(torch.float64, "F64", 11),
    Dtype(torch.float32, "F32", 1),
    Dtype(torch.float16, "F16", 10),
    Dtype(torch.bfloat16, "BF16", 16),
    Dtype(torch.float8_e4m3fn, "F8_E4M3", 17),
    Dtype(torch.float8_e4m3fnuz, "F8_E4M3FNUZ", 18),
    Dtype(torch.float8_e5m2, "F8_E5M2", 19),
    Dtype(torch.float8_e5m2fnuz, "F8_E5M2FNUZ", 20),
    Dtype(torch.float8_e8m0fnu, "F8_E8M0", 24),
    Dtype(torch.int64, "I64", 7),
    Dtype(torch.int32, "I32", 6),
    Dtype(torch.int16, "I16", 5),
    Dtype(torch.int8, "I8", 3),
    Dtype(torch.uint64, "U64", 13),
    Dtype(torch.uint32, "U32", 12),
    Dtype(torch.uint16, "U16", 4),
    Dtype(torch.uint8, "U8", 2),
    Dtype(torch.bool, "BOOL", 9),
    Dtype(torch.complex64, "C64", 14),
    Dtype(torch.complex128, None, 15),
)

BY_TORCH = {d.torch: d for d in DTYPES}
BY_SAFETENSORS = {d.safetensors: d for d in DTYPES if d.safetensors}
BY_ONNX = {d.onnx: d for d in DTYPES}


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of a dtype as people write it.

    >>> dtype_name(torch.bfloat16)
    'bfloat16'
    """
    return str(dtype).removeprefix("torch.")
