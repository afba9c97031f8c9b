"""Tensors at known places of a file: mapped, so that nothing is read before it is used, or read into memory of our own.

And the way back: the bytes of a tensor as they go into a file, one tensor at a time.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch

from zoo.errors import FileFormatError
from zoo.weights.strictjson import brief

MAX_DIMS = 64
"""How many dimensions torch lets a tensor have in most of its operators."""

MAX_BYTES = 1 << 62
"""No tensor is larger: beyond this the arithmetic of sizes overflows in the libraries below."""

SMALL = 1 << 16
"""A tensor of no more bytes is read into memory if it does not begin where torch's own memory would."""

_PART = 1 << 20
_VECTOR = 64  # the alignment of what torch allocates
_PAGE = 4096


@dataclass(frozen=True)
class Region:
    """One tensor in a file: what it is called, what it is, and at which byte it begins.

    ``itemsize`` is that of the largest dtype of which it is to hold elements, if that is not its own.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int
    itemsize: int = 1

    @property
    def nbytes(self) -> int:
        """How many bytes it takes."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_regions(file: BinaryIO, regions: Iterable[Region], path: Path, *, mapped: bool) -> dict[str, torch.Tensor]:
    """Return the tensors at the given places of an open file.

    Args:
        file: the file, whose size the regions were checked against.
        regions: the places; they lie within the file.
        path: how the file is called in errors.
        mapped: True maps the file privately: a page is read when it is used, writing to a tensor never changes the
            file, but whoever shortens or edits the file changes or ends this process. False reads all of it now, into
            memory of our own.

    Raises:
        FileFormatError: a tensor is no possible one, or the file became shorter.
    """
    wanted = list(regions)
    for region in wanted:
        _check(region, path)
    if not mapped:
        return {region.name: _private(file, region, path) for region in wanted}
    if not any(region.nbytes for region in wanted):
        return {region.name: torch.empty(region.shape, dtype=region.dtype) for region in wanted}
    window = _map(file)
    return {
        region.name: _view(window, region, path) if _stays_mapped(region) else _private(file, region, path)
        for region in wanted
    }


def regions_in(content: bytearray, regions: Iterable[Region], path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors at the given places of what was read already; they share its memory.

    Raises:
        FileFormatError: a tensor is no possible one.
    """
    wanted = list(regions)
    for region in wanted:
        _check(region, path)
    return {region.name: _view(content, region, path) for region in wanted}


def dense(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor whose bytes are its values in order: on the CPU, contiguous, neither conjugated nor negated.

    A tensor that is so already is returned as it is.

    >>> dense(torch.tensor([1 + 2j]).conj()).is_conj()
    False
    """
    return tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()


def bytes_of(tensor: torch.Tensor) -> torch.Tensor:
    """Return the bytes of a tensor's values in order, a vector; nothing is copied if the tensor is dense."""
    values = dense(tensor)
    return values.reshape(-1).view(torch.uint8) if values.numel() else torch.empty(0, dtype=torch.uint8)


def byte_view(tensor: torch.Tensor) -> memoryview:
    """Return the same as :func:`bytes_of`, for a file to write or a hash to read."""
    return memoryview(bytes_of(tensor).numpy())  # type: ignore[arg-type] # arrays are buffers; numpy says so from Python 3.12 on


def write_values(file: BinaryIO, tensor: torch.Tensor) -> None:
    """Write the bytes of a tensor's values in order to a file.

    A mapped tensor is touched before it is written, part by part: a write that meets a page which is not there yet
    falls back to a path that takes twice as long (Linux 6.18, ext4).
    """
    for part in torch.split(bytes_of(tensor), _PART):
        part[::_PAGE].sum()
        file.write(byte_view(part))


def _check(region: Region, path: Path) -> None:
    if len(region.shape) > MAX_DIMS:
        raise FileFormatError(
            path, f"{brief(region.name)} has {len(region.shape)} dimensions; at most {MAX_DIMS} are possible"
        )
    # Taken one by one: a zero among the dimensions hides how large the others claim to be.
    if math.prod(max(1, n) for n in region.shape) * region.dtype.itemsize > MAX_BYTES:
        raise FileFormatError(path, f"{brief(region.name)} has the impossible shape {list(region.shape)}")


def _map(file: BinaryIO) -> mmap.mmap:
    if hasattr(mmap, "MAP_PRIVATE"):
        # No swap is reserved for pages that are never written: files larger than the memory can be mapped.
        flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)
        return mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def _stays_mapped(region: Region) -> bool:
    """Tell whether a tensor is used where it is in the file, rather than read into memory now.

    What is not aligned for its dtype would be copied out of the window, page fault by page fault: reading is faster.
    Vector instructions sum in another order where memory does not begin at a multiple of 64, as torch's own does: small
    tensors are read, so that a small model computes the very same bits as before it was saved.
    """
    return _aligned(region) and (region.offset % _VECTOR == 0 or region.nbytes > SMALL)


def _view(window: mmap.mmap | bytearray, region: Region, path: Path) -> torch.Tensor:
    if not region.nbytes:
        return torch.empty(region.shape, dtype=region.dtype)
    if region.offset + region.nbytes > len(window):
        raise FileFormatError(path, f"it became shorter while it was read; {brief(region.name)} ends outside")
    count = math.prod(region.shape)
    if not _aligned(region):
        raw = torch.frombuffer(window, dtype=torch.uint8, count=region.nbytes, offset=region.offset)
        return raw.clone().view(region.dtype).reshape(region.shape)
    return torch.frombuffer(window, dtype=region.dtype, count=count, offset=region.offset).reshape(region.shape)


def _aligned(region: Region) -> bool:
    return region.offset % max(region.itemsize, region.dtype.itemsize) == 0  # kernels may rely on it


def _private(file: BinaryIO, region: Region, path: Path) -> torch.Tensor:
    tensor = torch.empty(region.shape, dtype=region.dtype)
    target = byte_view(tensor)
    file.seek(region.offset)
    done = 0
    while done < len(target):
        count = file.readinto(target[done:])  # type: ignore[attr-defined] # every file opened for reading bytes has it
        if not count:
            raise FileFormatError(path, f"it became shorter while it was read; {brief(region.name)} ends outside")
        done += count
    return tensor
