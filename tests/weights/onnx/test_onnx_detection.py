"""Detectors as ONNX: their predictions by name, for any batch and any size, and boxes from what onnxruntime returns."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch

import zoo
from zoo.errors import ShapeError


def run(path: Path, x: torch.Tensor) -> dict[str, torch.Tensor]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_outputs()]
    return {n: torch.from_numpy(y) for n, y in zip(names, session.run(None, {"image": x.numpy()}), strict=True)}


def check(model: zoo.Model, path: Path, shapes: list[tuple[int, ...]]) -> None:
    for shape in shapes:
        x = torch.randn(shape)
        with torch.inference_mode():
            expected = model.eval()(x)
        found = run(path, x)
        assert list(found) == list(expected)
        assert torch.equal(found["sizes"], expected["sizes"])
        for name, tensor in expected.items():
            assert (found[name] - tensor).abs().max() <= 1e-5 * max(1.0, tensor.abs().max().item())
        assert len(model.head.decode(found)) == shape[0]


@pytest.mark.parametrize("head", ["anchor_point", "anchor_box"])
def test_a_small_detector_runs_for_any_batch_and_size_without_a_warning(head: str, tmp_path: Path, capfd) -> None:
    model = zoo.build(
        "tiny-det", head={"type": head, "num_classes": 4, "depth": 1}, neck={"extra": "p6p7", "channels": 64}
    )
    path = zoo.save(model, tmp_path / "model.onnx", dynamic_size=True)
    check(model, path, [(1, 1, 64, 64), (3, 1, 64, 64), (2, 1, 50, 99), (1, 1, 128, 96)])
    assert "[W:" not in capfd.readouterr().err
    back = zoo.load(path).eval()
    x = torch.randn(1, 1, 64, 64)
    assert all(map(torch.equal, back(x).values(), model(x).values()))


def test_a_model_that_states_its_size_runs_for_any_batch(tmp_path: Path) -> None:
    model = zoo.build("tiny-det")
    path = zoo.save(model, tmp_path / "model.onnx")
    check(model, path, [(1, 1, 64, 64), (5, 1, 64, 64)])


@pytest.mark.parametrize(
    "name",
    [
        "retinanet_resnet50_fpn",
        pytest.param("retinanet_resnet50_fpn_v2", marks=pytest.mark.slow),
        pytest.param("fcos_resnet50_fpn", marks=pytest.mark.slow),
    ],
)
def test_a_full_detector_runs_for_any_batch_and_size(name: str, tmp_path: Path, capfd) -> None:
    model = zoo.build(name)
    path = zoo.save(model, tmp_path / "model.onnx")
    check(model, path, [(1, 3, 96, 160), (2, 3, 130, 67)])
    assert "[W:" not in capfd.readouterr().err


def test_files_of_one_detector_are_verified_output_by_output(tmp_path: Path) -> None:
    model = zoo.build("tiny-det")
    one, other = (zoo.save(model, tmp_path / f"model.{suffix}") for suffix in ("pt", "onnx"))
    report = zoo.verify(one, other)
    assert report.ok, str(report)
    assert {each.output for each in report.outputs} == {"logits", "distances", "centreness", "sizes"}


def test_a_detector_is_no_classifier() -> None:
    from PIL import Image

    with pytest.raises(ShapeError, match="returns something else than logits; expected a classifier"):
        zoo.predict(zoo.build("tiny-det"), Image.new("L", (64, 64)))
