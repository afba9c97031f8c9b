"""The ONNX format: the graph runs in onnxruntime, and its initializers are the state dict, bit for bit and by name.

The exporter is told to fold and merge nothing. What it still loses (``num_batches_tracked``, unused and tied tensors)
is kept beside the graph, in the file's metadata, as a small safetensors blob.
"""

from __future__ import annotations

from collections.abc import Collection
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import WeightsError
from zoo.weights.checkpoint import Checkpoint
from zoo.weights.onnx.reading import read_onnx

if TYPE_CHECKING:
    from zoo.model import Model


class OnnxFormat:
    """Reads and writes ``.onnx`` files with a dynamic batch dimension."""

    needs_model = True

    def write(
        self,
        model: Model | None,
        checkpoint: Checkpoint,
        path: Path,
        *,
        weights: str | PathLike[str] | None = None,
        dynamic_size: bool | None = None,
        opset: int | None = None,
        optimize: bool | None = None,
    ) -> None:
        """Export the model and write it, whole or not at all, one tensor at a time; the model stays as it is.

        What would be too large for one file becomes a graph and a data file beside it. Hooks that were added to the
        model after it was built are neither run nor exported.

        Args:
            model: the model whose tensors these are.
            checkpoint: the tensors and their description.
            path: the file.
            weights: a ``.safetensors`` file in the same folder, which is written too and holds the tensors for both.
            dynamic_size: True lets height and width vary, False fixes them; None does what the spec says.
            opset: the version of the operator set; torch's choice unless given.
            optimize: True writes a graph folded for inference alone, from which no model comes back.

        Raises:
            WeightsError: torch cannot export the model, or not so; an option is wrong; a file cannot be written.
        """
        artifact = checkpoint.artifact
        if model is None or artifact is None:
            raise WeightsError(
                path, "an ONNX file needs the description of the model: make it with Checkpoint.of(model)"
            )
        from zoo.weights.onnx.save import write_onnx  # reading needs no exporter

        write_onnx(
            model,
            checkpoint,
            artifact,
            path,
            weights=weights,
            dynamic_size=dynamic_size,
            opset=opset,
            optimize=optimize,
        )

    def read(self, path: Path, *, mapped: bool = True) -> Checkpoint:
        """Read the initializers of a file.

        Raises:
            FileFormatError: it is damaged, ends too early, is of another kind, or names a file that is not as it
                should be.
            NotInvertibleError: it is a graph for inference, from which no weights come back.
            StalePairError: its weights are in a safetensors file that was replaced since.
        """
        return read_onnx(path, mapped=mapped)

    def tidy(self, path: Path, kept: Collection[str]) -> None:
        """Remove the data files of graphs that were at ``path`` before."""
        from zoo.weights.onnx.writing import remove_data_files

        remove_data_files(path, keep=next((name for name in kept if name.endswith(".data")), None))


ONNX = OnnxFormat()
