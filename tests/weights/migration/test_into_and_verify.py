"""Files from elsewhere take the same road into models that there are, and are verified by our names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

import zoo
from zoo.cli import main
from zoo.errors import KeymapError, SeveralWeightsError, TensorMismatchError, ZooError

SPEC = {
    "input": {"channels": 3, "size": [64, 64]},
    "backbone": {"type": "resnet_lite", "layers": [1, 1, 1, 1], "width": 64},
    "neck": "gap",
    "head": {"type": "linear", "num_classes": 3},
}


@pytest.fixture
def theirs() -> nn.Module:
    torch.manual_seed(0)
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=3).eval()


def same(model: nn.Module, reference: nn.Module) -> bool:
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        return torch.equal(model(image), reference(image))


def test_load_into_recognises(theirs: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "run.pth"
    torch.save({"state_dict": nn.DataParallel(theirs).state_dict(), "epoch": 1}, path)
    for names in ({}, {"keymap": "timm"}):
        model = zoo.build(SPEC).eval()
        zoo.load_into(model, path, **names)
        assert same(model, theirs)
    assert zoo.plan_load(zoo.build(SPEC), path).fits


DIFFERENT = "2 different (head.fc.weight float32[3, 512] for float32[4, 512], head.fc.bias float32[3] for float32[4])"


@pytest.mark.parametrize("names", [{}, {"keymap": "timm"}])
def test_load_into_keeps_a_head_of_other_classes_if_it_may(
    theirs: nn.Module, names: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "run.pth"
    torch.save({"state_dict": nn.DataParallel(theirs).state_dict(), "epoch": 1}, path)
    model = zoo.build(SPEC, num_classes=4)
    head = model.head.fc.weight.clone()
    with pytest.raises(TensorMismatchError) as caught:
        zoo.load_into(model, path, **names)
    remedy = "allow_missing=['head.fc.*'] leaves them as they are in the model"
    assert str(caught.value) == f"{path}: its tensors do not fit the model: {DIFFERENT}; {remedy}"
    done = zoo.load_into(model, path, allow_missing="head.*", **names)
    assert [str(each) for each in done.kept] == [
        "head.fc.weight float32[3, 512] for float32[4, 512]",
        "head.fc.bias float32[3] for float32[4]",
    ]
    assert len(done.loaded) == 72
    assert torch.equal(model.head.fc.weight, head)
    assert torch.equal(model.backbone.layer4[0].conv2.weight, theirs.layer4[0].conv2.weight)


def test_load_into_tells_what_is_more_and_less_in_the_names_of_both(theirs: nn.Module, tmp_path: Path) -> None:
    state = {**theirs.state_dict(), "fc2.weight": torch.ones(1)}
    del state["bn1.bias"]
    torch.save(state, tmp_path / "run.pth")
    model = zoo.build(SPEC)
    with pytest.raises(TensorMismatchError, match=r"1 missing \(backbone.bn1.bias\); 1 unexpected \(fc2.weight\);"):
        zoo.load_into(model, tmp_path / "run.pth")
    done = zoo.load_into(model, tmp_path / "run.pth", allow_missing="backbone.bn1.bias", allow_unexpected="fc2.*")
    assert (done.kept, done.ignored) == (("backbone.bn1.bias",), ("fc2.weight",))
    assert torch.equal(model.head.fc.weight, theirs.fc.weight)


def test_names_that_no_table_knows_stay_as_they_are(theirs: nn.Module, tmp_path: Path) -> None:
    state = {name.replace(".", "_"): tensor for name, tensor in theirs.state_dict().items()}
    torch.save(state, tmp_path / "run.pth")
    with pytest.raises(TensorMismatchError, match="none of the names are the model's"):
        zoo.load_into(zoo.build(SPEC), tmp_path / "run.pth", allow_missing="head.*")
    with pytest.raises(KeymapError, match="no rule matches 74"):
        zoo.load_into(zoo.build(SPEC), tmp_path / "run.pth", allow_missing="head.*", keymap="timm")


def test_load_into_any_module_takes_prefixes_off(theirs: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "run.pth"
    torch.save({"model": nn.DataParallel(theirs).state_dict(), "ema": theirs.state_dict()}, path)
    other = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=3).eval()
    with pytest.raises(SeveralWeightsError):
        zoo.load_into(other, path)
    zoo.load_into(other, path, within="model")
    assert same(other, theirs)
    fewer = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=2)
    with pytest.raises(TensorMismatchError, match=r"2 different \(fc.weight float32\[3, 512\] for float32\[2, 512\]"):
        zoo.load_into(fewer, path, within="model")
    assert len(zoo.load_into(fewer, path, within="model", allow_missing="fc.*").loaded) == 72
    with pytest.raises(KeymapError, match="it makes names of zoo's models, and the model is a 'ResNet'"):
        zoo.load_into(other, path, within="model", keymap="timm")


def test_build_with_weights_from_elsewhere_for_the_changed_or_the_unchanged_model(
    theirs: nn.Module, tmp_path: Path
) -> None:
    path = tmp_path / "run.pth"
    torch.save({"state_dict": nn.DataParallel(theirs).state_dict(), "epoch": 1}, path)
    model = zoo.build({**SPEC, "head": {"type": "linear", "num_classes": 1000}}, weights=path, num_classes=3)
    assert same(model, theirs)
    assert model.migration.proven
    assert model.transfer.complete
    tuned = zoo.build(SPEC, weights=path, num_classes=7)
    assert [change.name for change in tuned.transfer.reinitialised] == ["head.fc.weight", "head.fc.bias"]
    assert tuned.migration.renaming is not None
    other = {**SPEC, "head": {"type": "linear", "num_classes": 1000}}
    for changes in ({"num_classes": 7}, {"fresh": "head"}):
        tuned = zoo.build(other, weights=path, **changes)
        assert [change.file for change in tuned.transfer.reinitialised] == ["float32[3, 512]", "float32[3]"]
        assert tuned.migration.proven
    assert zoo.build(other, weights=path, num_classes=7).transfer.reinitialised[0].reason == "head.num_classes 3 → 7"
    with pytest.raises(KeymapError):
        zoo.build({**SPEC, "backbone": {"type": "resnet_lite", "layers": [2, 1, 1, 1]}}, weights=path)


def test_build_takes_a_file_of_other_classes_and_channels(tmp_path: Path) -> None:
    path = tmp_path / "grey.pth"
    theirs = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=3)
    theirs.conv1 = nn.Conv2d(1, 64, 7, bias=False)
    torch.save(theirs.state_dict(), path)
    model = zoo.build(SPEC, weights=path, num_classes=7, in_channels=1)  # of the file's channels
    assert torch.equal(model.backbone.conv1.weight, theirs.conv1.weight)
    assert [change.name for change in model.transfer.reinitialised] == ["head.fc.weight", "head.fc.bias"]
    grey = {**SPEC, "input": {"channels": 1}, "head": {"type": "linear", "num_classes": 5}}
    model = zoo.build(grey, weights=path, num_classes=7, in_channels=2)  # adapted to others
    assert [change.name for change in model.transfer.adapted] == ["backbone.conv1.weight"]
    assert model.transfer.reinitialised[0].reason == "head.num_classes 3 → 7"


def test_build_is_told_which_weights_and_whose_names(theirs: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "run.pth"
    torch.save({"model": ResNet(BasicBlock, [1, 1, 1, 1]).state_dict(), "ema": theirs.state_dict()}, path)
    with pytest.raises(SeveralWeightsError, match=r"say which: within='ema' \(--within ema\)"):
        zoo.build(SPEC, weights=path)
    model = zoo.build(SPEC, weights=path, within="ema", keymap="torchvision")
    assert same(model, theirs)
    assert model.migration.renaming.keymap == "torchvision"
    with pytest.raises(KeymapError, match="zoo wrote this file"):
        zoo.build("lenet", weights="digits", keymap="timm")
    with pytest.raises(ZooError, match="found within='ema' with the weights 'digits'"):
        zoo.build("lenet", weights="digits", within="ema")
    with pytest.raises(ZooError, match="found keymap=None, within='ema' without weights"):
        zoo.build("lenet", within="ema")


def test_a_foreign_file_is_verified_by_our_names(theirs: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "run.pth"
    torch.save(nn.DataParallel(theirs).state_dict(), path)
    ours = zoo.save(zoo.load(path, spec=SPEC), tmp_path / "ours.safetensors")
    report = zoo.verify(path, ours, keymap="torchvision")
    assert report.ok
    assert (report.equal, report.total) == (74, 74)
    assert "compared by our names" in str(report)
    with torch.no_grad():
        theirs.fc.bias += 1
    torch.save(theirs.state_dict(), path)
    report = zoo.verify(path, ours)
    assert not report.ok
    assert [difference.name for difference in report.differences] == ["head.fc.bias"]


def test_inspect_tells_of_one_set_of_weights_and_what_is_beside_it(theirs: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "run.pth"
    torch.save({"model": theirs.state_dict(), "ema": theirs.state_dict(), "epoch": 1}, path)
    with pytest.raises(SeveralWeightsError):
        zoo.inspect(path)
    found = zoo.inspect(path, within="ema")
    assert len(found.tensors) == 74
    assert found.unwrapping.beside == ("'epoch' (int)",)
    done = CliRunner().invoke(main, ["inspect", str(path), "--within", "ema"])
    assert "weights in 'ema'; beside them 'epoch' (int)" in done.output
