"""The safetensors format: tensors beside a JSON header; the header's metadata carries the artifact.

Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from zoo.errors import FileFormatError
from zoo.weights.checkpoint import METADATA_KEY, Artifact, Checkpoint, plain_tensors
from zoo.weights.durable import replacing
from zoo.weights.sniff import likeness

if TYPE_CHECKING:
    from zoo.model import Model


class Safetensors:
    """Reads and writes ``.safetensors`` files; reading maps the file, no byte is copied before it is used."""

    def write(self, model: Model, checkpoint: Checkpoint, path: Path) -> None:
        """Write an artifact, whole or not at all."""
        # One metadata key alone: several are written in an order that changes from run to run.
        metadata = {METADATA_KEY: checkpoint.artifact.dump()} if checkpoint.artifact else None
        with replacing(path) as temporary:
            try:
                save_file(plain_tensors(checkpoint.tensors), temporary, metadata)
            except SafetensorError as error:  # what a full disk becomes inside safetensors
                raise OSError(str(error)) from error

    def read(self, path: Path) -> Checkpoint:
        """Map a file.

        Raises:
            FileFormatError: it is damaged, ends too early or is of another kind.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        except (SafetensorError, OSError) as error:
            raise FileFormatError(path, f"not a whole safetensors file ({error}){likeness(path)}") from error
        text = metadata.get(METADATA_KEY)
        artifact = None if text is None else Artifact.parse(text, path)
        return Checkpoint(tensors, artifact.aliases if artifact else {}, artifact)


SAFETENSORS = Safetensors()
