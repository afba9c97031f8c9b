"""Parameter groups: weight decay without vectors, and learning rates that fall with depth."""

from __future__ import annotations

import pytest
import torch

import zoo
from zoo.errors import ZooError

HEAD = {"type": "branch", "neck": "gap", "head": {"type": "linear", "num_classes": 10}}


@pytest.fixture
def model() -> zoo.Model:
    return zoo.build("resnet-lite", bottleneck={"type": "linear", "out_features": 8})


def lrs(groups: list[dict]) -> dict[str, float]:
    return {group["name"]: group["lr"] for group in groups}


def test_layers_from_the_head_down_learn_more_and_more_slowly(model: zoo.Model) -> None:
    groups = model.param_groups(lr=0.1, layer_decay=0.5)
    assert lrs(groups) == {
        "backbone.stage1": 0.1 * 0.5**4,
        "backbone.stage2": 0.1 * 0.5**3,
        "backbone.stage3": 0.1 * 0.5**2,
        "bottleneck": 0.1 * 0.5,
        "head": 0.1,
    }
    of = {id(p): group["name"] for group in groups for p in group["params"]}
    assert of == {
        id(p): {"conv1": "backbone.stage1", "bn1": "backbone.stage1"}.get(
            n.split(".")[1], n.split(".")[0] + (f".stage{n[14]}" if n.startswith("backbone.layer") else "")
        )
        for n, p in model.named_parameters()
    }


def test_what_is_frozen_keeps_its_place_in_the_depth(model: zoo.Model) -> None:
    model.freeze(until="backbone.stage1").freeze("bottleneck")
    assert lrs(model.param_groups(lr=0.1, layer_decay=0.5)) == {
        "backbone.stage2": 0.1 * 0.5**3,
        "backbone.stage3": 0.1 * 0.5**2,
        "head": 0.1,
    }


def test_auxiliary_heads_learn_as_fast_as_the_head() -> None:
    model = zoo.build("resnet-lite", aux={"stage2": {"head": HEAD}})
    groups = lrs(model.param_groups(lr=0.1, layer_decay=0.5))
    assert (groups["aux"], groups["head"], groups["backbone.stage3"]) == (0.1, 0.1, 0.05)


def test_vectors_do_not_decay(model: zoo.Model) -> None:
    groups = model.param_groups(weight_decay=0.05)
    assert [g["name"] for g in groups] == [
        f"{p}{n}" for p in ("backbone", "bottleneck", "head") for n in ("", ", no decay")
    ]
    for group in groups:
        assert {p.dim() > 1 for p in group["params"]} == {not group["name"].endswith("no decay")}
        assert group["weight_decay"] == (0.0 if group["name"].endswith("no decay") else 0.05)
    names = {id(p): n for n, p in model.named_parameters()}
    kept = {names[id(p)] for g in groups if g["weight_decay"] == 0 for p in g["params"]}
    assert kept == {n for n in names.values() if n.endswith("bias") or "bn" in n or "downsample.1" in n}


def test_options_of_a_part_go_before_what_is_said_for_all(model: zoo.Model) -> None:
    groups = {g["name"]: g for g in model.param_groups(lr=0.1, weight_decay=0.05, layer_decay=0.5, head={"lr": 1.0})}
    assert (groups["head"]["lr"], groups["bottleneck"]["lr"]) == (1.0, 0.05)
    backbone = {"lr": 0.2, "weight_decay": 0.5, "momentum": 0.9}
    groups = {g["name"]: g for g in model.param_groups(lr=0.1, weight_decay=0.05, layer_decay=0.5, backbone=backbone)}
    assert groups["backbone.stage3"]["lr"] == 0.2 * 0.25
    assert groups["backbone.stage3"]["weight_decay"] == 0.5
    assert groups["backbone.stage3, no decay"]["weight_decay"] == 0.0
    assert groups["backbone.stage1"]["momentum"] == 0.9


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"lr": 1.0, "layer_decay": 0.9}])
def test_every_parameter_is_in_one_group_that_an_optimiser_takes(options: dict, model: zoo.Model) -> None:
    model.head.extra = model.backbone.conv1
    groups = model.param_groups(**options)
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(id(p) for p in model.parameters())
    torch.optim.AdamW(groups, lr=0.1)


def test_a_parameter_that_no_feature_needs_is_of_the_last_stage(model: zoo.Model) -> None:
    model.backbone.idle = torch.nn.Linear(2, 2)
    groups = model.param_groups(lr=1.0, layer_decay=0.5)
    (home,) = (g["name"] for g in groups if any(p is model.backbone.idle.weight for p in g["params"]))
    assert home == "backbone.stage3"


def test_layer_decay_needs_a_rate_to_scale_and_a_sensible_factor(model: zoo.Model) -> None:
    with pytest.raises(ZooError, match=r"needs a learning rate to scale; found none for 'backbone'; state lr"):
        model.param_groups(layer_decay=0.5)
    for factor in (0, 1.5, -1):
        with pytest.raises(ZooError, match=rf"found layer_decay={factor}; expected a number above 0 and up to 1"):
            model.param_groups(lr=0.1, layer_decay=factor)
