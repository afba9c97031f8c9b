"""The builder: shapes are threaded, and parts that do not fit are found before a weight is allocated."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo import builder, kinds
from zoo.builder import compose
from zoo.errors import PartError, ShapeError, ZooError
from zoo.spec import named
from zoo.weights.checkpoint import output_ports

RESNET = {"type": "resnet_lite", "layers": [1, 1], "width": 8}
LINEAR = {"type": "linear", "num_classes": 5}


@pytest.mark.parametrize("name", kinds.models.names())
def test_features_say_what_comes_out_of_every_part(name: str) -> None:
    with torch.device("meta"):
        stated = named(name)
        size = stated["input"].get("size") or [64, 96]
        model = compose({**stated, "input": {**stated["input"], "size": size}}).eval()
        x = torch.zeros(2, model.spec["input"]["channels"], *size)
        values = model.backbone(x)
        for part in (model.backbone, model.neck, model.bottleneck):
            if part is not None:
                values = values if part is model.backbone else part(values)
                assert [tuple(v.shape) for v in values] == [(2, f.channels, *f.size) for f in part.features]
        outputs = torch.utils._pytree.tree_leaves(model(x))
    for output, port in zip(outputs, output_ports(model), strict=True):
        assert len(output.shape) == len(port.shape)
        # A word stands for any length.
        assert all(isinstance(d, str) or d == n for n, d in zip(output.shape, port.shape, strict=True))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"backbone": RESNET, "head": LINEAR},
            "spec.head (linear) after backbone resnet_lite: found the map 'stage2' (16×?×?); expected a vector; put a "
            "neck such as 'gap' or 'flatten' before it",
        ),
        (
            {"backbone": RESNET, "neck": "gap", "bottleneck": "conv1x1"},
            "spec.bottleneck (conv1x1) after neck gap: found the vector 'stage2' (16); expected maps with a spatial "
            "size, before any pooling",
        ),
        (
            {"backbone": RESNET, "neck": "flatten"},
            "spec.neck (flatten) after backbone resnet_lite: found the map 'stage2' (16×?×?) of unknown size; expected "
            "its size in the spec, such as input.size = [32, 32], or the neck 'gap' or 'adaptive_pool'",
        ),
        (
            {"backbone": RESNET, "neck": "gap", "head": {**LINEAR, "in_features": 1024}},
            "spec.head (linear): found in_features=1024 stated; expected in_features=16, for neck gap gives 'stage2' "
            "16; leave it out and it is filled in",
        ),
        (
            {"backbone": {**RESNET, "in_channels": 1}},
            "spec.backbone (resnet_lite): found in_channels=1 stated; expected in_channels=3, for the input gives "
            "'input' 3×?×?; leave it out and it is filled in",
        ),
        (
            {"input": {"channels": 1, "size": [15, 32]}, "backbone": "lenet"},
            "spec.backbone (lenet) after the input: found an input of 15×32; expected at least 16×16 for 2 stages of "
            "kernel 5",
        ),
        (
            {"input": {"size": [31, 31]}, "backbone": "vgg_lite"},
            "spec.backbone (vgg_lite) after the input: found an input of 31×31; expected at least 32×32 for 5 stages "
            "that each halve it",
        ),
        (
            {"backbone": {"type": "vgg_lite", "layers": [1, 1]}},
            "spec.backbone (vgg_lite) after the input: found layers for 2 stages and channels for 5; expected one "
            "number of each for every stage",
        ),
        (
            {"backbone": "mlp"},
            "spec.backbone (mlp) after the input: found an input of unknown size; expected its size in the spec, such "
            "as input.size = [32, 32]",
        ),
        (
            {"backbone": {**RESNET, "norm": {"type": "group", "groups": 3}}},
            "spec.backbone (resnet_lite) after the input: found 8 channels for a group norm of 3 groups; expected a "
            'number of groups that divides 8 (2, 1), as in {"type": "group", "groups": …}',
        ),
    ],
)
def test_parts_that_do_not_fit_are_named_with_both_sides(
    spec: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = []
    real = builder.assemble
    monkeypatch.setattr(
        builder, "assemble", lambda p, device, **more: devices.append(str(device)) or real(p, device, **more)
    )
    with pytest.raises(ShapeError) as caught:
        compose(spec)
    assert str(caught.value) == message
    assert devices == ["meta"]  # no weight was allocated


@pytest.mark.parametrize("size", [[32], [32, 32, 32]])
@pytest.mark.parametrize("backbone", ["lenet", "vgg_lite", "resnet_lite"])
def test_an_input_of_another_dimension_is_found_before_building(backbone: str, size: list[int]) -> None:
    with pytest.raises(
        ShapeError, match=f"found an input of size .*{len(size)}-dimensional; expected height and width"
    ):
        compose({"input": {"size": size}, "backbone": backbone})


def test_what_a_component_raises_is_told_with_its_provider() -> None:
    def odd(in_features: tuple, width: int = 3) -> nn.Module:
        raise ValueError("the width is odd")

    kinds.necks.register("odd", odd)
    try:
        with pytest.raises(
            PartError, match=r"spec.neck \(odd\) of local: building it raised ValueError: the width is odd"
        ):
            compose({"backbone": RESNET, "neck": "odd"})
    finally:
        kinds.necks.unregister("odd")


def test_huge_numbers_are_an_error_of_ours() -> None:
    for width in (2**40, 2**62, 2**70):
        with pytest.raises(ZooError):
            compose({"backbone": {**RESNET, "width": width}})


def test_a_right_statement_of_what_is_filled_in_is_accepted_and_dropped() -> None:
    stated = {"backbone": {**RESNET, "in_channels": 3}, "neck": "gap", "head": {**LINEAR, "in_features": 16}}
    spec = compose(stated, "meta").spec
    assert "in_channels" not in spec["backbone"]
    assert "in_features" not in spec["head"]


def test_a_model_without_neck_and_head_returns_its_features() -> None:
    model = compose({"backbone": RESNET})
    maps = model(torch.zeros(1, 3, 32, 32))
    assert [tuple(m.shape) for m in maps] == [(1, 8, 8, 8), (1, 16, 4, 4)]
    assert [(f.name, f.stride) for f in model.features] == [("stage1", 4), ("stage2", 8)]


def test_a_function_may_be_a_component() -> None:
    def halving(in_features: tuple, rate: float = 0.5) -> nn.Module:
        module = nn.Identity()
        module.rate, module.features = rate, in_features
        return module

    kinds.necks.register("halving", halving)
    try:
        assert compose({"backbone": RESNET, "neck": {"type": "halving", "rate": 1}}).neck.rate == 1
    finally:
        kinds.necks.unregister("halving")


def test_the_same_seed_gives_the_same_weights() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(compose(named("resnet-lite")).state_dict())
    assert all(torch.equal(a, b) for a, b in zip(*(s.values() for s in states), strict=True))
