"""Several heads on one trunk: checked, normalised and built as any part is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import zoo
from zoo import kinds
from zoo.errors import PartError, ShapeError, SpecError

LINEAR = {"type": "linear", "num_classes": 10}
POOLED = {"type": "branch", "neck": "gap", "bottleneck": {"type": "linear", "out_features": 6}, "head": LINEAR}


def spec(heads: Any) -> dict[str, Any]:
    return {
        "input": {"channels": 1, "size": [16, 16]},
        "backbone": {"type": "vgg_lite", "layers": [1], "channels": [4]},
        "head": {"type": "multi", "heads": heads},
    }


def problems(heads: Any) -> list[str]:
    with pytest.raises(SpecError) as caught:
        zoo.normalise(spec(heads))
    return [str(p) for p in caught.value.problems]


def test_each_head_predicts_under_its_name_in_the_order_of_the_spec() -> None:
    model = zoo.build(spec({"label": POOLED, "again": {**POOLED, "head": {**LINEAR, "num_classes": 2}}}))
    found = model(torch.randn(3, 1, 16, 16))
    assert {name: tuple(each.shape) for name, each in found.items()} == {"label": (3, 10), "again": (3, 2)}
    assert list(found) == ["label", "again"]


def test_the_normal_form_has_every_default_of_every_nested_part() -> None:
    normal = zoo.normalise(spec({"label": POOLED}))
    assert normal["head"]["heads"]["label"] == {
        "type": "branch",
        "head": {"type": "linear", "num_classes": 10, "dropout": 0.0, "bias": True, "init": "default"},
        "neck": {"type": "gap"},
        "bottleneck": {**zoo.normalise({"backbone": "mlp", "bottleneck": {"type": "linear"}})["bottleneck"],
                       "out_features": 6},
    }  # fmt: skip
    assert zoo.normalise(json.loads(json.dumps(normal))) == normal


def test_problems_within_are_told_with_their_paths() -> None:
    heads = {"label": {"type": "linear", "num_clases": 10}, "boxes": {"type": "boxs"}, "mask": 3, "deep": {
        "type": "branch", "neck": "flaten",
        "head": {"type": "multi", "heads": {"x": {**LINEAR, "bias": 1}}}}}  # fmt: skip
    taken = ", ".join(p.name for p in kinds.signature_of(kinds.heads.get("linear")).parameters)
    names, necks = ", ".join(kinds.heads.names()), ", ".join(kinds.necks.names())
    assert problems(heads) == [
        f"spec.head.heads.label.num_clases: unknown parameter; linear takes {taken} (did you mean num_classes?)",
        "spec.head.heads.label.num_classes: missing; linear needs it (expected int > 0)",
        f"spec.head.heads.boxes.type: unknown head 'boxs'; registered: {names}",
        f"spec.head.heads.mask: found 3; expected a dict with a 'type', one of {names}",
        "spec.head.heads.deep.head.heads.x.bias: found 1 (int); expected bool",
        f"spec.head.heads.deep.neck.type: unknown neck 'flaten' (did you mean flatten?); registered: {necks}",
    ]


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({}, "spec.head.heads: found {} (dict); expected dict[str, head {type, …}] length ≥ 1"),
        (None, "spec.head.heads: found None (NoneType); expected dict[str, head {type, …}] length ≥ 1"),
        ({"x": None}, "spec.head.heads.x: found None; expected a head, a dict with a 'type'"),
        ({"a.b": LINEAR}, "spec.head.heads.a.b: 'a.b' cannot name a module; take letters, digits and _, and no word of "
         "torch's"),
        ({"keys": LINEAR}, "spec.head.heads.keys: 'keys' cannot name a module; take letters, digits and _, and no word "
         "of torch's"),
    ],
)  # fmt: skip
def test_what_is_no_dict_of_heads_is_refused(heads: Any, message: str) -> None:
    assert problems(heads) == [message]


def test_heads_within_heads_without_end_are_refused() -> None:
    heads: dict[str, Any] = {"x": LINEAR}
    for _ in range(40):
        heads = {"x": {"type": "multi", "heads": heads}}
    (message,) = problems(heads)
    assert message.endswith(": a part that stands in more than 8 others; no model needs that")
    circle: dict[str, Any] = {"type": "multi"}
    circle["heads"] = {"x": circle}
    assert "which JSON cannot say" in problems({"x": circle})[0]


def test_a_head_that_does_not_fit_is_named_with_its_path_before_anything_is_allocated() -> None:
    with pytest.raises(ShapeError) as caught:
        zoo.build(spec({"label": LINEAR}))
    assert str(caught.value) == (
        "spec.head.heads.label (linear) after backbone vgg_lite: found the map 'stage1' (4×8×8); expected a vector; "
        "put a neck such as 'gap' or 'flatten' before it"
    )


def test_what_a_nested_part_raises_names_its_provider() -> None:
    class Fails(nn.Module):
        def __init__(self, in_features: tuple[zoo.Feature, ...]) -> None:
            raise KeyError("oh")

    kinds.heads.register("fails", Fails)
    try:
        with pytest.raises(PartError, match=r"spec\.head\.heads\.x \(fails\) of .*building it raised KeyError: 'oh'"):
            zoo.build(spec({"x": "fails"}))
    finally:
        kinds.heads.unregister("fails")


def test_the_provider_of_a_nested_part_is_in_the_lock() -> None:
    class Mine(nn.Module):
        def __init__(self, in_features: tuple[zoo.Feature, ...]) -> None:
            super().__init__()

        def forward(self, features: tuple[torch.Tensor, ...]) -> torch.Tensor:
            return features[-1]

    kinds.heads.register("mine", Mine)
    try:
        with_mine = zoo.build(spec({"x": {"type": "branch", "head": "mine"}})).lock
        assert set(with_mine) - set(zoo.build(spec({"x": POOLED})).lock) == {kinds.heads.find("mine").provider}
    finally:
        kinds.heads.unregister("mine")


@pytest.mark.parametrize("suffix", ["pt", "safetensors", "onnx"])
def test_every_format_brings_all_heads_back(suffix: str, tmp_path: Path) -> None:
    model = zoo.build(spec({"b": POOLED, "a": POOLED})).eval()
    path = zoo.save(model, tmp_path / f"model.{suffix}")
    again = zoo.load(path)
    x = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        expected, found = model(x), again(x)
    assert list(found) == ["b", "a"]
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    if suffix == "onnx":
        session = onnxruntime.InferenceSession(path)
        assert [output.name for output in session.get_outputs()] == ["b", "a"]
        for got, name in zip(session.run(None, {"image": x.numpy()}), expected, strict=True):
            np.testing.assert_allclose(got, expected[name].numpy(), rtol=1e-4, atol=1e-6)


def test_another_initialiser_within_is_no_other_function(tmp_path: Path) -> None:
    path = zoo.save(zoo.build(spec({"a": POOLED})), tmp_path / "model.pt")
    other = {**POOLED, "head": {**LINEAR, "init": "xavier", "dropout": 0.5}}
    zoo.load(path, spec=spec({"a": other}))
    with pytest.raises(SpecError, match=r"spec\.head\.heads: the weights were saved with"):
        zoo.load(path, spec=spec({"a": {**POOLED, "bottleneck": {"type": "linear", "out_features": 6,
                                                                 "activation": "tanh"}}}))  # fmt: skip


def test_one_trunk_tells_a_label_boxes_and_a_mask(tmp_path: Path) -> None:
    label = {"type": "branch", "neck": "gap", "head": LINEAR}
    boxes = {"type": "anchor_point", "num_classes": 3, "depth": 1}
    mask = {"type": "branch", "neck": "concat", "head": {"type": "fcn", "num_classes": 2}}
    model = zoo.build(
        {
            "backbone": {"type": "resnet_lite", "layers": [1, 1, 1], "width": 8},
            "neck": {"type": "fpn", "channels": 32},
            "head": {"type": "multi", "heads": {"label": label, "boxes": boxes, "mask": mask}},
        }
    ).eval()
    session = onnxruntime.InferenceSession(zoo.save(model, tmp_path / "model.onnx"))
    x = torch.randn(3, 3, 80, 112)
    with torch.no_grad():
        found = model(x)
    flat = {
        "label": found["label"],
        **{f"boxes.{k}": each for k, each in found["boxes"].items()},
        "mask": found["mask"],
    }
    assert [output.name for output in session.get_outputs()] == list(flat)
    for got, expected in zip(session.run(None, {"image": x.numpy()}), flat.values(), strict=True):
        np.testing.assert_allclose(got, expected.numpy(), rtol=1e-4, atol=1e-5)
