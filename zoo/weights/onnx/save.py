"""write_onnx: a model to an ONNX file, alone or as the twin of a safetensors file, or folded for inference alone."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from io import BytesIO
from os import PathLike
from pathlib import Path

import onnx
import torch

from zoo.errors import WeightsError
from zoo.model import Model
from zoo.weights.checkpoint import METADATA_KEY, Artifact, Checkpoint
from zoo.weights.onnx.export import export
from zoo.weights.onnx.graph import held_by, payload_of, payloads_of, without
from zoo.weights.onnx.keys import LABELS_KEY, NAMES_KEY, OPTIMIZED_KEY, PREPROCESSING_KEY, TENSORS_KEY, WEIGHTS_KEY
from zoo.weights.onnx.opset import check_opset
from zoo.weights.onnx.sizes import Elsewhere, refuse_frozen_size, run_elsewhere, sized, varying
from zoo.weights.onnx.writing import Payload, Place, write_beside, write_model
from zoo.weights.safetensors.format import SAFETENSORS, planned, refuse_unknown_dtypes, write_tensors


def write_onnx(
    model: Model,
    checkpoint: Checkpoint,
    described: Artifact,
    path: Path,
    *,
    weights: str | PathLike[str] | None,
    dynamic_size: bool | None,
    opset: int | None,
    optimize: bool | None,
) -> None:
    """Export a model and write it; :meth:`zoo.weights.onnx.format.OnnxFormat.write` says what the arguments are.

    Raises:
        WeightsError: an option is wrong, the model cannot be exported so, or a file cannot be written.
    """
    if optimize is not None and type(optimize) is not bool:
        raise WeightsError(path, f"found optimize {optimize!r}; expected True, False or None")
    if opset is not None:
        check_opset(opset, path)
    refuse_unknown_dtypes(checkpoint.tensors, path)
    twin = None if weights is None else _beside(path, weights)
    if optimize and twin is not None:
        raise WeightsError(
            path, f"optimize=True changes the weights, so that they cannot be those in {twin.name}; leave one out"
        )
    artifact = sized(described, dynamic_size, path)
    elsewhere = run_elsewhere(model, artifact, path) if varying(artifact) else None
    graph = export(model, artifact, path, opset=opset, optimize=bool(optimize))
    if optimize:
        payloads = payloads_of(graph)
        told = {OPTIMIZED_KEY: _optimized(artifact)}
    else:
        held = held_by(graph, checkpoint)
        payloads = [payload_of(initializer, checkpoint.tensors[name]) for name, initializer in held.items()]
        told = _invertible(artifact, held, checkpoint.tensors, twin)
    skeleton = without(graph, [payload.name for payload in payloads])
    if elsewhere is not None:
        _refuse_frozen_size(skeleton, payloads, elsewhere, artifact, path)
    onnx.helper.set_model_props(skeleton, {**told, **_plain(artifact)})
    if twin is None:
        write_model(skeleton, payloads, path, artifact.fingerprint or checkpoint.fingerprint)
        return
    written = Checkpoint(checkpoint.tensors, checkpoint.aliases, artifact, checkpoint.order)
    regions = planned(written, twin)
    places = {initializer: Place(twin.name, regions[name].offset) for name, initializer in held.items()}
    write_beside(skeleton, payloads, places, path, lambda: _write_twin(model, written, twin))


def _write_twin(model: Model, checkpoint: Checkpoint, twin: Path) -> None:
    SAFETENSORS.write(model, checkpoint, twin)


def _refuse_frozen_size(
    skeleton: onnx.ModelProto, payloads: list[Payload], elsewhere: Elsewhere, artifact: Artifact, path: Path
) -> None:
    if not elsewhere.native:  # onnxruntime lacks convolutions of other precisions: the same graph in float32 tells
        graph = export(elsewhere.model, artifact, path, opset=None, optimize=False)
        payloads = payloads_of(graph)
        skeleton = without(graph, [payload.name for payload in payloads])
    refuse_frozen_size(skeleton, payloads, elsewhere, path)


def _invertible(
    artifact: Artifact, held: Mapping[str, str], tensors: Mapping[str, torch.Tensor], twin: Path | None
) -> dict[str, str]:
    """Return the metadata from which, with the initializers, the model comes back."""
    kept = BytesIO()
    write_tensors(kept, {name: tensor for name, tensor in tensors.items() if name not in held}, {})
    told = {
        METADATA_KEY: artifact.dump(),
        NAMES_KEY: json.dumps(held),
        TENSORS_KEY: base64.b64encode(kept.getbuffer()).decode(),
    }
    return told if twin is None else {**told, WEIGHTS_KEY: twin.name}


def _optimized(artifact: Artifact) -> str:
    return artifact.model_dump_json(include={"zoo", "spec", "lock", "inputs", "outputs", "fingerprint"})


def _plain(artifact: Artifact) -> dict[str, str]:
    """Return what runtimes that know nothing of zoo can use."""
    if artifact.record is None:
        return {}
    return {
        LABELS_KEY: json.dumps(artifact.record.labels, ensure_ascii=False),
        PREPROCESSING_KEY: artifact.record.preprocessing.model_dump_json(),
    }


def _beside(path: Path, weights: str | PathLike[str]) -> Path:
    """Return the safetensors file that a graph is to share its weights with."""
    if not isinstance(weights, str | PathLike):
        raise WeightsError(path, f"found weights {weights!r}; expected the name of a .safetensors file")
    twin = path.parent / Path(weights)
    if twin.suffix != ".safetensors":
        raise WeightsError(path, f"found weights {str(weights)!r}; expected a file that ends in .safetensors")
    if twin.parent.resolve() != path.parent.resolve():
        raise WeightsError(
            path,
            f"found weights in {twin.parent.resolve()}; expected them beside the graph, in {path.parent.resolve()}",
        )
    return path.parent / twin.name
