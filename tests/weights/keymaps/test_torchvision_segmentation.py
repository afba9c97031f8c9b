"""torchvision's FCN and DeepLabv3, with their auxiliary classifier and without, become ours and go back bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision

import zoo
from zoo import kinds
from zoo.errors import KeymapError
from zoo.weights.parity import compare


@pytest.mark.parametrize("aux", [False, True], ids=["plain", "aux"])
@pytest.mark.parametrize("name", ["fcn_resnet50", "deeplabv3_resnet50"])
def test_a_file_of_theirs_goes_there_and_back_and_computes_the_same(
    name: str, aux: bool, randomise, tmp_path: Path
) -> None:
    theirs = randomise(torchvision.models.get_model(name, weights=None, weights_backbone=None, aux_loss=aux)).eval()
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    ours = zoo.load(tmp_path / "theirs.pth", spec=f"{name}_aux" if aux else name, keymap="torchvision")
    back = kinds.keymaps.get("torchvision").to_theirs(ours)
    assert list(back) == list(theirs.state_dict())
    assert compare(back, theirs.state_dict()).holds
    x = torch.randn(1, 3, 33, 50)
    with torch.inference_mode():
        assert torch.equal(ours(x), theirs(x)["out"])


def test_a_file_with_an_aux_classifier_is_of_the_model_that_has_one() -> None:
    with torch.device("meta"):
        theirs = torchvision.models.segmentation.fcn_resnet50(weights=None, weights_backbone=None, aux_loss=True)
    with pytest.raises(KeymapError) as caught:
        kinds.keymaps.get("torchvision").to_ours(theirs.state_dict(), "fcn_resnet50")
    assert "aux.stage3" in str(caught.value)


def test_another_number_of_classes_is_that_of_both_heads() -> None:
    with torch.device("meta"):
        theirs = torchvision.models.segmentation.fcn_resnet50(
            weights=None, weights_backbone=None, num_classes=5, aux_loss=True
        )
        ours = zoo.build("fcn_resnet50_aux", num_classes=5)
    assert kinds.keymaps.get("torchvision").plan(theirs.state_dict(), ours.spec).problems == ()
