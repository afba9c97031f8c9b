"""Initializers whose values are in other files, beside the graph: mapped from there, or read.

Format: https://github.com/onnx/onnx/blob/main/docs/ExternalData.md
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch

from zoo.errors import FileFormatError
from zoo.weights.onnx.beside import open_beside
from zoo.weights.onnx.messages import Initializer
from zoo.weights.onnx.tensors import dtype_of, nbytes_of, refuse_other_length
from zoo.weights.onnx.twins import refuse_other_twin
from zoo.weights.regions import Region, read_regions

MAX_MAPPED = 64
"""How many data files are mapped; each takes a file descriptor for as long as a tensor of it lives."""


def read_external(
    wanted: Mapping[str, Initializer], path: Path, *, mapped: bool, fingerprint: str | None
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors of initializers that are in other files.

    Args:
        wanted: the initializers, by the name of their tensor.
        path: the ONNX file.
        mapped: whether tensors may stay in those files. The largest are mapped, the rest of very many are read.
        fingerprint: of the tensors that the graph was written for, if it says so.

    Returns:
        The tensors, and for each name of one that lies where an earlier one does, the earlier name.

    Raises:
        FileFormatError: a file is missing, not in the folder, or does not hold what the graph says.
        StalePairError: a safetensors file was replaced after the graph was written for it.
    """
    by_file: dict[str, list[str]] = defaultdict(list)
    for name, initializer in wanted.items():
        by_file[_location(initializer, path)].append(name)
    try:
        needed = {location: sum(nbytes_of(wanted[name]) for name in names) for location, names in by_file.items()}
    except ValueError as error:
        raise FileFormatError(path, str(error)) from None
    tensors: dict[str, torch.Tensor] = {}
    aliases: dict[str, str] = {}
    own = path.stat()
    seen = {(own.st_dev, own.st_ino): "this file"}
    for rank, location in enumerate(sorted(by_file, key=lambda each: -needed[each])):
        here = {name: wanted[name] for name in by_file[location]}
        with _opened(path, location, here) as file:
            _refuse_second_name(file, location, seen, path)
            regions, same = _places(here, file, location, path, fingerprint)
            aliases.update(same)
            tensors.update(read_regions(file, regions, path.parent / location, mapped=mapped and rank < MAX_MAPPED))
    return {name: tensors[name] for name in wanted if name in tensors}, aliases


def _opened(path: Path, location: str, wanted: Mapping[str, Initializer]) -> BinaryIO:
    try:
        return open_beside(path, location)
    except ValueError as error:
        first = next(iter(wanted.values())).name
        raise FileFormatError(path, f"initializer {first!r} is kept in another file, {error}") from None


def _places(
    wanted: Mapping[str, Initializer], file: BinaryIO, location: str, path: Path, fingerprint: str | None
) -> tuple[list[Region], dict[str, str]]:
    """Return where the tensors are in one file, checked, and which names stand for the tensor of another."""
    try:
        regions = [_region(name, initializer) for name, initializer in wanted.items()]
        if location.lower().endswith(".safetensors"):
            # First, for weights that were replaced may well be shorter.
            refuse_other_twin(file, path.parent / location, regions, path, fingerprint)
        size = file.seek(0, 2)
        for region in regions:
            _refuse_other_length(wanted[region.name], region.offset, size)
    except ValueError as error:
        raise FileFormatError(path, str(error)) from None
    return _apart(regions, location, path)


def _location(initializer: Initializer, path: Path) -> str:
    location = (initializer.external or {}).get("location", "")
    if not location:
        raise FileFormatError(path, f"initializer {initializer.name!r} is kept in another file, but not said in which")
    return location


def _refuse_second_name(file: BinaryIO, location: str, seen: dict[tuple[int, int], str], path: Path) -> None:
    """Remember a file; under another name its tensors could overlap unseen."""
    found = os.fstat(file.fileno())
    first = seen.setdefault((found.st_dev, found.st_ino), location)
    if first != location:
        raise FileFormatError(path, f"{first!r} and {location!r}, in which it keeps initializers, are one file")


def _region(name: str, initializer: Initializer) -> Region:
    offset = _number(initializer, "offset", (initializer.external or {}).get("offset", "0"))
    return Region(name, dtype_of(initializer), initializer.shape, offset)


def _refuse_other_length(initializer: Initializer, offset: int, size: int) -> None:
    told = initializer.external or {}
    length = _number(initializer, "length", told["length"]) if "length" in told else max(0, size - offset)
    if offset + length > size:
        raise ValueError(
            f"initializer {initializer.name!r} ends at byte {offset + length} of {told['location']!r}, which has {size}"
        )
    refuse_other_length(initializer, length)


def _number(initializer: Initializer, key: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise ValueError(f"initializer {initializer.name!r} has the {key} {text[:40]!r}; expected a number of bytes")
    return int(text)


def _apart(regions: list[Region], location: str, path: Path) -> tuple[list[Region], dict[str, str]]:
    """Return the regions that are elsewhere than all others, and which names stand for one of these.

    Raises:
        FileFormatError: two overlap: a small file could claim to hold any number of large tensors.
    """
    kept: list[Region] = []
    aliases: dict[str, str] = {}
    firsts: dict[tuple[int, torch.dtype, tuple[int, ...]], str] = {}
    for region in regions:
        place = (region.offset, region.dtype, region.shape)
        first = firsts.setdefault(place, region.name) if region.nbytes else region.name
        if first == region.name:
            kept.append(region)
        else:
            aliases[region.name] = first
    end, before = 0, ""
    for region in sorted((r for r in kept if r.nbytes), key=lambda r: r.offset):
        if region.offset < end:
            raise FileFormatError(path, f"{region.name!r} and {before!r} overlap in {location!r}")
        end, before = region.offset + region.nbytes, region.name
    return kept, aliases
