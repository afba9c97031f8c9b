"""The safetensors format: tensors beside a JSON header; the header's metadata carries the artifact.

Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import torch
from safetensors import SafetensorError, safe_open

from zoo.errors import FileFormatError, WeightsError
from zoo.weights.checkpoint import METADATA_KEY, Artifact, Checkpoint
from zoo.weights.dtypes import BY_TORCH, dtype_name
from zoo.weights.durable import replacing
from zoo.weights.regions import Region, read_regions, write_values
from zoo.weights.safetensors.header import ALIGNMENT, header_bytes, read_header
from zoo.weights.safetensors.shards import (
    INDEX,
    parse_size,
    partition,
    read_shards,
    remove_unlisted,
    shard_names,
    write_index,
)
from zoo.weights.sniff import likeness

if TYPE_CHECKING:
    from zoo.model import Model


class Safetensors:
    """Reads and writes ``.safetensors`` files; reading maps the file, no byte is copied before it is used."""

    def write(
        self, model: Model | None, checkpoint: Checkpoint, path: Path, *, max_shard_size: int | str | None = None
    ) -> Path:
        """Write an artifact, whole or not at all, one tensor at a time.

        Args:
            model: not needed.
            checkpoint: the tensors and their description.
            path: the file.
            max_shard_size: the most bytes of tensors in one file, ``"2GB"``; what is larger goes into several files
                beside ``path`` and an index.

        Returns:
            ``path``, or the index.

        Raises:
            WeightsError: a tensor has a dtype that the format does not know, or a file cannot be written.
        """
        refuse_unknown_dtypes(checkpoint.tensors, path)
        if path.name.endswith(INDEX):
            raise WeightsError(path, "is the name of an index; name the file: net.safetensors, max_shard_size='2GB'")
        if max_shard_size is not None:
            groups = partition(checkpoint.tensors, parse_size(max_shard_size, path))
            if len(groups) > 1:
                return self._write_shards(checkpoint, path, groups)
        _write_file(path, checkpoint.tensors, checkpoint.artifact)
        return path

    def read(self, path: Path, *, mapped: bool = True) -> Checkpoint:
        """Read a file; its tensors are mapped unless asked otherwise.

        Raises:
            FileFormatError: it is damaged, ends too early or is of another kind.
        """
        if path.name.endswith(INDEX):
            return read_shards(path, mapped=mapped)
        with path.open("rb") as file:
            tensors, metadata = read_tensors(file, path, mapped=mapped)
        text = metadata.get(METADATA_KEY)
        artifact = None if text is None else Artifact.parse(text, path)
        return Checkpoint(tensors, artifact.aliases if artifact else {}, artifact)

    def tidy(self, path: Path, kept: Collection[str]) -> None:
        """Remove the shards of indices that were at ``path`` before."""
        if path.name.endswith(INDEX):
            remove_unlisted(path)

    def _write_shards(self, checkpoint: Checkpoint, path: Path, groups: list[list[str]]) -> Path:
        claimed = checkpoint.artifact.fingerprint if checkpoint.artifact else None
        names = shard_names(path, claimed or checkpoint.fingerprint, len(groups))
        for name, group in zip(names, groups, strict=True):
            _write_file(path.with_name(name), {each: checkpoint.tensors[each] for each in group}, None)
        weight_map = {each: name for name, group in zip(names, groups, strict=True) for each in group}
        return write_index(path, checkpoint, weight_map)


def _write_file(path: Path, tensors: Mapping[str, torch.Tensor], artifact: Artifact | None) -> None:
    with replacing(path) as temporary:
        # Not "wb": ext4 puts a file on the disk when it is closed, if it was truncated, and whoever closes it waits.
        with temporary.open("r+b") as file:
            write_tensors(file, tensors, _metadata(artifact))
        _prove_readable(temporary, tensors, path)


def write_tensors(file: BinaryIO, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors in the safetensors format, in an order that lets them begin where torch's own memory would."""
    order = _order(tensors)
    file.write(header_bytes(tensors, order, metadata))
    for name in order:
        write_values(file, tensors[name])


def planned(checkpoint: Checkpoint, path: Path) -> dict[str, Region]:
    """Return where each tensor is going to be when a checkpoint is written to one file.

    Raises:
        WeightsError: a tensor has a dtype that the format does not know.
    """
    tensors = checkpoint.tensors
    refuse_unknown_dtypes(tensors, path)
    header = header_bytes(tensors, _order(tensors), _metadata(checkpoint.artifact))
    size = len(header) + sum(tensor.nbytes for tensor in tensors.values())
    return {region.name: region for region in read_header(BytesIO(header), size, path).regions}


def read_tensors(file: BinaryIO, path: Path, *, mapped: bool) -> tuple[dict[str, torch.Tensor], Mapping[str, str]]:
    """Read what is in the safetensors format: the tensors, and the metadata of the header.

    Raises:
        FileFormatError: it is damaged, ends too early or is of another kind.
    """
    size = file.seek(0, 2)
    file.seek(0)
    try:
        header = read_header(file, size, path)
    except FileFormatError as error:
        raise FileFormatError(path, f"{error.reason}{likeness(path)}") from None
    return read_regions(file, header.regions, path, mapped=mapped), header.metadata


def refuse_unknown_dtypes(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Refuse, before anything is written, what the format, or a blob of it in another one, has no name for."""
    for name, tensor in tensors.items():
        known = BY_TORCH.get(tensor.dtype)
        if known is None or known.safetensors is None:
            kind = dtype_name(tensor.dtype)
            raise WeightsError(path, f"{path.suffix} cannot hold {name!r}, which is {kind}; .pt can")


def _order(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the names with whole multiples of 64 bytes first, then large dtypes, so that each is aligned."""
    return sorted(tensors, key=lambda name: (tensors[name].nbytes % ALIGNMENT > 0, -tensors[name].dtype.itemsize, name))


def _metadata(artifact: Artifact | None) -> dict[str, str]:
    return {METADATA_KEY: artifact.dump()} if artifact else {}


def _prove_readable(file: Path, expected: Iterable[str], path: Path) -> None:
    """Let the format's own library read the header of a new file before it takes the place of an old one."""
    try:
        with safe_open(file, framework="pt") as opened:
            found = set(opened.keys())
    except SafetensorError as error:
        raise WeightsError(path, f"the safetensors library would not read it: {error}") from error
    if found != set(expected):
        raise WeightsError(path, "the safetensors library would find other tensors in it")


SAFETENSORS = Safetensors()
