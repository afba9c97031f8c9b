"""What is written runs in onnxruntime: clashing names, and operators that torch's exporter translates wrongly."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch

import zoo


def run(path: Path, x: torch.Tensor) -> list[torch.Tensor]:
    session = onnxruntime.InferenceSession(path)
    return [torch.from_numpy(y) for y in session.run(None, {session.get_inputs()[0].name: x.numpy()})]


def test_a_feature_may_be_called_as_the_exporter_calls_a_result(tmp_path: Path) -> None:
    model = zoo.build(
        {
            "input": {"channels": 1, "size": [6, 6]},
            "backbone": {"type": "mlp", "hidden": [8, 8]},
            "bottleneck": {"type": "linear", "out_features": 4},
        }
    ).eval()
    path = zoo.save(model, tmp_path / "net.onnx")
    graph = onnx.load(path).graph
    assert [o.name for o in graph.output] == ["linear"]
    made = [name for node in graph.node for name in node.output]
    assert made.count("linear") == 1
    assert len(made) == len(set(made))
    x = torch.randn(3, 1, 6, 6)
    torch.testing.assert_close(run(path, x)[0], model(x)[0].detach())
    assert list(zoo.load(path).state_dict()) == list(model.state_dict())


@pytest.mark.parametrize("bias", [False, True])
def test_convolutions_of_volumes_run_with_a_bias_and_without(bias: bool, tmp_path: Path) -> None:
    model = zoo.build(
        {
            "input": {"channels": 1, "size": [4, 9, 8]},
            "backbone": {
                "type": "resnet_lite",
                "layers": [1, 1],
                "width": 4,
                "stem": "video",
                "dims": 3,
            },
            "bottleneck": {"type": "conv1x1", "out_channels": 3, "norm": "none" if bias else "batch"},
        }
    ).eval()
    x = torch.randn(3, 1, 4, 9, 8)
    found = run(zoo.save(model, tmp_path / "net.onnx"), x)
    with torch.no_grad():
        torch.testing.assert_close(found, list(model(x)))
