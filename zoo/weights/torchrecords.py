"""From what a pickle of ``torch.save`` says of its tensors to the tensors themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from zoo.weights.dtypes import dtype_name
from zoo.weights.pickled import Called, Stored, Wanted

_STORAGES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
    "torch.ComplexFloatStorage": torch.complex64,
    "torch.ComplexDoubleStorage": torch.complex128,
    "torch.storage.UntypedStorage": torch.uint8,
}
_PARAMETERS = {"torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"}
_TENSORS = {f"torch._utils._rebuild_tensor{version}" for version in ("", "_v2", "_v3")}
_TYPED = "torch._tensor._rebuild_from_type_v2"
_NEWER = {
    f"torch.{dtype_name(d)}": d
    for d in (
        torch.uint16,
        torch.uint32,
        torch.uint64,
        torch.float8_e4m3fn,
        torch.float8_e4m3fnuz,
        torch.float8_e5m2,
        torch.float8_e5m2fnuz,
        torch.float8_e8m0fnu,
    )
}
_DICTS = {"collections.OrderedDict", "collections.defaultdict", "builtins.dict"}


@dataclass(frozen=True)
class StorageRecord:
    """One storage: its key, and how many bytes it claims to have."""

    key: str
    dtype: torch.dtype
    nbytes: int


@dataclass(frozen=True)
class TensorRecord:
    """One tensor: a view of a storage, counted in elements of ``dtype``."""

    storage: StorageRecord
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    conjugated: bool = False
    negated: bool = False

    @property
    def end(self) -> int:
        """The byte of the storage before which the view ends."""
        if 0 in self.shape:
            return self.offset * self.dtype.itemsize
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True))
        return (last + 1) * self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """How many bytes its elements take when each is stored once."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize

    def view(self, storage: torch.Tensor) -> torch.Tensor:
        """Return the tensor, given its storage as a vector of bytes."""
        tensor = storage.view(self.dtype).as_strided(self.shape, self.stride, self.offset)
        tensor = tensor.conj() if self.conjugated else tensor
        return torch._neg_view(tensor) if self.negated else tensor


def as_mapping(value: Any) -> tuple[Mapping[Any, Any], Mapping[str, Any]] | None:
    """Return the items of what is a dict and what its attributes are, or None if it is no dict."""
    if isinstance(value, dict):
        return value, {}
    if isinstance(value, Called) and value.function in _DICTS:
        return value.items, value.state if isinstance(value.state, dict) else {}
    return None


def as_tensor(value: Any) -> TensorRecord | None:
    """Return what a value says of a tensor, or None if it is none.

    Raises:
        ValueError: it is a tensor, but no possible one, or of a kind that weights files have no use for.
    """
    if not isinstance(value, Called):
        return None
    if value.function in _PARAMETERS:
        return as_tensor(value.arguments[0])
    if value.function == _TYPED:
        function, _, arguments, *_ = value.arguments
        return as_tensor(Called(function.name, arguments))
    if value.function not in _TENSORS:
        return None
    storage, offset, shape, stride = value.arguments[:4]
    if not isinstance(storage, Stored):
        raise ValueError("a tensor has no storage")
    record = as_storage(storage)
    dtype, more = record.dtype, value.arguments[6:]
    if value.function.endswith("v3"):
        name = value.arguments[6].name if isinstance(value.arguments[6], Wanted) else ""
        if name not in _NEWER:
            raise ValueError(f"a tensor has the dtype {name or value.arguments[6]!r}, which no weights have")
        dtype, more = _NEWER[name], value.arguments[7:]
    flags = more[0] if more and isinstance(more[0], dict) else {}
    sizes = (offset, *shape, *stride)
    if len(shape) != len(stride) or len(shape) > 64 or not all(type(n) is int and 0 <= n < 1 << 62 for n in sizes):
        raise ValueError("a tensor has no possible shape, strides and offset")
    found = TensorRecord(
        record, dtype, offset, tuple(shape), tuple(stride), flags.get("conj") is True, flags.get("neg") is True
    )
    if found.end > record.nbytes:
        raise ValueError(f"a tensor ends at byte {found.end} of a storage that has {record.nbytes}")
    return found


def as_storage(stored: Stored) -> StorageRecord:
    """Return what a pickle says of a storage.

    Raises:
        ValueError: it is not what ``torch.save`` writes.
    """
    match stored.identity:
        case ("storage", Wanted(name=name), str(key), str(), int(count)) if name in _STORAGES:
            pass
        case ("storage", Wanted(name=name), str(key), str(), int(count), None) if name in _STORAGES:
            pass
        case _:
            raise ValueError("it keeps something beside its pickle that is no storage of torch")
    if not 0 <= count < 1 << 58:
        raise ValueError(f"a storage claims {count} elements")
    return StorageRecord(key, _STORAGES[name], count * _STORAGES[name].itemsize)


def strangers(values: Iterable[Any]) -> list[str]:
    """Return the names of the classes and functions that values would need, other than dicts and tensors."""
    names = (v.function if isinstance(v, Called) else v.name for v in values if isinstance(v, Called | Wanted))
    return [n for n in names if n not in _DICTS | _PARAMETERS | _TENSORS | {_TYPED}]
