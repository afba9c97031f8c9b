"""The ONNX format: the graph runs in onnxruntime, and its initializers are the state dict, bit for bit and by name.

The exporter is told to fold and merge nothing. What it still loses (``num_batches_tracked``, unused and tied tensors)
is kept beside the graph, in the file's metadata, as a small safetensors blob.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import safetensors.torch
import torch
from google.protobuf.message import DecodeError, EncodeError
from onnx import TensorProto, numpy_helper

from zoo.errors import FileFormatError, WeightsError
from zoo.model import evaluating
from zoo.weights.checkpoint import METADATA_KEY, Artifact, Checkpoint
from zoo.weights.durable import replacing
from zoo.weights.parity import bit_equal
from zoo.weights.regions import dense
from zoo.weights.sniff import likeness

if TYPE_CHECKING:
    from zoo.model import Model

NAMES_KEY = f"{METADATA_KEY}.initializers"
"""Metadata: for each tensor that the graph holds, the name of its initializer (JSON)."""

TENSORS_KEY = f"{METADATA_KEY}.tensors"
"""Metadata: the tensors that the graph does not hold (safetensors, base64)."""

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


_COLOURS = re.compile("\x1b\\[[0-9;]*m")


class OnnxFormat:
    """Reads and writes ``.onnx`` files with a dynamic batch dimension."""

    needs_model = True

    def write(self, model: Model | None, checkpoint: Checkpoint, path: Path) -> None:
        """Export the model and write it, whole or not at all; the model stays as it is.

        Raises:
            WeightsError: the graph is larger than a protobuf message can be, 2 GiB.
        """
        if model is None or checkpoint.artifact is None:
            raise WeightsError(
                path, "an ONNX file needs the description of the model: make it with Checkpoint.of(model)"
            )
        proto = _export(model, checkpoint.artifact, path)
        _strip(proto)
        graph = {i.name: i for i in proto.graph.initializer}
        held, kept = {}, {}
        for name, tensor in checkpoint.tensors.items():
            spellings = [name, *(alias for alias, first in checkpoint.aliases.items() if first == name)]
            found = next((s for s in spellings if s in graph and bit_equal(_tensor(graph[s], path), tensor)), None)
            if found is None:
                kept[name] = dense(tensor)
            else:
                held[name] = found
        onnx.helper.set_model_props(
            proto,
            {
                METADATA_KEY: checkpoint.artifact.dump(),
                NAMES_KEY: json.dumps(held),
                TENSORS_KEY: base64.b64encode(safetensors.torch.save(kept)).decode(),
            },
        )
        try:
            blob = proto.SerializeToString(deterministic=True)
        except (EncodeError, ValueError) as error:
            raise WeightsError(
                path, f"the model does not fit into one ONNX file, which may have 2 GiB: {error}"
            ) from error
        with replacing(path) as temporary:
            temporary.write_bytes(blob)

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


def _export(model: Model, artifact: Artifact, path: Path) -> onnx.ModelProto:
    port = artifact.inputs[0]
    least = max(64, getattr(model.backbone, "min_size", 1))
    # Two samples: the exporter takes a dimension of one for a constant.
    shape = [2, *(n if isinstance(n, int) else least for n in port.shape[1:])]
    dynamic = {axis: torch.export.Dim(n) for axis, n in enumerate(port.shape) if isinstance(n, str)}
    weight = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    example = torch.zeros(shape, dtype=weight.dtype, device=weight.device)
    with evaluating(model), torch.no_grad():
        try:
            program: Any = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                optimize=False,  # the optimizer folds BatchNorm and merges equal tensors
                verbose=False,  # it prints on stdout
                external_data=False,
                input_names=[port.name],
                output_names=[p.name for p in artifact.outputs],
                dynamic_shapes=(dynamic,),
            )
        except torch.onnx.OnnxExporterError as error:
            cause = error.__cause__ or error
            reason = _COLOURS.sub("", str(cause)).strip().partition("\n")[0]
            raise WeightsError(
                path, f"torch cannot export this model to ONNX: {type(cause).__name__}: {reason}"
            ) from error
        proto: onnx.ModelProto = program.model_proto
        if len(dynamic) > 1:
            _refuse_frozen_size(model, proto, example, path)
    return proto


def _refuse_frozen_size(model: Model, proto: onnx.ModelProto, example: torch.Tensor, path: Path) -> None:
    """Run the graph at another size than it was traced at: some operators are exported for that one size alone."""
    import onnxruntime

    spatial = [n + 32 * (axis + 1) for axis, n in enumerate(example.shape[2:])]
    other = torch.rand(1, example.shape[1], *spatial, dtype=example.dtype, device=example.device)
    expected = model(other)
    expected = expected if isinstance(expected, tuple) else (expected,)
    try:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        ran = session.run(None, {proto.graph.input[0].name: other.cpu().numpy()})
    except Exception as error:  # onnxruntime has a class for each of its error codes, with no common base
        fault = str(error).strip().partition("\n")[0]
    else:
        tolerance = 1e-3 * max(1.0, *(e.abs().max().item() for e in expected))
        same = all(
            tuple(e.shape) == r.shape and (e.cpu().float() - torch.from_numpy(r).float()).abs().max() <= tolerance
            for e, r in zip(expected, ran, strict=True)
        )
        fault = "" if same else "onnxruntime computes something else there"
    if fault:
        sizes = ["×".join(map(str, size)) for size in (example.shape[2:], spatial)]
        raise WeightsError(
            path,
            f"exported for an input of any size, it would only be right at {sizes[0]}, not at {sizes[1]} ({fault}); "
            "state input.size in the spec",
        )


def _strip(proto: onnx.ModelProto) -> None:
    """Drop what says how the exporter ran: the metadata of nodes and values holds paths of this machine."""
    graph = proto.graph
    graphs = [graph, *proto.functions]
    for owner in graphs:
        for node in owner.node:
            del node.metadata_props[:]
            node.doc_string = ""
        for value in owner.value_info:
            del value.metadata_props[:]
    for value in (*graph.input, *graph.output):
        del value.metadata_props[:]
    for initializer in graph.initializer:
        del initializer.metadata_props[:]
    del graph.metadata_props[:]


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
