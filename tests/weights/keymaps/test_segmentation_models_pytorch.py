"""The keymaps of segmentation_models_pytorch against its own encoders and models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch.nn.functional import max_pool2d

import zoo
from zoo import kinds, testing
from zoo.errors import KeymapError

RESNETS = ("resnet18", "resnet34", "resnet50", "resnext50_32x4d")
VGGS = tuple(f"vgg{n}{norm}" for n in (11, 13, 16, 19) for norm in ("", "_bn"))
WHOLE, ENCODER = "segmentation_models_pytorch", "segmentation_models_pytorch_encoder"


def spec_of(name: str) -> dict[str, Any]:
    """The backbone of a named model alone."""
    whole = zoo.normalise(name)
    return {"input": {"channels": 3}, "backbone": whole["backbone"]}


def encoder_of(name: str) -> torch.nn.Module:
    return smp.encoders.get_encoder(name, weights=None)


@pytest.mark.parametrize("name", [*RESNETS, *VGGS])
def test_every_name_and_shape_of_an_encoder_is_theirs(name: str) -> None:
    with torch.device("meta"):
        theirs, ours = encoder_of(name).state_dict(), zoo.build(spec_of(name))
    keymap = kinds.keymaps.get(ENCODER)
    plan = keymap.plan(theirs, spec_of(name))
    assert plan.problems == ()
    assert [type(rule).__name__ for rule in plan.unused] == ["Default"]
    back = keymap.to_theirs(ours)
    assert {n: (t.shape, t.dtype) for n, t in back.items()} == {n: (t.shape, t.dtype) for n, t in theirs.items()}


@pytest.mark.parametrize("name", ["resnet18", "resnext50_32x4d", "vgg11_bn"])
def test_it_keeps_the_contract_with_their_model_beside_it(name: str) -> None:
    with torch.device("meta"):
        theirs = encoder_of(name)
    report = testing.check_keymap(ENCODER, spec_of(name), theirs)
    assert report.ok, report


@pytest.mark.parametrize(("name", "prefix"), [("resnet18", "encoder."), ("resnet18", ""), ("vgg11_bn", "module.")])
def test_an_encoder_comes_home_and_goes_back(
    name: str, prefix: str, randomise: Callable[..., Any], tmp_path: Path
) -> None:
    theirs = randomise(encoder_of(name)).eval()
    torch.save({f"{prefix}{n}": t for n, t in theirs.state_dict().items()}, tmp_path / "encoder.pth")
    ours = zoo.load(tmp_path / "encoder.pth", spec=spec_of(name))
    image = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        maps, expected = ours(image), theirs(image)
    # Their first two maps are the image and the stem; of a VGG they give each stage before its pool, we after it.
    vgg = name.startswith("vgg")
    expected = [max_pool2d(each, 2) for each in expected[:-1]] if vgg else expected[2:]
    assert len(maps) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(maps, expected, strict=True))
    back = kinds.keymaps.get(ENCODER).to_theirs(ours)
    encoder_of(name).load_state_dict(back, strict=True)
    assert all(torch.equal(tensor, back[n]) for n, tensor in theirs.state_dict().items())


@pytest.mark.parametrize("architecture", ["Unet", "FPN", "DeepLabV3Plus"])
def test_the_decoder_of_a_whole_model_is_left_out_and_told(architecture: str, tmp_path: Path) -> None:
    theirs = getattr(smp, architecture)("resnet18", encoder_weights=None, aux_params={"classes": 2}).eval()
    torch.save({"state_dict": theirs.state_dict(), "epoch": 1}, tmp_path / "whole.pth")
    spec = spec_of("resnet18")
    ours = zoo.load(tmp_path / "whole.pth", spec=spec)
    own = theirs.encoder.state_dict()
    assert all(torch.equal(t, own[n.removeprefix("backbone.")]) for n, t in ours.state_dict().items())
    told = ours.migration.renaming
    assert told.keymap == WHOLE
    assert len(told.left_out) == len(theirs.state_dict()) - len(own)
    assert "the decoder is another architecture than ours" in str(ours.migration)


def test_a_whole_model_of_theirs_cannot_be_made_of_an_encoder() -> None:
    with pytest.raises(KeymapError, match="there is no way back for 3: decoder"):
        kinds.keymaps.get(WHOLE).to_theirs(zoo.build(spec_of("resnet18")))
