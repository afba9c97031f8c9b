"""What tests of ONNX files look at: with onnx and onnxruntime, not with zoo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch

import zoo

TOLERANCE = 1e-5
"""How far apart outputs may be, as a part of the largest: the same sums in another order."""


def difference(model: zoo.Model, path: Path, *shape: int) -> float:
    x = torch.randn(shape)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (ran,) = session.run(None, {"image": x.numpy()})
    with torch.no_grad():
        expected = model.eval()(x)
    return ((torch.from_numpy(ran) - expected).abs().max() / max(1.0, expected.abs().max())).item()


def initializers(path: Path) -> dict[str, Any]:
    """Return what onnx itself reads, external data included."""
    return {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(path).graph.initializer}


def metadata(path: Path) -> dict[str, str]:
    return {p.key: p.value for p in onnx.load(path, load_external_data=False).metadata_props}


def check_weights(model: zoo.Model, path: Path) -> None:
    """Check that onnx reads the same bytes for each tensor that the graph is said to hold."""
    found, held = initializers(path), json.loads(metadata(path)["zoo.initializers"])
    assert len(held) > 10
    state = model.state_dict()
    for name, initializer in held.items():
        assert state[name].numpy().tobytes() == found[initializer].tobytes()


def locations(path: Path) -> dict[str, dict[str, str]]:
    graph = onnx.load(path, load_external_data=False).graph
    return {i.name: {e.key: e.value for e in i.external_data} for i in graph.initializer if i.external_data}


def shape_of(value: onnx.ValueInfoProto) -> list[str | int]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
