"""The keymaps of torchvision and timm against the libraries themselves, every model that both sides have."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision

import zoo
from zoo import kinds, testing

MAKE = {"torchvision": torchvision.models.get_model, "timm": timm.create_model}
NAMES = [f"resnet{n}" for n in (18, 34, 50, 101, 152)]
NAMES += ["resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"]
NAMES += [f"vgg{n}{norm}" for n in (11, 13, 16, 19) for norm in ("", "_bn")]
QUICK = {("torchvision", "resnet18"), ("torchvision", "resnext50_32x4d"), ("torchvision", "vgg11"),
         ("torchvision", "r3d_18"), ("timm", "resnet18"), ("timm", "vgg11")}  # fmt: skip
ALL = [*((library, name) for library in MAKE for name in NAMES), ("torchvision", "r3d_18")]
SIZES = {"r3d_18": [(5, 48, 56)]}
SAMPLE = [pytest.param(*one, marks=[] if one in QUICK else pytest.mark.slow) for one in ALL]


@pytest.mark.parametrize(("library", "name"), ALL)
def test_every_name_and_shape_is_theirs_in_their_order(library: str, name: str) -> None:
    with torch.device("meta"):
        theirs = MAKE[library](name).state_dict()
        ours = zoo.build(name)
    keymap = kinds.keymaps.get(library)
    plan = keymap.plan(theirs, name)
    assert plan.problems == ()
    assert [type(rule).__name__ for rule in plan.unused] == ["Default"]
    back = keymap.to_theirs(ours)
    assert [(n, t.shape, t.dtype) for n, t in back.items()] == [(n, t.shape, t.dtype) for n, t in theirs.items()]


@pytest.mark.parametrize(("library", "name"), SAMPLE)
def test_tensors_go_there_and_back_and_outputs_are_theirs(library: str, name: str, difference) -> None:
    theirs = MAKE[library](name)
    if (library, name[:3]) == ("timm", "vgg"):
        # Its classifier is convolutional: another order of the same sums, and the same at this size alone.
        assert difference(library, name, theirs, [(224, 224)]) <= 1e-5
    else:
        assert difference(library, name, theirs, SIZES.get(name, [(224, 224), (96, 128)])) == 0.0


@pytest.mark.parametrize(("library", "name"), SAMPLE)
def test_it_keeps_the_contract_with_their_model_beside_it(library: str, name: str) -> None:
    with torch.device("meta"):
        theirs = MAKE[library](name)
    report = testing.check_keymap(library, name, theirs)
    assert (report.ok, report.ran) == (True, 5), report
