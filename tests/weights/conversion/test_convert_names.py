"""Conversions between the names of libraries: in, out and back, proven by their own strict loading."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from click.testing import CliRunner

import zoo
from zoo.cli import main
from zoo.errors import KeymapError, MissingSpecError, UnknownNameError


@pytest.fixture(scope="module")
def theirs() -> torch.nn.Module:
    torch.manual_seed(0)
    return torchvision.models.resnet18(num_classes=1000).eval()


def test_there_and_back_bit_for_bit(theirs: torch.nn.Module, tmp_path: Path) -> None:
    source = tmp_path / "theirs.pth"
    torch.save({"state_dict": torch.nn.DataParallel(theirs).state_dict(), "epoch": 1}, source)
    done = CliRunner().invoke(main, ["convert", str(source), str(tmp_path / "ours.safetensors"), "--spec", "resnet18"])
    assert done.exit_code == 0, done.output
    assert "the names are those of timm and torchvision" in done.output
    back = tmp_path / "back.pth"
    done = CliRunner().invoke(
        main, ["convert", str(tmp_path / "ours.safetensors"), str(back), "--to-keymap", "torchvision"]
    )
    assert done.exit_code == 0, done.output
    assert "122 tensors in the names of torchvision" in done.output
    state = torch.load(back, weights_only=True)
    other = torchvision.models.resnet18()
    other.load_state_dict(state, strict=True)
    assert all(torch.equal(tensor, state[name]) for name, tensor in theirs.state_dict().items())


def test_what_their_library_reshapes_is_reshaped(tmp_path: Path) -> None:
    spec = {
        "input": {"channels": 3, "size": [224, 224]},
        "backbone": {"type": "vgg_lite", "layers": [1, 1, 2, 2, 2], "channels": [4, 4, 4, 4, 4]},
        "neck": {"type": "adaptive_pool", "size": 7, "flatten": True},
        "bottleneck": {"type": "mlp", "hidden": [8, 8]},
        "head": {"type": "linear", "num_classes": 5},
    }
    ours = zoo.build(spec).eval()
    report = zoo.convert(zoo.save(ours, tmp_path / "a.pt"), tmp_path / "b.safetensors", to_keymap="timm")
    assert report.keymap == "timm"
    assert report.verified
    again = zoo.load(tmp_path / "b.safetensors", spec=spec, keymap="timm")
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), again.state_dict().values(), strict=True))


def test_a_keymap_needs_a_spec(theirs: torch.nn.Module, tmp_path: Path) -> None:
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    for names in ({"keymap": "torchvision"}, {"to_keymap": "timm"}):
        with pytest.raises(MissingSpecError):
            zoo.convert(tmp_path / "a.pth", tmp_path / "b.safetensors", **names)


def test_what_cannot_be_said_in_their_names_is_refused(tmp_path: Path) -> None:
    path = zoo.save(zoo.build("lenet"), tmp_path / "a.pt")
    with pytest.raises(KeymapError, match=r"b\.pth: keymap 'torchvision': the model is backbone lenet"):
        zoo.convert(path, tmp_path / "b.pth", to_keymap="torchvision")
    with pytest.raises(KeymapError, match="not a state dict; that goes into"):
        zoo.convert(path, tmp_path / "b.onnx", to_keymap="torchvision")
    with pytest.raises(UnknownNameError, match="did you mean torchvision"):
        zoo.convert(path, tmp_path / "b.pth", to_keymap="torchvison")
    assert [each.name for each in tmp_path.iterdir()] == ["a.pt"]


def test_one_set_of_weights_of_several(theirs: torch.nn.Module, tmp_path: Path) -> None:
    torch.save({"model": theirs.state_dict(), "ema": theirs.state_dict()}, tmp_path / "a.pth")
    report = zoo.convert(tmp_path / "a.pth", tmp_path / "b.pt", spec="resnet18", within="ema")
    assert report.migration.unwrapping.within == "ema"
    assert zoo.load(tmp_path / "b.pt").migration is None
