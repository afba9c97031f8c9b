"""What an ONNX file may be asked for: any size of input or one, an operator set, a graph folded for inference."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import onnx
import pytest
import torch
from onnx_files import TOLERANCE, check_weights, difference, metadata, shape_of
from torch import nn

import zoo
from zoo.errors import NotInvertibleError, WeightsError
from zoo.weights.parity import compare
from zoo.weights.reading import read


@pytest.fixture
def model() -> zoo.Model:
    return zoo.build("resnet-lite", weights="digits")


def test_nothing_is_printed_or_logged_and_an_older_operator_set_is_met(
    model: zoo.Model, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        path = zoo.save(model, tmp_path / "net.onnx", opset=17)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    proto = onnx.load(path)
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", 17)]
    onnx.checker.check_model(path, full_check=True)
    check_weights(model, path)
    assert difference(model, path, 3, 1, 32, 32) <= TOLERANCE
    assert compare(model.state_dict(), zoo.load(path).state_dict()).holds


def test_a_newer_operator_set_is_met(model: zoo.Model, tmp_path: Path) -> None:
    path = zoo.save(model, tmp_path / "net.onnx", opset=22)
    assert [(o.domain, o.version) for o in onnx.load(path).opset_import] == [("", 22)]
    assert difference(model, path, 3, 1, 32, 32) <= TOLERANCE
    assert compare(model.state_dict(), zoo.load(path).state_dict()).holds


def test_an_operator_set_that_cannot_be_had_is_an_error(model: zoo.Model, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"asked for opset 13, torch gave 18, .*No Adapter.*; 18 to \d\d work"):
        zoo.save(model, tmp_path / "net.onnx", opset=13)
    for wrong in (0, 6, 999, -1):
        with pytest.raises(WeightsError, match=rf"found opset {wrong}; 18 to \d\d work, and some graphs from 15 on"):
            zoo.save(model, tmp_path / "net.onnx", opset=wrong)
    for odd in (True, "17", 17.0):
        with pytest.raises(WeightsError, match=rf"found opset {odd!r}; expected a whole number, 18 to \d\d"):
            zoo.save(model, tmp_path / "net.onnx", opset=odd)
    assert list(tmp_path.iterdir()) == []


def test_the_size_may_vary_where_the_spec_states_one(model: zoo.Model, tmp_path: Path) -> None:
    path = zoo.save(model, tmp_path / "net.onnx", dynamic_size=True)
    assert shape_of(onnx.load(path).graph.input[0]) == ["batch", 1, "height", "width"]
    assert read(path).artifact.inputs[0].shape == ("batch", 1, "height", "width")
    model.backbone.register_forward_pre_hook(lambda *_: None)
    for shape in ((3, 1, 32, 32), (1, 1, 48, 96)):
        assert difference(model, path, *shape) <= TOLERANCE
    assert compare(model.state_dict(), zoo.load(path).state_dict()).holds


def test_the_size_is_fixed_where_it_is_asked_for(model: zoo.Model, tmp_path: Path) -> None:
    path = zoo.save(model, tmp_path / "net.onnx", dynamic_size=False)
    assert shape_of(onnx.load(path).graph.input[0]) == ["batch", 1, 32, 32]
    free = zoo.build("resnet-lite", input={"size": None})
    with pytest.raises(WeightsError, match=r"the size of the input, and the spec states none; state input.size in it"):
        zoo.save(free, path, dynamic_size=False)


def test_a_model_that_is_tied_to_one_size_says_to_which(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"tied to an input of 32×32, at 64×96 it fails .*; leave dynamic_size out"):
        zoo.save(zoo.build("lenet"), tmp_path / "net.onnx", dynamic_size=True)
    with pytest.raises(WeightsError, match=r"found dynamic_size 'yes'; expected True, False or None"):
        zoo.save(zoo.build("lenet"), tmp_path / "net.onnx", dynamic_size="yes")


def test_a_half_precision_model_of_any_size_is_exported_for_any(tmp_path: Path) -> None:
    model = zoo.build("resnet-lite", input={"size": None}).to(torch.bfloat16)
    path = zoo.save(model, tmp_path / "net.onnx")
    assert shape_of(onnx.load(path).graph.input[0]) == ["batch", 1, "height", "width"]
    assert compare(model.state_dict(), zoo.load(path).state_dict()).holds


@pytest.mark.parametrize("dims", [1, 3])
def test_axes_are_called_after_what_they_are(dims: int, backbone, tmp_path: Path) -> None:
    class Plain(nn.Module):
        def __init__(self, in_channels: int) -> None:
            super().__init__()
            self.conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1](in_channels, 4, 3)
            self.features = (zoo.Feature("maps", 4),)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return (self.conv(x),)

    backbone("plain", Plain)
    model = zoo.build({"backbone": "plain", "input": {"channels": 1, "size": [16] * dims}, "head": None})
    graph = onnx.load(zoo.save(model, tmp_path / "net.onnx", dynamic_size=True)).graph
    assert shape_of(graph.input[0])[2:] == {1: ["length"], 3: ["depth", "height", "width"]}[dims]
    assert [value.name for value in graph.output] == ["maps"]


def test_a_folded_graph_is_marked_and_computes_the_same(randomise, tmp_path: Path) -> None:
    model = randomise(zoo.build("resnet-lite"))
    path = zoo.save(model, tmp_path / "net.onnx", optimize=True)
    onnx.checker.check_model(path, full_check=True)
    proto = onnx.load(path)
    assert {node.domain for node in proto.graph.node} == {""}
    assert "BatchNormalization" not in {node.op_type for node in proto.graph.node}
    assert metadata(path).keys() == {"zoo.optimized"}
    told = json.loads(metadata(path)["zoo.optimized"])
    assert (told["spec"], told["lock"]) == (model.spec, model.lock)
    assert told["fingerprint"] == zoo.fingerprint(model)
    assert [port["name"] for port in (*told["inputs"], *told["outputs"])] == ["image", "logits"]
    assert difference(model, path, 3, 1, 32, 32) <= TOLERANCE
    with pytest.raises(NotInvertibleError):
        zoo.load(path)
    with pytest.raises(WeightsError, match=r"optimize=True changes the weights.*net.safetensors; leave one out"):
        zoo.save(model, path, optimize=True, weights="net.safetensors")


def test_onnxruntime_opens_every_file_without_a_word(python, tmp_path: Path) -> None:
    paths = [zoo.save(zoo.build(n), tmp_path / f"{n}.onnx") for n in ("lenet", "mlp", "resnet-lite", "vgg-lite")]
    paths.append(zoo.save(zoo.build("resnet18"), tmp_path / "resnet18.onnx", weights="resnet18.safetensors"))
    paths.append(zoo.save(zoo.build("resnet-lite"), tmp_path / "folded.onnx", optimize=True, opset=17))
    paths.append(zoo.save(zoo.build("resnet-lite", neck=None, head=None), tmp_path / "maps.onnx", dynamic_size=True))
    code = f"""
import numpy, onnxruntime
for path in {[str(path) for path in paths]}:
    session = onnxruntime.InferenceSession(path)
    port = session.get_inputs()[0]
    shape = [n if isinstance(n, int) else 32 for n in port.shape]
    outputs = session.run(None, {{port.name: numpy.zeros([2, *shape[1:]], numpy.float32)}})
    print(*(output.shape[0] for output in outputs))
"""
    run = python(code)
    assert run.stderr == ""
    assert run.stdout.split() == ["2"] * 6 + ["2", "2", "2"]


def test_weights_that_are_not_numbers_are_written_for_any_size(tmp_path: Path) -> None:
    model = zoo.build("resnet-lite", input={"size": None})
    with torch.no_grad():
        model.head.fc.bias[0] = float("nan")
    back = zoo.load(zoo.save(model, tmp_path / "net.onnx"), verify=True)
    assert zoo.fingerprint(back) == zoo.fingerprint(model)
