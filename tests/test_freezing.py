"""Freezing by stage and up to one: what an optimiser step changes, and what it does not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import zoo
from zoo import kinds
from zoo.builder import compose
from zoo.errors import PartError, UnknownNameError
from zoo.features import Feature
from zoo.sources import stages
from zoo.spec import named


@pytest.fixture
def model() -> zoo.Model:
    return zoo.build("resnet-lite")


def changed_by_a_step(model: zoo.Model) -> set[str]:
    """Train one step and return the stems of all that changed, statistics included: ``"backbone.layer1"``."""
    model.train()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    optimiser = torch.optim.SGD(model.param_groups(weight_decay=0.1), lr=0.1)
    x = torch.randn(4, model.spec["input"]["channels"], 32, 32)
    nn.functional.cross_entropy(model(x), torch.arange(4)).backward()
    optimiser.step()
    changed = [n for n, t in model.state_dict().items() if not torch.equal(t, before[n])]
    return {".".join(n.split(".")[:2]) for n in changed}


def test_up_to_a_stage_takes_the_stem_with_it_and_leaves_the_rest(model: zoo.Model) -> None:
    model.freeze(until="backbone.stage2")
    assert changed_by_a_step(model) == {"backbone.layer3", "head.fc"}
    assert not model.backbone.bn1.training
    assert not model.backbone.layer2[0].bn2.training
    assert model.backbone.layer3[0].bn1.training
    assert model.backbone.training  # it holds layer3, too


def test_a_stage_alone_leaves_those_before_and_behind_it(model: zoo.Model) -> None:
    model.freeze("backbone.stage2")
    stem = {"backbone.conv1", "backbone.bn1"}
    assert changed_by_a_step(model) == {*stem, "backbone.layer1", "backbone.layer3", "head.fc"}


def test_the_first_stage_has_the_stem(model: zoo.Model) -> None:
    model.freeze("backbone.stage1")
    assert changed_by_a_step(model) == {"backbone.layer2", "backbone.layer3", "head.fc"}


def test_stages_thaw_one_by_one(model: zoo.Model) -> None:
    model.freeze("backbone")
    assert changed_by_a_step(model) == {"head.fc"}
    model.unfreeze("backbone.stage3")
    assert changed_by_a_step(model) == {"backbone.layer3", "head.fc"}
    model.unfreeze(until="backbone.stage1")
    assert "backbone.layer2" not in changed_by_a_step(model)
    model.unfreeze()
    assert all(p.requires_grad for p in model.parameters())
    assert all(m.training for m in model.modules())


def test_up_to_the_last_stage_is_the_whole_backbone(model: zoo.Model) -> None:
    model.freeze(until="backbone.stage3").train()
    assert not any(m.training for m in model.backbone.modules())
    assert not any(p.requires_grad for p in model.backbone.parameters())
    assert model.head.training


def test_up_to_a_module_is_all_that_it_is_computed_from(model: zoo.Model) -> None:
    model.freeze(until="backbone.layer2.0.conv1")
    frozen = {n.removesuffix(".weight") for n, p in model.named_parameters() if not p.requires_grad and "conv" in n}
    assert frozen == {"backbone.conv1", "backbone.layer1.0.conv1", "backbone.layer1.0.conv2", "backbone.layer2.0.conv1"}


def test_names_and_until_go_together(model: zoo.Model) -> None:
    model.freeze("head", until="backbone.stage1")
    assert changed_by_a_step(model) == {"backbone.layer2", "backbone.layer3"}


def test_modules_in_one_list_are_told_apart_by_what_is_computed_from_them() -> None:
    model = zoo.build("vgg-lite").freeze(until="backbone.stage1")
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad]
    assert frozen == [f"backbone.layers.{n}.{kind}" for n in (0, 1) for kind in ("weight", "bias")]
    assert changed_by_a_step(model) == {"backbone.layers", "head.fc"}
    assert not model.backbone.layers[1].training


def test_backbones_of_other_libraries_have_stages_too() -> None:
    spec = {"input": {"size": [64, 64]}, "backbone": {"type": "timm:resnet10t"}}
    model = zoo.build(spec).freeze(until=f"backbone.{zoo.build(spec).features[2].name}")
    trained = {n.split(".")[2] for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {"layer3", "layer4"}


def test_a_dropout_behind_a_stage_is_not_of_it() -> None:
    model = zoo.build("lenet", bottleneck={"dropout": 0.5})
    dropouts = [n for n, m in model.named_modules() if isinstance(m, nn.Dropout) and n.startswith("bottleneck")]
    model.freeze(until="bottleneck.layers.0.linear").train()
    assert all(model.get_submodule(n).training for n in dropouts)
    model.freeze(until=dropouts[0]).train()
    assert not model.get_submodule(dropouts[0]).training


def test_what_is_not_there_is_answered_with_the_nearest(model: zoo.Model) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown part 'backbone.stage4' \(did you mean backbone.stage"):
        model.freeze("backbone.stage4")
    with pytest.raises(UnknownNameError, match=r"unknown feature 'stage2' \(did you mean backbone.stage2\?\); reg"):
        model.freeze(until="stage2")
    for name, meant in {"stage2": "stage2", "stge1": "stage1", "layer1": "layer1"}.items():
        with pytest.raises(UnknownNameError) as caught:
            model.freeze(name)
        assert str(caught.value).startswith(f"unknown part {name!r} (did you mean backbone.{meant}")
    with pytest.raises(zoo.ZooError) as told:
        model.freeze(["backbone"])
    assert str(told.value).startswith(
        "found ['backbone'] to freeze or unfreeze; expected names: model.freeze('backbone'"
    )
    assert all(p.requires_grad for p in model.parameters())


def test_finding_stages_leaves_no_trace_in_the_model(model: zoo.Model) -> None:
    before = {n: t.clone() for n, t in model.state_dict().items()}
    state = torch.get_rng_state()
    model.freeze(until="backbone.stage2").unfreeze()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())


QUICK = {"lenet", "mlp", "r3d_18", "resnet-lite", "resnet18_1d", "tiny-seg", "vgg11_bn"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in zoo.list_models()]
)
def test_every_parameter_of_a_backbone_is_of_one_stage(name: str) -> None:
    model = compose(named(name), "meta")
    found = stages(model, "backbone")
    assert list(found) == [feature.name for feature in model.backbone.features]
    parameters = [name for stage in found.values() for name in stage.parameters]
    assert sorted(parameters) == sorted(n for n, _ in model.named_parameters() if n.startswith("backbone."))


class Looking(nn.Module):
    """A backbone that looks at its values, which the meta device has none of."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4, 3, stride=2)
        self.features = (Feature("all", 4, 2),)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.conv(x if x.sum() > 0 else -x),)


def test_a_backbone_that_the_meta_device_cannot_run_has_no_stages_but_modules() -> None:
    kinds.backbones.register("looking", Looking)
    try:
        model = zoo.build({"backbone": "looking"})
    finally:
        kinds.backbones.unregister("looking")
    with pytest.raises(PartError, match=r"model.backbone: cannot be run on the meta device to find its stages: "):
        model.freeze("backbone.all")
    assert not model.freeze("backbone.conv").backbone.conv.weight.requires_grad
