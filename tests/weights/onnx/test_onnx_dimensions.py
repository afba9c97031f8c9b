"""Convolutions of every dimension in ONNX files: those without a bias get none, and a bias of zeros stays."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch

import zoo
from zoo.features import AXES


def built(dims: int, norm: str) -> zoo.Model:
    backbone = {"type": "resnet_lite" if norm == "batch" else "vgg_lite", "layers": [1, 1], "norm": norm, "dims": dims}
    widths = {"width": 4} if norm == "batch" else {"channels": [4, 8]}
    size = [20, 24, 28][:dims]
    spec = {"input": {"channels": 2, "size": size}, "backbone": {**backbone, **widths}, "neck": "gap"}
    return zoo.build({**spec, "head": {"type": "linear", "num_classes": 3}}).eval()


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_convolution_without_a_bias_gets_none(dims: int, optimize: bool, randomise, tmp_path: Path) -> None:
    model = randomise(built(dims, "batch"))
    path = zoo.save(model, tmp_path / "model.onnx", optimize=optimize)
    graph = onnx.load(path).graph
    if not optimize:  # with it, the shift of the norm becomes a bias
        assert {len(node.input) for node in graph.node if node.op_type == "Conv"} == {2}
        assert "Expand" not in {node.op_type for node in graph.node}
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        x = torch.randn(batch, 2, *model.spec["input"]["size"])
        (found,) = session.run(None, {"image": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), model(x).detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_bias_of_zeros_is_a_weight_like_any_other(dims: int, tmp_path: Path) -> None:
    model = built(dims, "none")  # a fresh bias is zero
    path = zoo.save(model, tmp_path / "model.onnx")
    convolutions = [node for node in onnx.load(path).graph.node if node.op_type == "Conv"]
    assert [node.input[2] for node in convolutions] == ["backbone.layers.0.bias", "backbone.layers.3.bias"]


@pytest.mark.parametrize(("name", "size"), [("resnet18_1d", [1024]), ("resnet20", [32, 32]), ("r3d_18", [4, 40, 48])])
def test_named_models_of_every_dimension_run_at_any_batch_size(
    name: str, size: list[int], randomise, tmp_path: Path
) -> None:
    model = randomise(zoo.build(name, input={"size": size})).eval()
    path = zoo.save(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        x = torch.randn(batch, model.spec["input"]["channels"], *model.spec["input"]["size"])
        (found,) = session.run(None, {"image": x.numpy()})
        expected = model(x).detach()
        # The same sums in another order: the error grows with the size of the numbers that are summed.
        assert (torch.from_numpy(found) - expected).abs().max() <= 1e-5 * max(1.0, expected.abs().max().item())


@pytest.mark.parametrize("dims", [1, 3])
def test_a_model_of_any_size_is_exported_and_verified_for_any(dims: int, randomise, tmp_path: Path) -> None:
    spec = {
        "input": {"channels": 2, "size": None},
        "backbone": {"type": "resnet_lite", "layers": [1, 1], "width": 4, "dims": dims},
        "neck": "gap",
        "head": {"type": "linear", "num_classes": 3},
    }
    model = randomise(zoo.build(spec)).eval()
    path = zoo.save(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 2, *AXES[dims]]
    for size in ((40, 36, 33), (33, 20, 24)):
        x = torch.randn(2, 2, *size[:dims])
        (found,) = session.run(None, {"image": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), model(x).detach(), rtol=1e-5, atol=1e-5)
    assert zoo.verify(path, zoo.save(model, tmp_path / "model.safetensors")).ok
