"""cast: the floating-point tensors of a checkpoint in another precision, with a count of what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from os import PathLike

import torch

from registry import nearest
from zoo.errors import LossyCastError, UnknownNameError
from zoo.weights.checkpoint import CastRecord, Checkpoint
from zoo.weights.dtypes import dtype_name

PRECISIONS: Mapping[str, torch.dtype] = {
    dtype_name(dtype): dtype
    for dtype in (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.float8_e4m3fn,
        torch.float8_e4m3fnuz,
        torch.float8_e5m2,
        torch.float8_e5m2fnuz,
    )
}
"""What is cast, and to what. ``float8_e8m0fnu`` is not: it holds exponents alone, the scales of other tensors."""

TOLERATED_UNDERFLOW = 0.001
"""Which share of the nonzero values of a tensor may become zero before a cast is refused."""

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_CHUNK = 1 << 22  # elements looked at together: a few times 16 MB


@dataclass(frozen=True)
class TensorCast:
    """What casting one tensor does.

    Attributes:
        name: the tensor.
        source: its dtype before, ``"float32"``.
        target: its dtype after.
        nonzero: how many of its values are not zero; 0 where the new dtype has every value of the old one, and nothing
            is counted.
        overflowed: how many are too large for the new dtype: finite ones that become infinite, NaN or, in an 8-bit
            dtype, the largest value that it has; infinite ones, if it has no infinity.
        underflowed: how many are not zero and become zero.
    """

    name: str
    source: str
    target: str
    nonzero: int
    overflowed: int
    underflowed: int

    @property
    def refused(self) -> bool:
        """Whether that is too much: any overflow, or more underflow than ``TOLERATED_UNDERFLOW``."""
        return self.overflowed > 0 or self.underflowed > TOLERATED_UNDERFLOW * self.nonzero


@dataclass(frozen=True)
class CastReport:
    """What casting a checkpoint does.

    Attributes:
        dtype: what to.
        tensors: every tensor whose dtype changes.
    """

    dtype: str
    tensors: tuple[TensorCast, ...]

    def require_faithful(self, path: str | PathLike[str]) -> None:
        """Check that no values that matter are lost.

        Raises:
            LossyCastError: they are.
        """
        refuse_lossy(self.tensors, path)

    def __str__(self) -> str:
        over, under = sum(t.overflowed for t in self.tensors), sum(t.underflowed for t in self.tensors)
        return f"{len(self.tensors)} tensors to {self.dtype}: {over:,} values too large, {under:,} become zero"


def cast(
    checkpoint: Checkpoint,
    dtype: str | torch.dtype,
    *,
    allow_lossy: bool = False,
    path: str | PathLike[str] = "checkpoint",
) -> tuple[Checkpoint, CastReport]:
    """Return a checkpoint whose floating-point tensors are of another dtype.

    Integers, booleans and complex numbers stay as they are, and so does what is tied. The tensors are gone through
    twice, to count and to take the new fingerprint; then each is cast when it is asked for, so that whoever writes them
    one by one needs memory for the largest alone.

    Args:
        checkpoint: the tensors; it stays as it is.
        dtype: what to, ``"bfloat16"`` or ``torch.bfloat16``.
        allow_lossy: True casts whatever it costs; the artifact then says what it did.
        path: how the checkpoint is called in errors.

    Returns:
        The checkpoint, its artifact with the new fingerprint and a record of the cast, and what it costs.

    Raises:
        UnknownNameError: there is no such floating-point dtype.
        LossyCastError: a finite value would become infinite or NaN, or more than a thousandth of the nonzero values
            of a tensor would become zero.

    >>> weights = Checkpoint({"scale": torch.tensor([0.1, 3.0])})
    >>> halved, report = cast(weights, "float16")
    >>> halved.tensors["scale"].dtype, str(report)
    (torch.float16, '1 tensors to float16: 0 values too large, 0 become zero')
    """
    converted, report = cast_for_use(checkpoint, dtype, allow_lossy=allow_lossy, path=path)
    artifact = checkpoint.artifact
    if artifact is None or not report.tensors:
        return converted, report
    records = _records(report, artifact.fingerprint or checkpoint.fingerprint)
    artifact = artifact.model_copy(update={"casts": (*artifact.casts, *records)})
    return replace(converted, artifact=artifact).sealed(), report


def cast_for_use(
    checkpoint: Checkpoint, dtype: str | torch.dtype, *, allow_lossy: bool, path: str | PathLike[str]
) -> tuple[Checkpoint, CastReport]:
    """Do what :func:`cast` does for tensors that are going to be used, not written: the artifact loses its fingerprint.

    Raises:
        UnknownNameError: there is no such floating-point dtype.
        LossyCastError: values that matter would be lost.
    """
    target = precision(dtype)
    report = examine(checkpoint.tensors, target)
    if not allow_lossy:
        report.require_faithful(path)
    if not report.tensors:
        return checkpoint, report
    artifact = checkpoint.artifact
    artifact = None if artifact is None else artifact.model_copy(update={"fingerprint": None})
    return replace(checkpoint, tensors=_Cast(checkpoint.tensors, target), artifact=artifact), report


def precision(dtype: str | torch.dtype) -> torch.dtype:
    """Return a dtype that weights can be cast to.

    Raises:
        UnknownNameError: it is none.

    >>> precision("bfloat16")
    torch.bfloat16
    """
    name = dtype_name(dtype) if isinstance(dtype, torch.dtype) else str(dtype).removeprefix("torch.")
    if name not in PRECISIONS:
        known = tuple(PRECISIONS)
        raise UnknownNameError("floating-point dtype", name, known, nearest(name, known))
    return PRECISIONS[name]


def is_cast(tensor: torch.Tensor, target: torch.dtype) -> bool:
    """Tell whether a tensor changes: it is of a floating-point dtype, and of another one."""
    return tensor.dtype != target and dtype_name(tensor.dtype) in PRECISIONS


def examine(tensors: Mapping[str, torch.Tensor], target: torch.dtype) -> CastReport:
    """Count what casting tensors would do, without keeping anything."""
    found = ((name, tensors[name]) for name in tensors)
    return CastReport(dtype_name(target), tuple(examined(n, t, target) for n, t in found if is_cast(t, target)))


def examined(name: str, tensor: torch.Tensor, target: torch.dtype) -> TensorCast:
    """Count what casting one tensor would do."""
    texts = dtype_name(tensor.dtype), dtype_name(target)
    if _holds(target, tensor.dtype):
        return TensorCast(name, *texts, 0, 0, 0)
    nonzero = overflowed = underflowed = 0
    bound, least = _bound(target), _least(target)
    values = tensor.detach().reshape(-1)
    for start in range(0, values.numel(), _CHUNK):
        part = values[start : start + _CHUNK]
        sizes = part.to(torch.float64 if part.dtype == torch.float64 else torch.float32).abs()
        here = int(sizes.count_nonzero())
        nonzero += here
        large, small = sizes >= bound, sizes < least
        if large.any():
            after = sizes[large].to(target).to(sizes.dtype)
            overflowed += int((~(sizes[large].isinf() & after.isinf())).count_nonzero())
        if int(small.count_nonzero()) > sizes.numel() - here:  # small ones that are not zero: few, so look closely
            underflowed += int((sizes[small & (sizes != 0)].to(target).to(sizes.dtype) == 0).count_nonzero())
    return TensorCast(name, *texts, nonzero, overflowed, underflowed)


def refuse_lossy(casts: tuple[TensorCast, ...], path: str | PathLike[str]) -> None:
    """Check that casts lose no values that matter.

    Raises:
        LossyCastError: they do.
    """
    refused = [each for each in casts if each.refused]
    if refused:
        overflow = {each.name: each.overflowed for each in refused if each.overflowed}
        underflow = {each.name: each.underflowed for each in refused if each.underflowed}
        targets = " and ".join(dict.fromkeys(each.target for each in refused))
        raise LossyCastError(path, targets, overflow, underflow)


class _Cast(Mapping[str, torch.Tensor]):
    """Tensors that are cast when they are asked for, each time anew."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], target: torch.dtype) -> None:
        self._tensors = tensors
        self._target = target

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor = self._tensors[name]
        return tensor.to(self._target) if is_cast(tensor, self._target) else tensor

    def __contains__(self, name: object) -> bool:
        return name in self._tensors  # the one that a mapping has would cast the tensor to find out

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _records(report: CastReport, fingerprint: str) -> list[CastRecord]:
    sources = dict.fromkeys(each.source for each in report.tensors)
    grouped = {source: [each for each in report.tensors if each.source == source] for source in sources}
    return [
        CastRecord(
            source=source,
            target=report.dtype,
            tensors=len(casts),
            overflowed=sum(each.overflowed for each in casts),
            underflowed=sum(each.underflowed for each in casts),
            fingerprint=fingerprint,
        )
        for source, casts in grouped.items()
    ]


def _bound(dtype: torch.dtype) -> float:
    """Return where the numbers begin that a dtype has no room for: half a step above its largest."""
    largest = torch.tensor([torch.finfo(dtype).max], dtype=torch.float64).to(dtype)
    # From the bits, not from finfo: torch 2.14 gives the eps of float8_e5m2fnuz as half of what it is.
    below = (largest.view(_BITS[dtype.itemsize]) - 1).view(dtype)
    return largest.item() + (largest.double() - below.double()).item() / 2


def _least(dtype: torch.dtype) -> float:
    """Return the smallest positive number that a dtype has."""
    return torch.ones(1, dtype=_BITS[dtype.itemsize]).view(dtype).double().item()


def _holds(wide: torch.dtype, narrow: torch.dtype) -> bool:
    """Tell whether one dtype is larger and has every value of another."""
    here, there = torch.finfo(wide), torch.finfo(narrow)
    range_ = here.max >= there.max and here.tiny * here.eps <= there.tiny * there.eps
    return range_ and here.eps <= there.eps and wide.itemsize > narrow.itemsize
