"""The keymap of timm against timm itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

import zoo
from zoo import kinds, testing
from zoo.errors import KeymapError

RESNETS = [f"resnet{n}" for n in (18, 34, 50, 101, 152)]
VGGS = [f"vgg{n}{norm}" for n in (11, 13, 16, 19) for norm in ("", "_bn")]
QUICK = ("resnet18", "vgg11")
MODELS = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in RESNETS + VGGS]


@pytest.mark.parametrize("name", RESNETS + VGGS)
def test_every_name_and_shape_is_theirs_in_their_order(name: str) -> None:
    with torch.device("meta"):
        theirs = timm.create_model(name).state_dict()
        ours = zoo.build(name)
    keymap = kinds.keymaps.get("timm")
    plan = keymap.plan(theirs, name)
    assert plan.problems == ()
    assert [type(rule).__name__ for rule in plan.unused] == ["Default"]
    back = keymap.to_theirs(ours)
    assert [(n, t.shape, t.dtype) for n, t in back.items()] == [(n, t.shape, t.dtype) for n, t in theirs.items()]


@pytest.mark.parametrize("name", MODELS)
def test_tensors_go_there_and_back_and_outputs_are_theirs(name: str, difference) -> None:
    if name.startswith("resnet"):
        assert difference("timm", name, timm.create_model(name), [(224, 224), (96, 128)]) == 0.0
    else:  # timm's classifier is convolutional: another order of the same sums, and the same at this size alone
        assert difference("timm", name, timm.create_model(name), [(224, 224)]) <= 1e-5


@pytest.mark.parametrize("name", MODELS)
def test_it_keeps_the_contract_with_their_model_beside_it(name: str) -> None:
    with torch.device("meta"):
        theirs = timm.create_model(name)
    report = testing.check_keymap("timm", name, theirs)
    assert (report.ok, report.ran) == (True, 5), report


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
