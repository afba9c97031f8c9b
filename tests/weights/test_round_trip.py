"""Every model through every format: all tensors come back bit for bit, onnxruntime computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import zoo
from zoo import kinds
from zoo.builder import compose
from zoo.spec import named
from zoo.weights.parity import bit_equal, compare

FORMATS = ("pt", "pth", "safetensors", "onnx")
SMALL = ["lenet", "mlp", "resnet-lite", "tiny-det", "vgg-lite"]
LARGE = [pytest.param(name, marks=pytest.mark.slow) for name in kinds.models.names() if name not in SMALL]


def run(path: Path, x: torch.Tensor) -> list[torch.Tensor]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return [torch.from_numpy(output) for output in session.run(None, {"image": x.numpy()})]


def outputs(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    return [each.detach() for each in torch.utils._pytree.tree_leaves(model(x))]


def some_input(model: zoo.Model, batch: int) -> torch.Tensor:
    source = model.spec["input"]
    size = source["size"] or [96] * getattr(model.backbone, "dims", 2)
    return torch.randn(batch, source["channels"], *size)


def check_round_trip(model: zoo.Model, path: Path, x: torch.Tensor) -> None:
    before = {n: t.clone() for n, t in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    zoo.save(model, path)
    assert compare(before, model.state_dict()).holds
    assert modes == [m.training for m in model.modules()]
    back = zoo.load(path)
    parity = compare(before, back.state_dict())
    assert parity.differing == ()
    assert parity.total == len(before)
    assert (back.spec, back.lock, back.record) == (model.spec, model.lock, model.record)
    model.eval()
    with torch.inference_mode():
        expected = outputs(model, x)
        assert all(map(torch.equal, expected, outputs(back, x)))
        if path.suffix == ".onnx":
            # The same sums in another order: the error grows with the size of the numbers that are summed.
            for found, own in zip(run(path, x), expected, strict=True):
                assert (found - own).abs().max() <= 1e-5 * max(1.0, own.abs().max().item())


@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "randomised"])
@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("name", SMALL)
def test_a_small_model_comes_back(name: str, format_: str, fresh: bool, randomise, tmp_path: Path) -> None:
    model = zoo.build(name)
    if not fresh:
        randomise(model)
    check_round_trip(model, tmp_path / f"model.{format_}", some_input(model, 3))


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("name", ["resnet18", *[m for m in LARGE if m.values != ("resnet18",)]])
def test_a_large_model_comes_back(name: str, format_: str, randomise, tmp_path: Path) -> None:
    model = randomise(zoo.build(name))
    check_round_trip(model, tmp_path / f"model.{format_}", some_input(model, 2))


@pytest.mark.parametrize("name", [*SMALL, "resnet18"])
def test_an_onnx_file_passes_the_checker_and_runs_at_any_batch_size(name: str, randomise, tmp_path: Path) -> None:
    model = randomise(zoo.build(name)).eval()
    path = zoo.save(model, tmp_path / "model.onnx")
    onnx.checker.check_model(path, full_check=True)
    for batch in (1, 2, 5):
        x = some_input(model, batch)
        torch.testing.assert_close(run(path, x), outputs(model, x), rtol=1e-4, atol=1e-4)


def test_an_onnx_file_names_its_ports_and_hides_this_machine(tmp_path: Path) -> None:
    path = zoo.save(zoo.build("resnet-lite"), tmp_path / "model.onnx")
    graph = onnx.load(path).graph
    assert [(v.name, [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]) for v in graph.input] == [
        ("image", ["batch", 1, 32, 32])
    ]
    assert [v.name for v in graph.output] == ["logits"]
    assert {n.op_type for n in graph.node} >= {"Conv", "BatchNormalization", "Gemm"}
    assert b".py" not in path.read_bytes()
    assert str(Path(zoo.__file__).parent).encode() not in path.read_bytes()


def test_saving_onnx_says_nothing_on_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zoo.save(zoo.build("lenet"), tmp_path / "model.onnx")
    assert capsys.readouterr().out == ""


def test_a_model_of_any_input_size_is_exported_for_any(tmp_path: Path) -> None:
    model = zoo.build("resnet-lite", input={"size": None}).eval()
    path = zoo.save(model, tmp_path / "model.onnx")
    for shape in ((1, 1, 32, 32), (2, 1, 48, 96)):
        x = torch.randn(shape)
        torch.testing.assert_close(run(path, x), outputs(model, x), rtol=1e-5, atol=1e-5)


def test_features_without_a_head_are_named_outputs(tmp_path: Path) -> None:
    model = zoo.build("resnet-lite", neck=None, head=None).eval()
    path = zoo.save(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [o.name for o in session.get_outputs()] == ["stage1", "stage2", "stage3"]
    x = torch.randn(2, 1, 32, 32)
    for ran, expected in zip(session.run(None, {"image": x.numpy()}), model(x), strict=True):
        np.testing.assert_allclose(ran, expected.detach().numpy(), rtol=1e-4, atol=1e-5)
    assert compare(model.state_dict(), zoo.load(path).state_dict()).holds


@pytest.mark.parametrize("format_", FORMATS)
def test_tied_weights_come_back_tied(format_: str, tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self, in_channels: int) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(in_channels, in_channels, 1), nn.Conv2d(in_channels, in_channels, 1)
            self.second.weight = self.first.weight
            self.features = (zoo.Feature("stage1", in_channels),)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return (self.second(self.first(x)),)

    kinds.backbones.register("tied", Tied)
    try:
        model = zoo.build({"backbone": "tied", "neck": "gap", "head": {"type": "linear", "num_classes": 2}})
        path = zoo.save(model, tmp_path / f"model.{format_}")
        back = zoo.load(path)
        aliases = zoo.inspect(path).aliases
    finally:
        kinds.backbones.unregister("tied")
    assert compare(model.state_dict(), back.state_dict()).holds
    assert back.backbone.first.weight is back.backbone.second.weight
    assert aliases == {"backbone.second.weight": "backbone.first.weight"}


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.bfloat16])
def test_the_precision_of_a_model_comes_back(dtype: torch.dtype, format_: str, tmp_path: Path) -> None:
    model = zoo.build("mlp").to(dtype)
    back = zoo.load(zoo.save(model, tmp_path / f"model.{format_}"))
    assert compare(model.state_dict(), back.state_dict()).holds
    assert next(back.parameters()).dtype == dtype


def test_a_pt_file_is_a_plain_state_dict(tmp_path: Path) -> None:
    model = zoo.build("resnet-lite")
    state = torch.load(zoo.save(model, tmp_path / "x.pt"), weights_only=True)
    assert list(state) == list(model.state_dict())
    zoo.build("resnet-lite").load_state_dict(state, strict=True)


def test_layouts_and_views_are_saved_by_value_without_their_storage(tmp_path: Path) -> None:
    model = compose(named("mlp"))
    large = torch.randn(1000, 1024)
    model.backbone.layers[0].linear.weight = nn.Parameter(large[::2][:256])
    model.head.fc.weight = nn.Parameter(torch.randn(128, 10).t())
    for format_ in ("pt", "safetensors"):
        path = zoo.save(model, tmp_path / f"x.{format_}")
        assert compare(model.state_dict(), zoo.load(path).state_dict()).holds
        assert path.stat().st_size < 1.3e6


def test_bytes_are_compared_not_numbers() -> None:
    assert bit_equal(torch.tensor([float("nan")]), torch.tensor([float("nan")]))
    assert not bit_equal(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert not bit_equal(torch.zeros(2), torch.zeros(2, dtype=torch.float64))
    assert bit_equal(torch.zeros(0, 3), torch.zeros(0, 3))
    assert not compare({}, {}).holds


@pytest.mark.parametrize("format_", FORMATS)
def test_weights_that_were_tied_after_building_come_back_tied_and_can_be_saved_again(
    format_: str, tmp_path: Path
) -> None:
    model = zoo.build("mlp", backbone={"hidden": [64, 64, 64]})
    layers = model.backbone.layers
    layers[2].linear.weight = layers[1].linear.weight
    back = zoo.load(zoo.save(model, tmp_path / f"x.{format_}"))
    assert back.backbone.layers[2].linear.weight is back.backbone.layers[1].linear.weight
    again = zoo.load(zoo.save(back, tmp_path / "again.safetensors"))
    assert compare(model.state_dict(), again.state_dict()).holds


@pytest.mark.parametrize("format_", ["pt", "safetensors"])
def test_parameters_that_share_a_storage_without_being_tied_are_saved_each(format_: str, tmp_path: Path) -> None:
    model = zoo.build("mlp", backbone={"hidden": [64, 64, 64]})
    layers = model.backbone.layers
    layers[2].linear.weight.data = layers[1].linear.weight.data
    back = zoo.load(zoo.save(model, tmp_path / f"x.{format_}"))
    assert compare(model.state_dict(), back.state_dict()).holds


def test_a_compiled_model_is_saved_as_itself(tmp_path: Path) -> None:
    model = zoo.build("lenet")
    back = zoo.load(zoo.save(torch.compile(model), tmp_path / "x.pt"))
    assert compare(model.state_dict(), back.state_dict()).holds


def test_loading_draws_no_random_numbers(tmp_path: Path) -> None:
    path = zoo.save(zoo.build("lenet"), tmp_path / "x.safetensors")
    before = torch.get_rng_state()
    zoo.load(path)
    assert torch.equal(before, torch.get_rng_state())
