"""Trained weights in changed models: what is kept, adapted, fresh and dropped, and that it is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from digits import split
from torch import nn
from torchvision.models import resnet18

import zoo
from zoo import kinds
from zoo.errors import SpecError, TensorMismatchError, UnknownNameError, ZooError
from zoo.features import Feature
from zoo.weights.transfer.channels import adapted

X = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(5))


class Twin(nn.Module):
    """A head whose tensors have the names and shapes of ``linear``'s, and that does something else with them."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(in_channels, num_classes)

    def forward(self, features: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return -self.fc(features[-1])


@pytest.fixture(scope="module")
def digits() -> zoo.Model:
    return zoo.build("resnet-lite", weights="digits")


def same(model: zoo.Model, other: zoo.Model, *starts: str) -> bool:
    """Tell whether all tensors below some names are the same in two models."""
    state = other.state_dict()
    return all(torch.equal(t, state[n]) for n, t in model.state_dict().items() if n.startswith(starts))


def test_a_new_head_keeps_the_trunk_and_says_so(digits: zoo.Model) -> None:
    model = zoo.build("resnet-lite", weights="digits", head={"num_classes": 3})
    assert same(model, digits, "backbone", "neck")
    assert len(model.transfer.kept) == len(model.state_dict()) - 2
    path = model.transfer.path
    assert str(model.transfer) == (
        f"{path}: 54 of 56 tensors are kept\n"
        "  re-initialised (2), head.num_classes 10 → 3: head.fc.weight float32[10, 64] → float32[3, 64], "
        "head.fc.bias float32[10] → float32[3]"
    )
    assert model.training
    assert (model.record, model.transfer.record) == (None, digits.record)


def test_the_report_is_plain_json() -> None:
    model = zoo.build("resnet-lite", weights="digits", num_classes=3)
    told = model.transfer.to_json()
    assert json.loads(json.dumps(told)) == told
    assert told["reinitialised"][0] == {
        "name": "head.fc.weight",
        "file": "float32[10, 64]",
        "model": "float32[3, 64]",
        "reason": "head.num_classes 10 → 3",
    }
    assert told["record"]["labels"] == list("0123456789")


def test_weights_as_they_are_are_all_kept(digits: zoo.Model) -> None:
    assert digits.transfer.complete
    assert digits.transfer.kept == tuple(digits.state_dict())
    assert not zoo.build("resnet-lite", weights="digits", num_classes=10, head={"dropout": 0.5}).training
    assert zoo.build("resnet-lite").transfer is None


def test_fresh_parts_start_by_their_own_initialiser(digits: zoo.Model) -> None:
    init = {"weight": "zeros", "bias": "zeros"}
    head = zoo.build("resnet-lite", weights="digits", num_classes=3, head={"init": init}).head
    assert head.fc.weight.abs().sum() == 0
    torch.manual_seed(1)
    first = zoo.build("resnet-lite", weights="digits", fresh="head")
    torch.manual_seed(1)
    second = zoo.build("resnet-lite", weights="digits", fresh=["head"])
    assert same(first, second, "")
    assert not torch.equal(first.head.fc.weight, digits.head.fc.weight)
    assert first.head.fc.weight.std() > 0
    assert {change.reason for change in first.transfer.reinitialised} == {"asked for"}


def test_another_component_takes_nothing_though_shapes_are_the_same(digits: zoo.Model) -> None:
    kinds.heads.register("twin", Twin)
    try:
        model = zoo.build("resnet-lite", weights="digits", head={"type": "twin", "num_classes": 10})
    finally:
        kinds.heads.unregister("twin")
    assert [str(change) for change in model.transfer.reinitialised] == [
        "head.fc.weight float32[10, 64] → float32[10, 64]",
        "head.fc.bias float32[10] → float32[10]",
    ]
    assert {change.reason for change in model.transfer.reinitialised} == {"head linear → twin"}
    assert not torch.equal(model.head.fc.weight, digits.head.fc.weight)
    assert same(model, digits, "backbone")


def test_a_new_bottleneck_leaves_the_backbone_and_makes_the_head_say_so(digits: zoo.Model) -> None:
    bottleneck = {"type": "linear", "out_features": 8}
    with pytest.raises(TensorMismatchError, match=r"head.fc.weight float32\[10, 64\] for float32\[10, 8\]\); fresh="):
        zoo.build("resnet-lite", weights="digits", bottleneck=bottleneck)
    model = zoo.build("resnet-lite", weights="digits", bottleneck=bottleneck, fresh="head")
    assert {change.reason for change in model.transfer.reinitialised} == {"bottleneck none → linear", "asked for"}
    assert same(model, digits, "backbone")
    assert model(X).shape == (4, 10)


def test_a_removed_head_is_dropped_and_the_rest_is_ready(digits: zoo.Model) -> None:
    model = zoo.build("resnet-lite", weights="digits", head=None)
    assert {change.name for change in model.transfer.dropped} == {"head.fc.weight", "head.fc.bias"}
    assert "dropped (2), head linear → none: head.fc.bias float32[10], head.fc.weight float" in str(model.transfer)
    assert not model.training
    assert torch.equal(model(X)[0], digits.neck(digits.backbone(X))[0])


def test_a_changed_backbone_keeps_what_fits(digits: zoo.Model) -> None:
    model = zoo.build("resnet-lite", weights="digits", backbone={"layers": [1, 2, 1]})
    assert {c.name.rpartition(".")[0] for c in model.transfer.reinitialised} > {"backbone.layer2.1.conv1"}
    assert all(c.name.startswith("backbone.layer2.1.") and c.file == "" for c in model.transfer.reinitialised)
    assert same(model, digits, "backbone.layer1", "backbone.layer3", "head")


def test_what_is_not_said_in_the_call_is_refused(tmp_path: Path) -> None:
    path = zoo.save(zoo.build("resnet-lite", backbone={"width": 8}), tmp_path / "narrow.safetensors")
    with pytest.raises(SpecError, match=r"spec.backbone.width: the weights were saved with 8, this is 16"):
        zoo.build("resnet-lite", weights=path, num_classes=3)
    plain = tmp_path / "plain.pt"
    torch.save(zoo.load(path).state_dict(), plain)
    with pytest.raises(TensorMismatchError) as caught:
        zoo.build("resnet-lite", weights=plain, num_classes=3)
    assert "backbone.conv1.weight float32[8, 1, 3, 3] for float32[16, 1, 3, 3]" in caught.value.different
    assert not any(each.startswith("head") for each in caught.value.different)
    assert "it fits with backbone.width=8" in str(caught.value)
    assert "fresh" not in str(caught.value)


def test_fresh_names_parts_and_needs_weights() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown part 'haed' \(did you mean head\?\)"):
        zoo.build("resnet-lite", weights="digits", fresh="haed")
    with pytest.raises(ZooError, match=r"found fresh=\['head'\] without weights"):
        zoo.build("resnet-lite", fresh="head")


def test_auxiliary_heads_come_and_go(digits: zoo.Model, tmp_path: Path) -> None:
    branch = {"type": "branch", "neck": "gap", "head": {"type": "linear", "num_classes": 10}}
    model = zoo.build("resnet-lite", weights="digits", aux={"stage2": {"head": branch}})
    assert {c.name.split(".")[0] for c in model.transfer.reinitialised} == {"aux"}
    assert torch.equal(model.eval()(X), digits(X))
    path = zoo.save(model, tmp_path / "aux.pt")
    without = zoo.build(model.spec, weights=path, aux=None)
    assert {c.name.split(".")[0] for c in without.transfer.dropped} == {"aux"}
    assert torch.equal(without(X), digits(X))


def test_a_component_within_a_head_that_becomes_another_takes_nothing_either(tmp_path: Path) -> None:
    linear = {"type": "linear", "num_classes": 4}
    spec = zoo.build("resnet-lite", head={"type": "multi", "heads": {"a": linear, "b": linear}}).spec
    branch = {"type": "branch", "neck": "gap", "head": linear}
    spec["aux"] = {"stage1": {"head": branch}, "stage2": {"head": branch}}
    path = zoo.save(zoo.build(spec), tmp_path / "multi.pt")
    kinds.heads.register("twin", Twin)
    try:
        twin = {"type": "twin", "num_classes": 4}
        model = zoo.build(
            spec,
            weights=path,
            head={"heads": {"a": linear, "b": twin}},
            aux={"stage2": {"head": {**branch, "head": twin}}},
        )
    finally:
        kinds.heads.unregister("twin")
    found = {change.name.rpartition(".fc.")[0]: change.reason for change in model.transfer.reinitialised}
    assert found == {
        "head.heads.a": "head.heads.b linear → twin",
        "head.heads.b": "head.heads.b linear → twin",
        "aux.stage2.head": "aux.stage2.head.head linear → twin",
    }


def test_another_norm_starts_no_convolution_anew(digits: zoo.Model) -> None:
    norm = {"type": "group", "groups": 4}
    model = zoo.build("resnet-lite", weights="digits", backbone={"norm": norm})
    assert same(model, digits, "backbone.conv1", "backbone.layer1.0.conv1", "head")
    assert {change.name.rpartition(".")[2] for change in model.transfer.dropped} == {
        "running_mean", "running_var", "num_batches_tracked",
    }  # fmt: skip


def test_a_file_in_half_precision_gets_a_head_in_half_precision(tmp_path: Path) -> None:
    path = zoo.save(zoo.build("resnet-lite", weights="digits"), tmp_path / "half.pt", dtype="bfloat16")
    model = zoo.build("resnet-lite", weights=path, num_classes=2)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("name", ["lenet", "resnet-lite", "vgg-lite"])
def test_three_equal_channels_are_as_good_as_one(name: str) -> None:
    grey = zoo.build(name, weights="digits")
    colour = zoo.build(name, weights="digits", in_channels=3)
    assert not colour.training
    assert [change.reason for change in colour.transfer.adapted] == ["input.channels 1 → 3, repeated and scaled by 1/3"]
    torch.testing.assert_close(colour(X.expand(-1, 3, -1, -1)), grey(X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stem", ["7x7", "3x3"])
def test_a_grey_picture_is_as_good_as_one_in_three_equal_channels(stem: str, tmp_path: Path) -> None:
    colour = zoo.build("resnet18", backbone={"stem": stem, "width": 8}, num_classes=7, input={"size": [64, 64]})
    for module in colour.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    path = zoo.save(colour.eval(), tmp_path / "colour.pt")
    grey = zoo.build(colour.spec, weights=path, in_channels=1)
    x = torch.randn(2, 1, 64, 64)
    torch.testing.assert_close(grey(x), colour(x.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)
    assert str(grey.transfer).endswith(
        "adapted (1), input.channels 3 → 1, summed: backbone.conv1.weight "
        + (
            "float32[8, 3, 7, 7] → float32[8, 1, 7, 7]"
            if stem == "7x7"
            else "float32[8, 3, 3, 3] → float32[8, 1, 3, 3]"
        )
    )
    wide = zoo.build(colour.spec, weights=path, in_channels=6, num_classes=3)
    torch.testing.assert_close(
        wide.backbone.eval()(x.expand(-1, 6, -1, -1))[-1],
        colour.backbone(x.expand(-1, 3, -1, -1))[-1],
        rtol=1e-4,
        atol=1e-4,
    )
    assert wide.training is False or wide.transfer.reinitialised


def test_summing_and_scaling_are_rounded_once() -> None:
    weight = torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(2))
    assert torch.equal(adapted(weight, 1), weight.double().sum(1, keepdim=True).float())
    four = adapted(weight, 4)
    assert torch.equal(four[:, 3], (weight[:, 0].double() * 0.75).float())
    assert adapted(weight.half(), 1).dtype == torch.float16
    assert adapted(torch.zeros(4, 2, 3, 3, 3), 5).shape == (4, 5, 3, 3, 3)


def test_what_has_no_convolution_on_the_input_is_refused_or_fresh(tmp_path: Path) -> None:
    path = zoo.save(zoo.build("mlp", input={"size": [8, 8]}), tmp_path / "mlp.pt")
    with pytest.raises(TensorMismatchError) as caught:
        zoo.build("mlp", input={"size": [8, 8]}, in_channels=3, weights=path)
    assert str(caught.value).endswith(
        "(backbone.layers.0.linear.weight float32[256, 64] for float32[256, 192]); no single convolution takes the "
        "input, which could be adapted to its channels; fresh=['backbone'] starts it anew"
    )
    model = zoo.build("mlp", input={"size": [8, 8]}, in_channels=3, weights=path, fresh="backbone")
    assert {change.name.split(".")[0] for change in model.transfer.reinitialised} == {"backbone"}


def test_backbones_of_other_libraries_are_adapted_too(tmp_path: Path) -> None:
    spec = {"input": {"size": [64, 64]}, "backbone": {"type": "timm:resnet10t"}}
    model = zoo.build(spec).eval()
    grey = zoo.build(spec, weights=zoo.save(model, tmp_path / "timm.pt"), in_channels=1)
    assert [change.name for change in grey.transfer.adapted] == ["backbone.network.conv1.0.weight"]
    x = torch.randn(1, 1, 64, 64)
    torch.testing.assert_close(grey(x)[-1], model(x.expand(-1, 3, -1, -1))[-1], rtol=1e-4, atol=1e-5)


def test_a_file_of_torchvision_becomes_a_grey_model_of_another_task(tmp_path: Path) -> None:
    theirs = resnet18().eval()
    path = tmp_path / "theirs.pth"
    torch.save(theirs.state_dict(), path)
    grey = zoo.build("resnet18", weights=path, in_channels=1)
    x = torch.randn(1, 1, 64, 64)
    torch.testing.assert_close(grey(x), theirs(x.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)
    other = zoo.build("resnet18", weights=path, in_channels=1, num_classes=5)
    assert {change.name for change in other.transfer.reinitialised} == {"head.fc.weight", "head.fc.bias"}
    assert torch.equal(other.backbone.conv1.weight, grey.backbone.conv1.weight)
    assert same(other, grey, "backbone")


class Tied(nn.Module):
    """A head whose second tensor is its first, and one that is not."""

    def __init__(self, in_channels: int, num_classes: int, tie: bool = True) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(in_channels, in_channels), nn.Linear(in_channels, in_channels)
        if tie:
            self.second.weight = self.first.weight
        self.out = nn.Linear(in_channels, num_classes)

    def forward(self, features: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return self.out(self.second(self.first(features[-1])))


def test_ties_stay_where_the_model_has_them(tmp_path: Path) -> None:
    kinds.heads.register("tied", Tied)
    try:
        model = zoo.build("resnet-lite", head={"type": "tied", "num_classes": 4})
        for suffix in ("pt", "safetensors"):
            path = zoo.save(model, tmp_path / f"tied.{suffix}")
            other = zoo.build(model.spec, weights=path, num_classes=3)
            assert other.head.first.weight is other.head.second.weight
            assert torch.equal(other.head.first.weight, model.head.first.weight)
            anew = zoo.build(model.spec, weights=path, fresh="head")
            assert anew.head.first.weight is anew.head.second.weight
    finally:
        kinds.heads.unregister("tied")


class Strange(nn.Module):
    """A backbone whose ``way`` decides how its first layers take the input."""

    def __init__(self, in_channels: int, way: str = "plain") -> None:
        super().__init__()
        self.way = way
        groups = in_channels if way == "depthwise" else 1
        self.first = nn.Conv2d(in_channels, 6, 3, padding=1, groups=groups)
        if way == "normed":
            self.first = nn.utils.parametrizations.weight_norm(self.first)
        self.second = nn.Conv2d(in_channels if way == "two" else 6, 6, 3, padding=1)
        self.features = (Feature("all", 6, 1),)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        first = self.first(x)
        return (first + self.second(x) if self.way == "two" else self.second(first),)


@pytest.mark.parametrize("way", ["plain", "two", "depthwise", "normed"])
def test_the_convolution_of_a_plugin_is_found_if_there_is_one(way: str, tmp_path: Path) -> None:
    kinds.backbones.register("strange", Strange)
    try:
        model = zoo.build({"backbone": {"type": "strange", "way": way}}).eval()
        path = zoo.save(model, tmp_path / "strange.pt")
        if way == "plain":
            grey = zoo.build(model.spec, weights=path, in_channels=1)
            assert [change.name for change in grey.transfer.adapted] == ["backbone.first.weight"]
            x = torch.randn(1, 1, 9, 9)
            torch.testing.assert_close(grey(x)[0], model(x.expand(-1, 3, -1, -1))[0], rtol=1e-5, atol=1e-5)
        else:
            with pytest.raises(
                TensorMismatchError, match=r"no single convolution takes the input, which could be"
            ) as e:
                zoo.build(model.spec, weights=path, in_channels=2 if way == "depthwise" else 1)
            if way == "depthwise":
                told = "backbone.first.weight float32[6, 1, 3, 3] for float32[6, 1, 3, 3] in 2 groups, not 3"
                assert e.value.different == (told,)
    finally:
        kinds.backbones.unregister("strange")


def test_a_head_on_shipped_weights_learns_which_digits_are_odd_in_seconds() -> None:
    """Only the head trains, 130 numbers on top of features that tell ten digits apart, on a fifth of the data."""
    torch.manual_seed(0)
    model = zoo.build("resnet-lite", weights="digits", num_classes=2).freeze("backbone")
    told = model.transfer.record.preprocessing
    parts = split()
    x, test = parts["train"].inputs(told)[:200], parts["test"].inputs(told)
    odd, test_odd = parts["train"].labels[:200] % 2, parts["test"].labels % 2

    def accuracy() -> float:
        with torch.no_grad():
            return (model.eval()(test).argmax(1) == test_odd).float().mean().item()

    before, trunk = accuracy(), {n: t.clone() for n, t in model.state_dict().items() if not n.startswith("head.")}
    optimiser = torch.optim.Adam(model.param_groups(lr=0.1))
    model.train()
    for _ in range(20):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), odd).backward()
        optimiser.step()
    assert before < 0.7
    assert accuracy() > 0.95
    state = model.state_dict()
    assert all(torch.equal(t, state[n]) for n, t in trunk.items())
