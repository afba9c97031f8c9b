"""Auxiliary heads: there in training, gone from outputs and graphs otherwise, kept with the weights."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

import zoo
from zoo.errors import ShapeError, SpecError
from zoo.model import Supervised
from zoo.spec import merge
from zoo.weights.parity import compare

HEAD = {"type": "branch", "neck": "gap", "head": {"type": "linear", "num_classes": 5}}
PLAIN: dict[str, Any] = {
    "input": {"channels": 1, "size": [24, 24]},
    "backbone": {"type": "vgg_lite", "layers": [1, 1], "channels": [4, 8], "norm": "batch"},
    "neck": "gap",
    "head": {"type": "linear", "num_classes": 3},
}
SPEC = {
    **PLAIN,
    "aux": {"stage1": {"head": HEAD, "weight": 0.3}, "pooled": {"head": HEAD["head"], "feature": "neck.stage2"}},
}
X = torch.randn(2, 1, 24, 24, generator=torch.Generator().manual_seed(0))


def test_in_training_mode_the_prediction_and_those_of_the_aux_heads_come_out() -> None:
    model = zoo.build(SPEC)
    found = model(X)
    assert isinstance(found, Supervised)
    assert tuple(found.out.shape) == (2, 3)
    assert {name: tuple(each.shape) for name, each in found.aux.items()} == {"stage1": (2, 5), "pooled": (2, 5)}
    assert model.aux_weights == {"stage1": 0.3, "pooled": 0.5}
    assert tuple(model.eval()(X).shape) == (2, 3)


def test_the_main_prediction_is_that_of_the_model_without_aux() -> None:
    model, plain = zoo.build(SPEC), zoo.build(PLAIN)
    plain.load_state_dict({n: t for n, t in model.state_dict().items() if not n.startswith("aux.")})
    expected = plain(X)
    assert torch.equal(model(X).out, expected)
    assert torch.equal(model.eval()(X), plain.eval()(X))


def test_an_aux_head_sees_its_feature_alone() -> None:
    model = zoo.build(SPEC).eval()
    with torch.no_grad():
        stage1 = model.backbone(X)[0]
        expected = model.aux["stage1"]((stage1,))
        model.aux.train()
        model.training = True
        assert torch.equal(model(X).aux["stage1"], expected)


def test_a_training_loop_reaches_every_weight_also_when_compiled() -> None:
    model = zoo.build(SPEC)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    out, aux = compiled(X)
    loss = out.square().mean() + sum(model.aux_weights[name] * each.square().mean() for name, each in aux.items())
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_normal_form_has_every_default_and_none_without_aux() -> None:
    normal = zoo.normalise(SPEC)
    assert list(normal["aux"]) == ["stage1", "pooled"]
    assert normal["aux"]["pooled"] == {
        "head": {"type": "linear", "num_classes": 5, "dropout": 0.0, "bias": True, "init": "default"},
        "feature": "neck.stage2",
        "weight": 0.5,
    }
    assert normal["aux"]["stage1"]["feature"] == "backbone.stage1"
    assert zoo.normalise(json.loads(json.dumps(normal))) == normal
    for none in (None, {}):
        assert zoo.normalise({**PLAIN, "aux": none}) == zoo.normalise(PLAIN)
    assert "aux" not in zoo.normalise(PLAIN)


@pytest.mark.parametrize(
    ("aux", "message"),
    [
        ({"stage3": {"head": HEAD}}, "spec.aux.stage3.feature: found the feature 'backbone.stage3'; expected one of "
         "backbone.stage1, backbone.stage2, neck.stage2 (did you mean backbone.stage2 or backbone.stage1?)"),
        ({"x": {"head": HEAD, "feature": "bottleneck.stage1"}}, "spec.aux.x.feature: found the feature "
         "'bottleneck.stage1'; expected one of backbone.stage1, backbone.stage2, neck.stage2"),
        ({"stage1": {"head": HEAD["head"]}}, "spec.aux.stage1.head (linear) after backbone feature stage1: found the "
         "map 'stage1' (4×12×12); expected a vector; put a neck such as 'gap' or 'flatten' before it"),
    ],
)  # fmt: skip
def test_an_aux_that_does_not_fit_is_refused_before_anything_is_allocated(aux: Any, message: str) -> None:
    with pytest.raises(ShapeError) as caught, torch.device("meta"):
        zoo.build({**PLAIN, "aux": aux})
    assert str(caught.value) == message or str(caught.value).startswith(message + " (did you mean")


def test_everything_wrong_with_the_statement_is_told_with_its_path() -> None:
    aux = {
        "a": {"head": {"type": "linear", "num_clases": 3}, "weight": -1, "fature": "x"},
        "b": 3,
        "keys": {"head": HEAD},
    }
    with pytest.raises(SpecError) as caught:
        zoo.normalise({**PLAIN, "aux": aux})
    assert [str(p) for p in caught.value.problems] == [
        "spec.aux.a.fature: unknown parameter; an auxiliary head takes head, feature, weight (did you mean feature?)",
        "spec.aux.a.weight: found -1 (int); expected float ≥ 0",
        "spec.aux.a.head.num_clases: unknown parameter; linear takes num_classes, dropout, bias, init (did you mean "
        "num_classes?)",
        "spec.aux.a.head.num_classes: missing; linear needs it (expected int > 0)",
        "spec.aux.b: found 3; expected a dict with a 'head'",
        "spec.aux.keys: 'keys' cannot name a module; take letters, digits and _, and no word of torch's",
    ]
    with pytest.raises(SpecError, match=r"spec\.aux: found 3; expected a dict such as"):
        zoo.normalise({**PLAIN, "aux": 3})


def test_changes_merge_by_name_and_none_removes() -> None:
    before = copy.deepcopy(SPEC)
    merged = merge(SPEC, {"aux": {"stage1": {"weight": 1.0, "head": {"neck": "flatten"}}, "pooled": None}})["aux"]
    assert merged == {"stage1": {"head": {**HEAD, "neck": "flatten"}, "weight": 1.0}}
    assert merge(SPEC, {"aux": None})["aux"] is None
    assert before == SPEC
    assert zoo.build(SPEC, aux=None).aux is None
    assert list(zoo.build(SPEC, aux={"pooled": None}).aux) == ["stage1"]


def test_the_number_of_classes_is_that_of_the_aux_heads_that_state_one_too() -> None:
    spec = {**PLAIN, "aux": {"pooled": {"head": {"type": "linear", "num_classes": 3}, "feature": "neck.stage2"}}}
    found = zoo.build(spec, num_classes=7)(X)
    assert (found.out.shape[1], found.aux["pooled"].shape[1]) == (7, 7)


@pytest.mark.parametrize("suffix", ["pt", "safetensors", "onnx"])
def test_their_weights_come_back_from_every_format(suffix: str, randomise, tmp_path: Path) -> None:
    model = randomise(zoo.build(SPEC))
    path = zoo.save(model, tmp_path / f"model.{suffix}")
    again = zoo.load(path)
    assert again.spec == model.spec
    assert compare(model.state_dict(), again.state_dict()).holds
    assert any(name.startswith("aux.") for name in again.state_dict())
    left, right = model.eval().train()(X), again.train()(X)
    assert torch.equal(left.aux["stage1"], right.aux["stage1"])
    if suffix == "onnx":
        graph = onnx.load(path).graph
        assert not [i.name for i in graph.initializer if i.name.startswith("aux.")]
        assert [o.name for o in graph.output] == ["logits"]


def test_weights_with_aux_go_into_a_model_without_it_if_that_is_said(tmp_path: Path) -> None:
    path = zoo.save(zoo.build(SPEC), tmp_path / "model.pt")
    with pytest.raises(SpecError, match=r"spec\.aux\.stage1: the weights were saved with"):
        zoo.load_into(zoo.build(PLAIN), path)
    assert zoo.load_into(zoo.build(PLAIN), path, allow_unexpected="aux.*").ignored
    with pytest.raises(SpecError, match=r"spec\.aux\.stage1: the weights were saved with"):
        zoo.load(path, spec=PLAIN)
    lighter = merge(SPEC, {"aux": {"stage1": {"weight": 0.1}}})  # whose loss weighs less computes the same
    assert zoo.load(path, spec=lighter).aux_weights["stage1"] == 0.1


def test_they_can_be_frozen_and_have_a_learning_rate_as_parts_have() -> None:
    model = zoo.build(SPEC)
    assert [group["name"] for group in model.param_groups(aux={"lr": 0.1})] == ["backbone", "head", "aux"]
    rates = {group["name"]: group["lr"] for group in model.param_groups(lr=0.4, layer_decay=0.5)}
    assert rates == {"backbone.stage1": 0.1, "backbone.stage2": 0.2, "head": 0.4, "aux": 0.4}
    model.freeze("aux.stage1")
    assert not any(p.requires_grad for p in model.aux["stage1"].parameters())
    assert all(p.requires_grad for p in model.aux["pooled"].parameters())
    assert len(model.freeze("aux").param_groups()) == 2
