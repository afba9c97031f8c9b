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
from zoo.errors import KeymapError, SeveralWeightsError, TensorMismatchError

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
    with pytest.raises(TensorMismatchError):
        zoo.load_into(zoo.build(SPEC, num_classes=4), path)
    with pytest.raises(KeymapError, match="the shapes disagree"):
        zoo.load_into(zoo.build(SPEC, num_classes=4), path, keymap="timm")


def test_load_into_any_module_takes_prefixes_off(theirs: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "run.pth"
    torch.save({"model": nn.DataParallel(theirs).state_dict(), "ema": theirs.state_dict()}, path)
    other = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=3).eval()
    with pytest.raises(SeveralWeightsError):
        zoo.load_into(other, path)
    zoo.load_into(other, path, within="model")
    assert same(other, theirs)
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
    with pytest.raises(KeymapError):
        zoo.build({**SPEC, "backbone": {"type": "resnet_lite", "layers": [2, 1, 1, 1]}}, weights=path)


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
