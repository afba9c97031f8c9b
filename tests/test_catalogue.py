"""Listing and describing."""

from __future__ import annotations

import pytest

import zoo
from zoo.errors import UnknownNameError


def test_models_are_listed_by_pattern() -> None:
    assert zoo.list_models("vgg*_bn") == ["vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"]
    assert len(zoo.list_models()) >= 17
    assert zoo.list_models("nothing*") == []


def test_components_are_listed_by_kind() -> None:
    necks = zoo.list_components("neck")
    assert necks == sorted(necks)
    assert {"adaptive_pool", "flatten", "gap", "identity"} <= set(necks)
    assert zoo.list_components("bottleneck", "*1x1") == ["conv1x1"]
    assert zoo.list_components("necks") == necks
    with pytest.raises(UnknownNameError, match=r"unknown kind 'backbonnes' \(did you mean backbone\?\)"):
        zoo.list_components("backbonnes")


def test_a_component_is_described_with_its_provider_signature_and_features() -> None:
    backbone = next(d for d in zoo.describe("resnet_lite") if d.kind == "backbone")
    assert (backbone.provider, backbone.version) == ("zoo-torch", zoo.__version__)
    assert backbone.target == "zoo.backbones.resnet:ResNet"
    assert "width: int > 0 = 64" in backbone.signature
    assert "stem: '7x7' | '3x3' | 'video' = '7x7'" in backbone.signature
    assert backbone.doc.startswith("A stem and residual stages")
    assert [f.shape_text for f in backbone.features] == ["64×56×56", "128×28×28", "256×14×14", "512×7×7"]


def test_a_name_of_several_kinds_is_described_as_each() -> None:
    found = {d.kind: d for d in zoo.describe("LINEAR")}
    assert set(found) == {"bottleneck", "head"}
    assert found["head"].features is None
    assert found["head"].signature[0] == "num_classes: int > 0"


def test_a_model_is_described_with_its_spec() -> None:
    model = zoo.describe("lenet")[0]
    assert model.kind == "model"
    assert model.signature == ("backbone: lenet", "neck: flatten", "bottleneck: mlp", "head: linear")
    assert model.spec == zoo.build("lenet").spec
    assert "61,706 parameters" in model.doc


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown model or component 'lenett' \(did you mean lenet\?\)"):
        zoo.describe("lenett")
