"""Checkpoints of timm and torchvision come into their models as backbones, by the libraries' own names, and go back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from check_checkpoints import randomised

import zoo
from zoo import kinds
from zoo.errors import KeymapError
from zoo.providers.timm import family as of_timm
from zoo.providers.torchvision import family as of_torchvision
from zoo.spec import parse
from zoo.weights.keymaps.library import library_table

OF_TIMM = [
    ("convnext_atto", 64),  # calls a stage by one word as a backbone
    ("efficientnet_b0", 64),  # ends with a convolution that belongs to its classifier
    ("resnet18", 64),
    ("vit_tiny_patch16_224", 224),
    ("swin_tiny_patch4_window7_224", 224),
    ("dpn48b", 64),
]
OF_TORCHVISION = ["mobilenet_v3_small", "efficientnet_b0", "regnet_y_400mf", "convnext_tiny"]


def saved(path: Path, state: object) -> str:
    torch.save(state, path)
    return str(path)


@pytest.mark.parametrize(("name", "size"), OF_TIMM)
def test_a_checkpoint_of_timm_gives_the_maps_that_timm_computes(name: str, size: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = randomised(timm.create_model(name, pretrained=False, num_classes=7))
    path = saved(tmp_path / "run.pth", {"state_dict": {f"module.{n}": t for n, t in theirs.state_dict().items()}})
    spec = {"input": {"channels": 3, "size": [size, size]}, "backbone": f"timm:{name}"}
    model = zoo.load(path, spec=spec)
    assert model.migration is not None
    assert model.migration.renaming is not None
    assert model.migration.renaming.keymap == "timm"
    assert all("the backbone ends before it" in each for each in model.migration.renaming.left_out)
    image = torch.rand(1, 3, size, size)
    maps: list[torch.Tensor] = []
    with torch.no_grad():
        if hasattr(theirs, "forward_intermediates"):
            maps = theirs.forward_intermediates(image, intermediates_only=True)  # type: ignore[operator]
        else:
            maps = [theirs.forward_features(image)]  # type: ignore[operator]
        assert maps[-1].isfinite().all()
        assert torch.equal(model(image)[-1], maps[-1])


@pytest.mark.parametrize("name", OF_TORCHVISION)
def test_a_checkpoint_of_torchvision_gives_the_map_that_torchvision_computes(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs: Any = randomised(torchvision.models.get_model(name, weights=None, num_classes=7))
    model = zoo.load(saved(tmp_path / "run.pth", theirs.state_dict()), spec={"backbone": f"torchvision:{name}"})
    image, seen = torch.rand(1, 3, 64, 64), []
    last = theirs.trunk_output if hasattr(theirs, "trunk_output") else theirs.features
    last.register_forward_hook(lambda _, __, given: seen.append(given))
    with torch.no_grad():
        theirs(image)
        assert torch.equal(model(image)[-1], seen[0])


@pytest.mark.parametrize(
    "name",
    [
        "timm:resnet10t",
        "timm:regnety_002",
        "timm:densenet121",
        "torchvision:mobilenet_v2",
        "torchvision:regnet_y_400mf",
    ],
)
def test_a_classifier_that_computes_as_our_head_does_comes_home_too_and_goes_back(name: str, tmp_path: Path) -> None:
    library, _, model = name.partition(":")
    torch.manual_seed(0)
    make = timm.create_model if library == "timm" else torchvision.models.get_model
    theirs = randomised(make(model, num_classes=7))
    path = saved(tmp_path / "run.pth", theirs.state_dict())
    spec = {"backbone": name, "neck": "gap", "head": {"type": "linear", "num_classes": 7}}
    ours = zoo.load(path, spec=spec)
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert theirs(image).isfinite().all()
        assert torch.equal(ours(image), theirs(image))
    fewer = zoo.build(spec, weights=path, num_classes=3)
    assert [change.name for change in fewer.transfer.reinitialised] == ["head.fc.weight", "head.fc.bias"]  # type: ignore[union-attr]
    zoo.convert(zoo.save(ours, tmp_path / "ours.pt"), tmp_path / "back.pth", to_keymap=library)
    again = make(model, num_classes=7).eval()
    again.load_state_dict(torch.load(tmp_path / "back.pth", weights_only=True), strict=True)
    with torch.no_grad():
        assert torch.equal(again(image), theirs(image))


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("timm:mobilenetv3_small_050", {}),  # a convolution comes before its classifier
        ("torchvision:convnext_tiny", {}),  # a norm does
        ("timm:resnet10t", {"neck": "gmp"}),  # it takes means, not maxima
        ("timm:resnet10t", {"backbone": {"type": "timm:resnet10t", "out_indices": [3]}}),  # of another map
        ("timm:resnet10t", {"head": {"type": "cosine", "num_classes": 7}}),
    ],
)
def test_a_classifier_that_computes_otherwise_is_left_out(name: str, spec: dict[str, Any], tmp_path: Path) -> None:
    whole = {"backbone": name, "neck": "gap", "head": {"type": "linear", "num_classes": 7}, **spec}
    library, _, model = name.partition(":")
    make = timm.create_model if library == "timm" else torchvision.models.get_model
    path = saved(tmp_path / "run.pth", make(model, num_classes=7).state_dict())
    with pytest.raises(KeymapError, match="nothing makes"):
        zoo.load(path, spec=whole)
    assert zoo.build(whole, weights=path, fresh="head").migration.proven  # type: ignore[union-attr]


def test_a_new_head_is_trained_on_a_backbone_whose_checkpoint_had_another(tmp_path: Path) -> None:
    theirs = timm.create_model("efficientnet_b0", pretrained=False)
    path = saved(tmp_path / "b0.pth", theirs.state_dict())
    spec = {
        "backbone": {"type": "timm:efficientnet_b0", "out_indices": [1, 4]},
        "neck": {"type": "fpn", "channels": 8},
        "head": {"type": "fcn", "num_classes": 3},
    }
    with pytest.raises(
        KeymapError, match=r"(?s)nothing makes \d+: .*fresh=\['neck', 'head'\]\) takes the rest from it"
    ):
        zoo.load(path, spec=spec)
    model = zoo.build(spec, weights=path, fresh=["neck", "head"])
    assert model.training
    assert model.migration is not None
    assert model.migration.proven
    assert {change.name.partition(".")[0] for change in model.transfer.reinitialised} == {"neck", "head"}  # type: ignore[union-attr]
    weight = model.state_dict()["backbone.network.conv_stem.weight"]
    assert torch.equal(weight, theirs.state_dict()["conv_stem.weight"])


def test_a_checkpoint_of_another_model_of_the_library_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "femto.pth", timm.create_model("convnext_femto", pretrained=False).state_dict())
    with pytest.raises(KeymapError, match="in the names of timm; is the spec theirs"):
        zoo.load(path, spec={"backbone": "timm:convnext_atto"})
    with pytest.raises(KeymapError, match="in the names of timm"):
        zoo.load(path, spec={"backbone": "timm:resnet18"}, keymap="timm")


def test_a_backbone_goes_back_to_its_library(tmp_path: Path) -> None:
    model = zoo.build({"backbone": "timm:resnet18"})
    zoo.convert(zoo.save(model, tmp_path / "ours.pt"), tmp_path / "back.pth", to_keymap="timm")
    theirs = timm.create_model("resnet18", pretrained=False, num_classes=0)
    theirs.load_state_dict(torch.load(tmp_path / "back.pth", weights_only=True), strict=True)
    assert torch.equal(theirs.conv1.weight, model.state_dict()["backbone.network.conv1.weight"])  # type: ignore[union-attr]
    ours = zoo.save(zoo.build({"backbone": "torchvision:mobilenet_v3_small"}), tmp_path / "mobile.pt")
    with pytest.raises(KeymapError, match=r"no way back for 1: classifier\.\{rest\.\.\.\}: the backbone"):
        zoo.convert(ours, tmp_path / "not.pth", to_keymap="torchvision")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("library", "family", "others"),
    [
        ("timm", of_timm, ("gemma4",)),  # it cannot be a backbone
        ("torchvision", of_torchvision, ("vit_", "maxvit")),  # the same; and tracing makes buffers of its constants
    ],
)
def test_every_family_has_a_table(library: str, family: Callable[[str], str], others: tuple[str, ...]) -> None:
    first: dict[str, str] = {}
    for name in kinds.providers.get(library).names("backbone"):
        first.setdefault(family(name), name)
    lacking = [name for name in first.values() if not has_table(f"{library}:{name}")]
    assert lacking == [name for name in first.values() if name.startswith(others)]
    assert len(first) > 15


def has_table(name: str) -> bool:
    try:
        found = library_table(parse({"backbone": name}))
        return found is not None
    except zoo.errors.ZooError:
        return False
