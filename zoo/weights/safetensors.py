"""The safetensors format: tensors beside a JSON header; the header's metadata carries the artifact.

Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import torch
from safetensors import SafetensorError, safe_open

from zoo.errors import FileFormatError, WeightsError
from zoo.weights.checkpoint import METADATA_KEY, Artifact, Checkpoint
from zoo.weights.dtypes import BY_TORCH, dtype_name
from zoo.weights.durable import replacing
from zoo.weights.header import header_bytes, read_header
from zoo.weights.regions import byte_view, read_regions
from zoo.weights.sniff import likeness

if TYPE_CHECKING:
    from zoo.model import Model


class Safetensors:
    """Reads and writes ``.safetensors`` files; reading maps the file, no byte is copied before it is used."""

    def write(self, model: Model | None, checkpoint: Checkpoint, path: Path) -> None:
        """Write an artifact, whole or not at all, one tensor at a time."""
        refuse_unknown_dtypes(checkpoint.tensors, path)
        metadata = {METADATA_KEY: checkpoint.artifact.dump()} if checkpoint.artifact else {}
        with replacing(path) as temporary:
            with temporary.open("wb") as file:
                write_tensors(file, checkpoint.tensors, metadata)
            _prove_readable(temporary, checkpoint.tensors, path)

    def read(self, path: Path, *, mapped: bool = True) -> Checkpoint:
        """Read a file; its tensors are mapped unless asked otherwise.

        Raises:
            FileFormatError: it is damaged, ends too early or is of another kind.
        """
        with path.open("rb") as file:
            tensors, metadata = read_tensors(file, path, mapped=mapped)
        text = metadata.get(METADATA_KEY)
        artifact = None if text is None else Artifact.parse(text, path)
        return Checkpoint(tensors, artifact.aliases if artifact else {}, artifact)


def write_tensors(file: BinaryIO, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors in the safetensors format, large dtypes first so that each is aligned, then by name."""
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    file.write(header_bytes(tensors, order, metadata))
    for name in order:
        file.write(byte_view(tensors[name]))


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
    """Refuse, before anything is written, what the format has no name for."""
    for name, tensor in tensors.items():
        known = BY_TORCH.get(tensor.dtype)
        if known is None or known.safetensors is None:
            kind = dtype_name(tensor.dtype)
            raise WeightsError(path, f"safetensors cannot hold {name!r}, which is {kind}; .pt can")


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
