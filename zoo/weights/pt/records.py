"""From what a pickle of ``torch.save`` says of its tensors to the tensors themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from zoo.weights.dtypes import dtype_name
from zoo.weights.pt.pickled import Called, Stored, Wanted, contents
from zoo.weights.regions import MAX_BYTES, MAX_DIMS
from zoo.weights.strictjson import brief

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
_HARMLESS = {
    *(_STORAGES.keys() | _PARAMETERS | _TENSORS | _NEWER.keys() | _DICTS | {_TYPED}),
    *(f"torch.{dtype_name(d)}" for d in _STORAGES.values()),
    *("builtins.set", "builtins.frozenset", "torch.Tensor", "torch.nn.parameter.Parameter"),
    *("torch.Size", "torch.device"),
}
"""What state dicts have within; all of it is known by name here, and none is ever called."""

_BUILTINS = (
    *("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "long", "object", "range"),
    *("set", "slice", "str", "tuple", "unicode", "xrange"),
)
_NUMPY = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
_PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path", "PurePath")
_CONFIGS = ("dictconfig.DictConfig", "listconfig.ListConfig", "base.ContainerMetadata", "base.Metadata")
_NODES = ("Any", "String", "Integer", "Float", "Boolean", "Bytes", "Path")
_INERT = {
    *("argparse.Namespace", "types.SimpleNamespace", "collections.Counter", "collections.deque", "typing.Any"),
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in _BUILTINS),  # Python 2 had the latter
    *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in _PATHS),
    *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
    *("decimal.Decimal", "fractions.Fraction", "uuid.UUID", "_codecs.encode"),
    *(f"{module}.{name}" for module in _NUMPY for name in ("scalar", "_reconstruct", "dtype", "ndarray")),
    *(f"{package}.utilities.{place}" for package in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric",
      "lightning.fabric") for place in ("parsing.AttributeDict", "data.AttributeDict")),
    *(f"omegaconf.{name}" for name in _CONFIGS),
    *(f"omegaconf.nodes.{name}Node" for name in _NODES),
}  # fmt: skip
"""What training runs keep beside their weights and what is nothing but data: settings, paths, numbers, dates.

They are held as records of names like all else, not made: what a class of these names would do is never asked.
"""


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
        return math.prod(self.shape) * self.dtype.itemsize

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
        items = value.items or {}
        if value.function == "collections.OrderedDict" and value.arguments:
            items = {**_from_pairs(value.arguments), **items}
        return items, value.state if isinstance(value.state, dict) else {}
    return None


def _from_pairs(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    """Return what Python 2 made an ordered dict of: a list of lists of a key and a value."""
    match arguments:
        case (list(pairs),) if all(isinstance(p, list) and len(p) == 2 and isinstance(p[0], str) for p in pairs):
            found = dict(pairs)
            if len(found) == len(pairs):
                return found
    raise ValueError("an ordered dict is made of what is no list of keys and values")


def as_tensor(value: Any) -> TensorRecord | None:
    """Return what a value says of a tensor, or None if it is none.

    Raises:
        ValueError: it is a tensor, but no possible one, or of a kind that weights files have no use for.
    """
    if not isinstance(value, Called):
        return None
    if value.function in _PARAMETERS:
        match value.arguments:
            case (Called(function=function) as inner, *_) if function in _TENSORS | {_TYPED}:
                return as_tensor(inner)
        raise ValueError("a parameter holds no tensor")
    if value.function == _TYPED:
        match value.arguments:
            case (Wanted(name=name), _, tuple(arguments), *_) if name in _TENSORS:
                return as_tensor(Called(name, arguments))
        raise ValueError("a tensor of another type holds no tensor")
    if value.function not in _TENSORS:
        return None
    return _view(value.function, value.arguments)


def _view(function: str, arguments: tuple[Any, ...]) -> TensorRecord:
    if len(arguments) < (7 if function.endswith("v3") else 4):
        raise ValueError(f"a tensor is described by {len(arguments)} facts")
    storage, offset, shape, stride = arguments[:4]
    if not isinstance(storage, Stored):
        raise ValueError("a tensor has no storage")
    record = as_storage(storage)
    dtype, more = record.dtype, arguments[6:]
    if function.endswith("v3"):
        name = arguments[6].name if isinstance(arguments[6], Wanted) else ""
        if name not in _NEWER:
            raise ValueError(f"a tensor has the dtype {name or brief(arguments[6])}, which no weights have")
        dtype, more = _NEWER[name], arguments[7:]
    flags = more[0] if more and isinstance(more[0], dict) else {}
    if not (
        isinstance(shape, tuple | list) and isinstance(stride, tuple | list) and len(shape) == len(stride) <= MAX_DIMS
    ):
        raise ValueError("a tensor has no possible shape, strides and offset")
    if not all(type(n) is int and 0 <= n < 1 << 62 for n in (offset, *shape, *stride)):
        raise ValueError("a tensor has no possible shape, strides and offset")
    if 0 in shape and math.prod(max(1, n) for n in shape) * dtype.itemsize > MAX_BYTES:
        raise ValueError(f"a tensor has the impossible shape {list(shape)}")
    found = TensorRecord(
        record, dtype, offset, tuple(shape), tuple(stride), flags.get("conj") is True, flags.get("neg") is True
    )
    if found.end > record.nbytes:
        raise ValueError(f"a tensor ends at byte {found.end} of a storage that has {record.nbytes}")
    if record.nbytes % dtype.itemsize:
        raise ValueError(f"a tensor of {dtype_name(dtype)} is a view of {record.nbytes} bytes")
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


def strangers(value: Any) -> list[str]:
    """Return the names of what a value asks for anywhere, other than what state dicts and checkpoints have within."""
    names = (v.function if isinstance(v, Called) else v.name for v in contents(value) if isinstance(v, Called | Wanted))
    return [name for name in names if name not in _HARMLESS and name not in _INERT]
