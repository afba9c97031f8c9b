"""fcn and deeplab: logits for every position of the input, whatever its size, in one to three dimensions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

import zoo
from zoo.errors import ShapeError, SpecError
from zoo.heads.fcn import FCNHead

HEADS = [{"type": "fcn", "num_classes": 4}, {"type": "deeplab", "num_classes": 4, "channels": 8, "rates": [1, 3]}]


def spec(head: dict[str, Any], dims: int = 2, size: list[int] | None = None) -> dict[str, Any]:
    return {
        "input": {"channels": 2, "size": size},
        "backbone": {"type": "resnet_lite", "layers": [1, 1, 1], "width": 8, "dims": dims},
        "head": head,
    }


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head["type"])
@pytest.mark.parametrize("size", [(31,), (33, 50), (64, 32), (17, 20, 35)])
def test_the_logits_have_the_size_of_the_input(head: dict[str, Any], size: tuple[int, ...]) -> None:
    model = zoo.build(spec(head, len(size)))
    assert tuple(model(torch.randn(2, 2, *size)).shape) == (2, 4, *size)


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head["type"])
@pytest.mark.parametrize(
    ("neck", "found"),
    [("gap", "found the vector 'stage3' (32); expected maps with a spatial size, before any pooling"),
     ("flatten", "found the vector 'stage3' (512); expected maps with a spatial size, before any pooling")],
)  # fmt: skip
def test_a_vector_is_refused_before_anything_is_allocated(head: dict[str, Any], neck: str, found: str) -> None:
    with pytest.raises(ShapeError) as caught, torch.device("meta"):
        zoo.build({**spec(head, size=[64, 64]), "neck": neck})
    assert str(caught.value) == f"spec.head ({head['type']}) after neck {neck}: {found}"


@pytest.mark.parametrize(
    ("head", "path"),
    [
        ({"type": "fcn"}, "spec.head.num_classes: missing; fcn needs it"),
        ({"type": "fcn", "num_classes": 0}, "spec.head.num_classes: found 0 (int); expected int > 0"),
        ({"type": "fcn", "num_classes": 2, "channels": 0}, "spec.head.channels: found 0"),
        ({"type": "deeplab", "num_classes": 2, "rates": []}, "spec.head.rates: found [] (list)"),
        ({"type": "deeplab", "num_classes": 2, "rates": [0]}, "spec.head.rates[0]: found 0 (int)"),
        ({"type": "deeplab", "num_classes": 2, "dropout": 1.0}, "spec.head.dropout: found 1.0 (float)"),
    ],
)
def test_parameters_that_cannot_be_are_refused_with_their_path(head: dict[str, Any], path: str) -> None:
    with pytest.raises(SpecError) as caught:
        zoo.normalise(spec(head))
    assert str(caught.value).startswith(path)


def test_groups_that_do_not_divide_the_hidden_width_are_refused() -> None:
    with pytest.raises(
        ShapeError, match=r"spec\.head \(fcn\) after backbone resnet_lite: found 8 channels for a group"
    ):
        zoo.build(spec({"type": "fcn", "num_classes": 2, "norm": {"type": "group", "groups": 3}}))


def test_a_narrow_map_has_one_hidden_channel_at_least() -> None:
    head = FCNHead((zoo.Feature("thin", channels=3, stride=1),), num_classes=2)
    assert tuple(head((torch.zeros(1, 3, 4, 4),), (4, 4)).shape) == (1, 2, 4, 4)


def run(path: Path, x: torch.Tensor) -> np.ndarray:
    return onnxruntime.InferenceSession(path).run(None, {"image": x.numpy()})[0]


@pytest.mark.parametrize(
    "name",
    [
        "tiny-seg",
        *(
            pytest.param(n, marks=pytest.mark.slow)
            for n in zoo.list_models("*_resnet50*")
            if "fcn" in n or "deeplab" in n
        ),
    ],
)
def test_a_graph_takes_any_batch_height_and_width(name: str, randomise, tmp_path: Path) -> None:
    model = randomise(zoo.build(name)).eval()
    path = zoo.save(model, tmp_path / "model.onnx")
    channels = model.spec["input"]["channels"]
    for shape in [(1, 48, 48), (3, 33, 51), (2, 64, 40)]:
        x = torch.randn(shape[0], channels, *shape[1:])
        with torch.no_grad():
            expected = model(x).numpy()
        found = run(path, x)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 2e-5 * np.abs(expected).max()
    assert zoo.verify(model, path).ok


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head["type"])
def test_a_stated_size_is_fixed_in_the_graph_and_told_of_it(head: dict[str, Any], tmp_path: Path) -> None:
    model = zoo.build(spec(head, size=[32, 48])).eval()
    path = zoo.save(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(path)
    assert session.get_outputs()[0].shape == ["batch", 4, 32, 48]
    assert zoo.inspect(path).spec == model.spec


def test_several_heads_of_which_one_needs_the_size() -> None:
    label = {"type": "branch", "neck": "gap", "head": {"type": "linear", "num_classes": 5}}
    mask = {"type": "branch", "neck": "identity", "head": HEADS[0]}
    found = zoo.build(spec({"type": "multi", "heads": {"label": label, "mask": mask}}))(torch.randn(2, 2, 33, 40))
    assert {name: tuple(each.shape) for name, each in found.items()} == {"label": (2, 5), "mask": (2, 4, 33, 40)}


def test_an_aux_segmenter_is_of_the_size_of_the_input_too() -> None:
    model = zoo.build({**spec(HEADS[1]), "aux": {"stage2": {"head": HEADS[0]}}})
    assert tuple(model(torch.randn(2, 2, 33, 40)).aux["stage2"].shape) == (2, 4, 33, 40)
