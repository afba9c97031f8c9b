"""The keymap of torchvision against torchvision itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision

import zoo
from zoo import kinds
from zoo.weights.parity import compare


def test_a_file_of_theirs_is_loaded_and_computes_the_same(randomise, tmp_path: Path) -> None:
    theirs = randomise(torchvision.models.resnet50()).eval()
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    ours = zoo.load(tmp_path / "theirs.pth", spec="resnet50", keymap="torchvision")
    x = torch.randn(2, 3, 160, 192)
    with torch.inference_mode():
        assert torch.equal(ours(x), theirs(x))


def test_another_number_of_classes_is_what_the_spec_says(randomise, tmp_path: Path) -> None:
    theirs = randomise(torchvision.models.resnet18(num_classes=7)).eval()
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    spec = zoo.build("resnet18", num_classes=7).spec
    ours = zoo.load(tmp_path / "theirs.pth", spec=spec, keymap="torchvision")
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn"])
def test_a_file_from_before_batch_norm_counted_is_loaded(name: str) -> None:
    with torch.device("meta"):
        state = torchvision.models.get_model(name).state_dict()
    old = {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")}
    plan = kinds.keymaps.get("torchvision").plan(old, name)
    assert plan.problems == ()
    assert plan.unused == ()
    filled = [step.made[0] for step in plan.steps if not step.given]
    assert len(filled) == len(state) - len(old) > 0
    assert all(n.endswith("num_batches_tracked") for n in filled)


def test_their_own_loader_takes_what_is_given_back(randomise) -> None:
    ours = randomise(zoo.build("resnet18")).eval()
    theirs = torchvision.models.resnet18().eval()
    theirs.load_state_dict(kinds.keymaps.get("torchvision").to_theirs(ours), strict=True)
    assert compare(kinds.keymaps.get("torchvision").to_ours(theirs.state_dict(), "resnet18"), ours.state_dict()).holds
