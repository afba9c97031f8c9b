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


NECKS = [
    {"type": "adaptive_pool", "size": 3},
    {"type": "adaptive_pool", "size": 3, "pool": "max"},
    {"type": "aspp", "channels": 4, "rates": [1, 2]},
    {"type": "concat", "channels": 3},
    {"type": "fpn", "channels": 4, "extra": "p6p7"},
    {"type": "gap"},
    {"type": "gem"},
    {"type": "gmp"},
    {"type": "pan", "channels": 4},
]
ALWAYS = {"1-adaptive_pool-avg", "2-adaptive_pool-avg", "2-aspp", "2-concat", "3-adaptive_pool-max"}


def any_size() -> list:
    found = []
    for dims, size in {1: [33], 2: [33, 30], 3: [16, 17, 18]}.items():
        for neck in NECKS:
            name = f"{dims}-{neck['type']}" + (f"-{neck.get('pool', 'avg')}" if "pool" in neck["type"] else "")
            marks = [] if name in ALWAYS else [pytest.mark.slow]
            found.append(pytest.param(size, neck, id=name, marks=marks))
    return found


@pytest.mark.parametrize(("size", "neck"), any_size())
def test_necks_are_written_for_inputs_of_any_size(size: list[int], neck: dict, tmp_path: Path) -> None:
    backbone = {"type": "resnet_lite", "layers": [1, 1], "width": 4, "dims": len(size)}
    model = zoo.build({"input": {"channels": 1, "size": size}, "backbone": backbone, "neck": neck}).eval()
    path = zoo.save(model, tmp_path / "net.onnx", dynamic_size=True)
    for other in (size, [n + 9 for n in size]):
        x = torch.randn(3, 1, *other)
        with torch.no_grad():
            torch.testing.assert_close(run(path, x), list(model(x)), rtol=1e-4, atol=1e-5)
