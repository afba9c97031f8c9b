"""The ONNX format: the graph runs in onnxruntime, and its initializers are the state dict, bit for bit and by name.

The exporter is told to fold and merge nothing. What it still loses (``num_batches_tracked``, unused and tied tensors)
is kept beside the graph, in the file's metadata, as a small safetensors blob.
"""

from __future__ import annotations

import base64
import json
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import safetensors.torch
import torch
from google.protobuf.message import DecodeError
from onnx import TensorProto, numpy_helper

from zoo.errors import FileFormatError, WeightsError
from zoo.weights.checkpoint import METADATA_KEY, Artifact, Checkpoint
from zoo.weights.onnxkeys import NAMES_KEY, TENSORS_KEY
from zoo.weights.sniff import likeness

if TYPE_CHECKING:
    from zoo.model import Model

_DTYPES: dict[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.INT8: torch.int8,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.UINT8: torch.uint8,
    TensorProto.BOOL: torch.bool,
}


class OnnxFormat:
    """Reads and writes ``.onnx`` files with a dynamic batch dimension."""

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
        from zoo.weights.onnxsave import write_onnx  # reading needs no exporter

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
            FileFormatError: it is damaged, ends too early, is of another kind, or keeps its tensors in other files.
        """
        try:
            proto = onnx.load(path, load_external_data=False)
        except (DecodeError, OSError, ValueError) as error:
            raise FileFormatError(path, f"not a whole ONNX file ({error}){likeness(path)}") from error
        if not proto.graph.node:
            raise FileFormatError(path, f"not a whole ONNX file (it has no graph){likeness(path)}")
        graph = {i.name: i for i in proto.graph.initializer}
        if len(graph) < len(proto.graph.initializer):
            raise FileFormatError(path, "two initializers have the same name")
        metadata = {p.key: p.value for p in proto.metadata_props}
        if METADATA_KEY not in metadata:
            return Checkpoint({name: _tensor(i, path) for name, i in graph.items()})
        artifact = Artifact.parse(metadata[METADATA_KEY], path)
        try:
            held: dict[str, str] = json.loads(metadata[NAMES_KEY])
            tensors = {name: _tensor(graph[initializer], path) for name, initializer in held.items()}
            kept = safetensors.torch.load(base64.b64decode(metadata[TENSORS_KEY], validate=True))
        except (KeyError, ValueError, TypeError, AttributeError, safetensors.SafetensorError) as error:
            raise FileFormatError(path, f"its metadata is damaged ({type(error).__name__}: {error})") from error
        if twice := sorted(tensors.keys() & kept.keys()):
            raise FileFormatError(path, f"two tensors are called {twice[0]!r}")
        return Checkpoint({**tensors, **kept}, artifact.aliases, artifact)


def _tensor(proto: TensorProto, path: Path) -> torch.Tensor:
    if proto.data_location == TensorProto.EXTERNAL:
        raise FileFormatError(path, f"initializer {proto.name!r} is kept in another file, which cannot be read yet")
    dtype = _DTYPES.get(proto.data_type)
    if dtype is None:
        kind = TensorProto.DataType.Name(proto.data_type)
        raise FileFormatError(path, f"initializer {proto.name!r} is of type {kind}, which has no counterpart here")
    if not proto.HasField("raw_data"):
        return torch.from_numpy(numpy_helper.to_array(proto).copy()).to(dtype)
    count = torch.Size(proto.dims).numel()
    if len(proto.raw_data) != count * dtype.itemsize:
        found, needed = len(proto.raw_data), count * dtype.itemsize
        raise FileFormatError(
            path, f"initializer {proto.name!r} has {found} bytes; its shape {list(proto.dims)} needs {needed}"
        )
    if not count:
        return torch.empty(tuple(proto.dims), dtype=dtype)
    return torch.frombuffer(bytearray(proto.raw_data), dtype=dtype).reshape(tuple(proto.dims))


ONNX = OnnxFormat()
