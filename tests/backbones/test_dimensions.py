"""The backbones take signals, images and volumes, with every norm and activation, and say what would fit."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

import zoo
from zoo.errors import ShapeError, SpecError
from zoo.layers.activation import ActivationName
from zoo.layers.norm import NormName

SMALL = {
    "lenet": {"channels": [4, 6]},
    "vgg_lite": {"layers": [1, 1], "channels": [4, 6]},
    "mlp": {"hidden": [6]},
    "resnet_lite": {"layers": [1, 1], "width": 4, "stem": "3x3"},
}
SIZE = (18, 20, 16)


def spec(name: str, dims: int, **parameters: object) -> dict[str, object]:
    return {
        "input": {"channels": 2, "size": list(SIZE[:dims])},
        "backbone": {"type": name, **SMALL[name], "dims": dims, **parameters},
    }


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("norm", get_args(NormName))
@pytest.mark.parametrize("name", SMALL)
def test_every_norm_in_every_dimension(name: str, norm: str, dims: int) -> None:
    plan = {"type": norm, "groups": 2} if norm == "group" else norm
    if (name, norm) == ("mlp", "instance"):
        with pytest.raises(ShapeError, match="an instance norm of vectors"):
            zoo.build(spec(name, dims, norm=plan))
        return
    model = zoo.build(spec(name, dims, norm=plan))
    assert model.backbone.dims == dims
    for feature, found in zip(model.features, model(torch.randn(3, 2, *SIZE[:dims])), strict=True):
        assert found.shape[1:] == (feature.channels, *feature.size)


@pytest.mark.parametrize("activation", get_args(ActivationName))
@pytest.mark.parametrize("name", SMALL)
def test_every_activation_trains(name: str, activation: str) -> None:
    model = zoo.build({**spec(name, 1, activation=activation), "neck": None if name == "mlp" else "gap"})
    sum(v.square().sum() for v in model(torch.randn(3, 2, SIZE[0]))).backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", ["lenet", "vgg_lite", "resnet_lite"])
def test_a_model_of_any_size_says_how_many_axes_it_takes(name: str) -> None:
    model = zoo.build({**spec(name, 1), "input": {"channels": 2, "size": None}})
    assert model(torch.randn(1, 2, 40))[-1].shape[:2] == (1, model.features[-1].channels)
    assert [f.shape_text for f in model.features] == [f"{f.channels}×?" for f in model.features]
    with pytest.raises(ShapeError, match=r"an input of shape \(1, 2, 40, 40\); expected \(N, 2, L\)"):
        model(torch.randn(1, 2, 40, 40))


@pytest.mark.parametrize("name", SMALL)
def test_an_input_of_other_dimensions_is_refused(name: str) -> None:
    with pytest.raises(ShapeError) as raised:
        zoo.build({**spec(name, 3), "input": {"channels": 2, "size": [40, 40]}})
    assert raised.value.where == f"spec.backbone ({name}) after the input"
    assert raised.value.found == "an input of size [40, 40], 2-dimensional"
    assert raised.value.expected == "depth, height and width, three numbers, for dims=3"


@pytest.mark.parametrize(("name", "least"), [("lenet", 16), ("vgg_lite", 4)])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_an_input_too_small_for_the_strides_is_refused_and_the_smallest_is_taken(
    name: str, least: int, dims: int
) -> None:
    fitting = {**spec(name, dims), "input": {"channels": 2, "size": [least] * dims}}
    assert zoo.build(fitting)(torch.randn(1, 2, *[least] * dims))[-1].shape[2:] == (1,) * dims
    with pytest.raises(ShapeError) as raised:
        zoo.build({**fitting, "input": {"channels": 2, "size": [least - 1] + [least] * (dims - 1)}})
    assert raised.value.where == f"spec.backbone ({name}) after the input"
    assert f"at least {'×'.join([str(least)] * dims)} for 2 stages" in raised.value.expected


@pytest.mark.parametrize("dims", [0, 4, True, "2"])
def test_a_number_of_dimensions_is_one_to_three(dims: object) -> None:
    with pytest.raises(SpecError, match=r"spec.backbone.dims: found .*; expected int ≥ 1 and ≤ 3"):
        zoo.build({"backbone": {"type": "vgg_lite", "dims": dims}})


def test_a_residual_network_with_an_instance_norm_needs_more_than_one_position() -> None:
    parameters = {"type": "resnet_lite", "layers": [1, 1, 1], "width": 4, "norm": "instance"}
    with pytest.raises(ShapeError) as raised:
        zoo.build({"input": {"channels": 2, "size": [16, 16]}, "backbone": parameters})
    assert raised.value.found == "the map 'stage3' of 1×1 for an instance norm"
    zoo.build({"input": {"channels": 2, "size": [16, 17]}, "backbone": parameters})(torch.randn(1, 2, 16, 17))
