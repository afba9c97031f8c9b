"""Libraries with models of their own: ``library:model`` is a name, and the library is imported when it is named."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

import zoo
from zoo import kinds
from zoo.errors import SpecError, UnknownNameError


class Library:
    distribution = "timm"
    asked = 0

    def names(self, kind: str) -> list[str]:
        Library.asked += 1
        return ["wide-net", "thin_net"] if kind == "backbone" else []

    def component(self, kind: str, name: str):
        def build(in_channels: int, initialise: bool, width: int = 4) -> nn.Module:
            module = nn.Conv2d(in_channels, width, 1)
            module.forward = lambda x: (nn.Conv2d.forward(module, x),)
            module.features = (zoo.Feature(name, width),)
            module.asked_to_initialise = initialise
            return module

        return build


@pytest.fixture(autouse=True)
def library() -> Iterator[None]:
    kinds.providers.register("lib", Library())
    Library.asked = 0
    yield
    kinds.providers.unregister("lib")


def test_a_name_within_a_library_is_a_component_like_any_other() -> None:
    model = zoo.build({"backbone": {"type": "lib:Wide_Net", "width": 6}, "neck": "gap"})
    assert model(torch.zeros(1, 3, 4, 4))[0].shape == (1, 6)
    assert model.spec["backbone"] == {"type": "lib:wide-net", "width": 6}
    assert set(model.lock) == {"timm", "zoo-torch"}
    assert model.backbone.asked_to_initialise


def test_the_library_is_asked_only_when_it_is_named() -> None:
    assert "lib:wide-net" not in kinds.backbones.names()
    assert "resnet_lite" in kinds.backbones
    assert Library.asked == 0
    assert kinds.backbones.names("lib:*") == ["lib:wide-net", "lib:thin_net"]
    assert kinds.backbones.names("LIB:wide*") == ["lib:wide-net"]
    assert Library.asked == 1


def test_an_unknown_name_within_it_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown backbone 'lib:wid_net' \(did you mean lib:wide-net"):
        kinds.backbones.get("lib:wid_net")
    assert "lib:wide-net" not in kinds.heads


def test_what_the_builder_says_is_not_for_a_spec_to_state() -> None:
    with pytest.raises(SpecError, match=r"spec\.backbone\.initialise: unknown parameter"):
        zoo.build({"backbone": {"type": "lib:wide-net", "initialise": True}})
