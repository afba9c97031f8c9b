"""The keymap of timm against timm itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

import zoo
from zoo import kinds
from zoo.errors import KeymapError


def test_a_file_of_theirs_is_loaded_and_computes_the_same(randomise, tmp_path: Path) -> None:
    theirs = randomise(timm.create_model("resnet18")).eval()
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    ours = zoo.load(tmp_path / "theirs.pth", spec="resnet18", keymap="timm")
    x = torch.randn(2, 3, 160, 192)
    with torch.inference_mode():
        assert torch.equal(ours(x), theirs(x))


def test_kernels_become_matrices_without_a_copy() -> None:
    with torch.device("meta"):
        state = timm.create_model("vgg11").state_dict()
    state["pre_logits.fc1.weight"] = kernel = torch.empty(4096, 512, 7, 7)
    ours = kinds.keymaps.get("timm").to_ours(state, "vgg11")["bottleneck.layers.0.linear.weight"]
    assert ours.shape == (4096, 25088)
    assert ours.untyped_storage().data_ptr() == kernel.untyped_storage().data_ptr()


def test_the_names_of_one_library_are_not_those_of_the_other() -> None:
    with torch.device("meta"):
        state = timm.create_model("vgg11").state_dict()
    with pytest.raises(KeymapError) as raised:
        kinds.keymaps.get("torchvision").to_ours(state, "vgg11")
    assert {p.fault for p in raised.value.problems} == {"unmatched", "missing"}
    assert [p.key for p in raised.value.problems if p.fault == "unmatched"] == [
        "pre_logits.fc1.weight", "pre_logits.fc1.bias", "pre_logits.fc2.weight", "pre_logits.fc2.bias",
        "head.fc.weight", "head.fc.bias",
    ]  # fmt: skip
