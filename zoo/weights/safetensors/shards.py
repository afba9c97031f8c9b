"""Sharded safetensors: several files and an index that says which tensor is in which.

Layout: ``model.safetensors.index.json`` of the Hugging Face ecosystem, with the tensors' files in ``weight_map``. Our
index keeps the artifact in its metadata. The names of our shards carry a part of the fingerprint, so that new shards
never overwrite those that an older index still needs: a crash between two files leaves the old index with its shards.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ByteSize, TypeAdapter, ValidationError

from zoo.errors import FileFormatError, WeightsError
from zoo.weights.checkpoint import METADATA_KEY, Artifact, Checkpoint
from zoo.weights.durable import replacing
from zoo.weights.regions import read_regions
from zoo.weights.safetensors.header import read_header
from zoo.weights.strictjson import MAX_LENGTH, strict_json

INDEX = ".safetensors.index.json"
"""How the name of an index ends."""


def parse_size(size: int | str, path: Path) -> int:
    """Return a number of bytes.

    Args:
        size: a number, or text: ``"2GB"`` (10⁹ bytes each), ``"1.5GiB"`` (2³⁰).
        path: the file that is to be written, for the error.

    Raises:
        WeightsError: it is neither, or not positive.

    >>> parse_size("2MB", Path("x"))
    2000000
    """
    try:
        parsed = int(TypeAdapter(ByteSize).validate_python(size, strict=False))
    except ValidationError:
        parsed = 0
    if isinstance(size, bool) or parsed <= 0:
        raise WeightsError(path, f"found max_shard_size {size!r}; expected a number of bytes, or text such as '2GB'")
    return parsed


def partition(tensors: Mapping[str, torch.Tensor], most: int) -> list[list[str]]:
    """Divide tensors, in their order, into groups of at most ``most`` bytes; a larger tensor is a group of its own.

    >>> partition({"a": torch.ones(2), "b": torch.ones(2), "c": torch.ones(9)}, 16)
    [['a', 'b'], ['c']]
    """
    groups: list[list[str]] = []
    room = 0
    for name, tensor in tensors.items():
        if not groups or tensor.nbytes > room:
            groups.append([])
            room = most
        groups[-1].append(name)
        room -= tensor.nbytes
    return groups


def shard_names(path: Path, fingerprint: str, count: int) -> list[str]:
    """Return the file names of shards: ``net-1a2b3c4d-00001-of-00002.safetensors``."""
    mark = fingerprint.removeprefix("sha256:")[:8]
    return [f"{path.stem}-{mark}-{number:05d}-of-{count:05d}{path.suffix}" for number in range(1, count + 1)]


def write_index(path: Path, checkpoint: Checkpoint, weight_map: Mapping[str, str]) -> Path:
    """Write the index of shards that are there already, then remove shards of the same name that it does not list.

    Args:
        path: the file that was asked for, ``net.safetensors``.
        checkpoint: what the shards hold.
        weight_map: for each tensor, the file name of its shard.

    Returns:
        The index, ``net.safetensors.index.json``.
    """
    metadata: dict[str, Any] = {"total_size": sum(t.nbytes for t in checkpoint.tensors.values())}
    if checkpoint.artifact is not None:
        metadata[METADATA_KEY] = checkpoint.artifact.dump()
    index = path.with_name(f"{path.stem}{INDEX}")
    with replacing(index) as temporary:
        told = {"metadata": metadata, "weight_map": dict(sorted(weight_map.items()))}
        temporary.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    remove_unlisted(index)
    return index


def remove_unlisted(index: Path) -> None:
    """Remove shards that an earlier index of the same name had and this one does not list."""
    weight_map, _ = _read_index(index)
    stem = re.escape(index.name.removesuffix(INDEX))
    ours = re.compile(rf"{stem}-[0-9a-f]{{8}}-\d{{5}}-of-\d{{5}}\.safetensors")
    for other in index.resolve().parent.iterdir():
        if ours.fullmatch(other.name) and other.name not in weight_map.values():
            other.unlink(missing_ok=True)


def files_of(path: Path) -> list[Path]:
    """Return the files that hold what ``path`` names: itself, or the index and its shards.

    Raises:
        FileFormatError: it is an index, and damaged, or a shard is missing or elsewhere.
    """
    if not path.name.endswith(INDEX):
        return [path]
    weight_map, _ = _read_index(path)
    return [path, *(_shard(path, name) for name in sorted(set(weight_map.values())))]


def read_shards(path: Path, *, mapped: bool) -> Checkpoint:
    """Read the index at ``path`` and all of its shards.

    Raises:
        FileFormatError: the index or a shard is damaged, missing, elsewhere, or they do not agree.
    """
    weight_map, metadata = _read_index(path)
    tensors: dict[str, torch.Tensor] = {}
    listed: dict[str, set[str]] = {}
    for tensor, name in weight_map.items():
        listed.setdefault(name, set()).add(tensor)
    for name, shard in {name: _shard(path, name) for name in sorted(listed)}.items():
        with shard.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            regions = read_header(file, size, shard).regions
            found = {region.name for region in regions}
            if found != listed[name]:
                odd = sorted(found ^ listed[name])
                has = "has" if odd[0] in found else "lacks"
                raise FileFormatError(path, f"its index and {name} do not agree: the shard {has} {odd[0]!r}")
            tensors |= read_regions(file, regions, shard, mapped=mapped)
    text = metadata.get(METADATA_KEY)
    artifact = Artifact.parse(text, path) if isinstance(text, str) else None
    return Checkpoint(tensors, artifact.aliases if artifact else {}, artifact)


def _read_index(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    with path.open("rb") as file:
        text = file.read(MAX_LENGTH + 1)
    try:
        told = strict_json(text)
    except ValueError as error:
        raise FileFormatError(path, f"not a whole index of shards: {error}") from None
    weight_map = told.get("weight_map") if isinstance(told, dict) else None
    metadata = told.get("metadata", {}) if isinstance(told, dict) else None
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        raise FileFormatError(path, "not a whole index of shards: it has no weight_map, file names by tensor")
    if not isinstance(metadata, dict):
        raise FileFormatError(path, "not a whole index of shards: its metadata is no object")
    return weight_map, metadata


def _shard(index: Path, name: str) -> Path:
    """Return the path of a shard, which has to be a file in the folder of its index."""
    if name != Path(name).name or name in ("", ".", "..") or not name.isprintable() or "\\" in name or ":" in name:
        raise FileFormatError(index, f"its index points outside its folder: {name!r}")
    shard = index.with_name(name)
    # Where the index itself is a link, as in a cache of downloads, its shards may lie where the index does.
    if shard.resolve().parent not in (index.parent.resolve(), index.resolve().parent):
        raise FileFormatError(index, f"its index points outside its folder: {name!r} is a link to {shard.resolve()}")
    if not shard.is_file():
        raise FileFormatError(index, f"its shard {name!r} is {'no file' if shard.exists() else 'missing'}")
    return shard
