"""Checkpoints of timm's features_only models, in which modules may be called otherwise than in the whole model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

import zoo
from zoo.errors import KeymapError

# Names that are those of the whole model; joined ones; all with a word before them.
MODELS = ["resnet18", "convnext_atto", "vit_tiny_patch16_224"]


def saved(name: str, path: Path, **options: Any) -> tuple[str, nn.Module]:
    theirs = timm.create_model(name, features_only=True, **options).eval()
    torch.save({"state_dict": nn.DataParallel(theirs).state_dict(), "epoch": 1}, path)
    return str(path), theirs


def same_maps(model: nn.Module, theirs: nn.Module, channels: int = 3) -> None:
    image = torch.randn(1, channels, 224, 224)
    with torch.no_grad():
        expected, maps = theirs(image), model(image)
        several = min(len(expected), len(maps))  # both give the last ones
        assert all(torch.equal(ours, each) for ours, each in zip(maps[-several:], expected[-several:], strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_the_backbone_takes_them_with_no_head_or_a_new_one(name: str, tmp_path: Path) -> None:
    path, theirs = saved(name, tmp_path / "maps.pth")
    for names in ({}, {"keymap": "timm"}):
        model = zoo.load(path, spec={"backbone": f"timm:{name}"}, **names)  # type: ignore[arg-type]
        assert model.migration is not None
        assert model.migration.renaming is not None
        assert (model.migration.renaming.keymap, model.migration.renaming.left_out) == ("timm", ())
        same_maps(model, theirs)
    spec = {"backbone": f"timm:{name}", "neck": "gap", "head": {"type": "linear", "num_classes": 5}}
    with pytest.raises(KeymapError, match=r"fresh='head'\) takes the rest from it, with a new head"):
        zoo.load(path, spec=spec)
    built = zoo.build(spec, weights=path, fresh="head").eval()
    assert built.transfer is not None
    assert {change.name for change in built.transfer.reinitialised} == {"head.fc.weight", "head.fc.bias"}
    same_maps(built.backbone, theirs)


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "mobilevit_xxs"])
def test_a_file_with_more_maps_than_the_backbone_gives_is_cut(name: str, tmp_path: Path) -> None:
    path, theirs = saved(name, tmp_path / "maps.pth")
    model = zoo.load(path, spec={"backbone": {"type": f"timm:{name}", "out_indices": [0, 1]}})
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert all(torch.equal(ours, each) for ours, each in zip(model(image), theirs(image)[:2], strict=True))
    told = model.migration.renaming  # type: ignore[union-attr]
    assert told is not None
    assert told.left_out
    assert all(each.endswith("(the backbone ends before it)") for each in told.left_out)


def test_a_file_with_fewer_is_refused(tmp_path: Path) -> None:
    path, theirs = saved("convnext_atto", tmp_path / "maps.pth", out_indices=(0, 1))
    with pytest.raises(KeymapError, match=r"nothing makes 80: backbone\.network\.stages_2"):
        zoo.load(path, spec={"backbone": "timm:convnext_atto"})
    same_maps(zoo.load(path, spec={"backbone": {"type": "timm:convnext_atto", "out_indices": [0, 1]}}), theirs)


def test_our_own_backbone_takes_those_of_a_resnet(tmp_path: Path) -> None:
    path, theirs = saved("resnet18", tmp_path / "maps.pth")
    spec = {"backbone": {"type": "resnet_lite", "layers": [2, 2, 2, 2], "out_indices": [0, 1, 2, 3]}}
    same_maps(zoo.load(path, spec=spec), theirs)
    same_maps(zoo.build("resnet18", weights=path, fresh="head").eval().backbone, theirs)  # type: ignore[arg-type]
    fit = zoo.identify(path).fits[0]
    assert fit.call == f"zoo.load({path!r}, spec={{'backbone': {{'type': 'resnet_lite'}}}})"
    same_maps(eval(fit.call, {"zoo": zoo}), theirs)


def test_they_go_back_by_the_names_of_the_whole_model(tmp_path: Path) -> None:
    path, theirs = saved("densenet121", tmp_path / "maps.pth")
    spec = {"backbone": "timm:densenet121", "neck": "gap", "head": {"type": "linear", "num_classes": 5}}
    zoo.convert(path, tmp_path / "whole.pth", spec=spec, without="head", to_keymap="timm")
    state = torch.load(tmp_path / "whole.pth", weights_only=True)
    timm.create_model("densenet121", num_classes=0).load_state_dict(state, strict=True)
    assert state["features.conv0.weight"].equal(theirs.state_dict()["features_conv0.weight"])
    path, _ = saved("convnext_atto", tmp_path / "maps.pth")
    with pytest.raises(KeymapError, match=r"timm:\n  there is no way back for 1: head\.norm\.{rest\.\.\.}"):
        zoo.convert(path, tmp_path / "b.pth", spec={"backbone": "timm:convnext_atto"}, to_keymap="timm")
    spec["backbone"] = "timm:convnext_atto"
    with pytest.raises(KeymapError, match=r"timm:\n  there is no way back for 1: head\.norm\.{rest\.\.\.}"):
        zoo.convert(path, tmp_path / "b.pth", spec=spec, without="head", to_keymap="timm")


@pytest.mark.parametrize(
    ("name", "channels"), [("convnext_atto", 1), ("mobilevit_xxs", 3), ("vit_tiny_patch16_224", 3)]
)
def test_they_are_identified(name: str, channels: int, tmp_path: Path) -> None:
    path, theirs = saved(name, tmp_path / "maps.pth", in_chans=channels)
    found = {fit.model: fit for fit in zoo.identify(path, libraries=True).fits}
    fit = found[f"timm:{name}"]
    assert fit.changes == ({"model": {"in_chans": 1}} if channels == 1 else {})
    same_maps(eval(fit.call, {"zoo": zoo}), theirs, channels)
