"""Every registered component, with its variants: it builds on any device, declares what it gives and learns."""

from __future__ import annotations

import pytest
import torch

from zoo import kinds
from zoo.builder import compose
from zoo.errors import SpecError

VARIANTS: dict[str, list[dict[str, object]]] = {
    "backbone:lenet": [{}, {"channels": [4, 8, 12], "kernel_size": 3, "norm": "batch", "pool": "max"}],
    "backbone:mlp": [{}, {"hidden": [16], "norm": "layer", "activation": "gelu", "dropout": 0.2, "init": "xavier"}],
    "backbone:resnet_lite": [
        {"width": 8},
        {"width": 8, "stem": "3x3", "layers": [1, 2], "norm": {"type": "group", "groups": 4}, "activation": "silu"},
        {"width": 8, "block": "bottleneck", "layers": [1, 1, 1], "norm": "none", "init": "xavier"},
        {"width": 8, "layers": [2], "norm": "layer", "init": {"weight": "normal", "std": 0.1}},
    ],
    "backbone:vgg_lite": [
        {"layers": [1, 1], "channels": [8, 8]},
        {"layers": [1, 2], "channels": [8, 16], "norm": "batch", "activation": "leaky_relu", "init": "xavier"},
    ],
    "neck:adaptive_pool": [{}, {"size": 2, "pool": "max", "flatten": True}],
    "neck:flatten": [{}],
    "neck:gap": [{}],
    "neck:identity": [{}],
    "bottleneck:conv1x1": [{}, {"out_channels": 4, "norm": "none", "activation": "identity"}],
    "bottleneck:linear": [
        {},
        {"out_features": 8, "norm": "batch", "activation": "hardswish", "dropout": 0.5, "bias": False},
    ],
    "bottleneck:mlp": [{}, {"hidden": [8, 4], "norm": "layer", "activation": "softplus"}],
    "head:linear": [{"num_classes": 3}, {"num_classes": 3, "bias": False, "dropout": 0.5, "init": "normal"}],
}

CASES = [
    pytest.param(*key.split(":"), variant, id=f"{key}-{number}")
    for key, variants in VARIANTS.items()
    for number, variant in enumerate(variants)
]


def spec_around(kind: str, name: str, variant: dict[str, object]) -> dict[str, object]:
    """Put one component where it belongs in a small model."""
    small = {"type": "resnet_lite", "layers": [1, 1], "width": 8, "norm": {"type": "group", "groups": 4}}
    spec: dict[str, object] = {"input": {"channels": 2, "size": [40, 36]}, "backbone": small}
    if kind == "head" or (kind, name) in {("bottleneck", "linear"), ("bottleneck", "mlp")}:
        spec["neck"] = {"type": "gap"}
    return {**spec, kind: {"type": name, **variant}}


def test_every_registered_component_is_tested() -> None:
    registered = {f"{kind}:{name}" for kind, registry in kinds.COMPONENTS.items() for name in registry.names()}
    assert registered == set(VARIANTS)


@pytest.mark.parametrize(("kind", "name", "variant"), CASES)
def test_a_component_gives_what_it_declares_and_every_parameter_learns(kind: str, name: str, variant: dict) -> None:
    model = compose(spec_around(kind, name, variant))
    values = model(torch.randn(4, 2, 40, 36))
    values = values if isinstance(values, tuple) else (values,)
    if kind == "head":
        assert values[0].shape == (4, 3)
    else:
        assert [tuple(v.shape) for v in values] == [(4, f.channels, *f.size) for f in model.features]
    sum(v.square().mean() for v in values).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.parametrize(("kind", "name", "variant"), CASES)
def test_a_component_is_the_same_on_the_meta_device(kind: str, name: str, variant: dict) -> None:
    spec = spec_around(kind, name, variant)
    meta, real = compose(spec, "meta"), compose(spec, "cpu")
    assert {n: (t.shape, t.dtype) for n, t in meta.state_dict().items()} == {
        n: (t.shape, t.dtype) for n, t in real.state_dict().items()
    }
    assert all(t.is_meta for t in meta.state_dict().values())
    assert all(t.isfinite().all() for t in real.state_dict().values())


@pytest.mark.parametrize(("kind", "name", "variant"), CASES)
@pytest.mark.parametrize("value", ["3", -1, [[]], {"a": 1}, 1e999], ids=repr)
def test_hostile_parameters_are_errors_of_ours(kind: str, name: str, variant: dict, value: object) -> None:
    spec = spec_around(kind, name, variant)
    parameters = [p.name for p in kinds.signature_of(kinds.COMPONENTS[kind].get(name)).parameters]
    for parameter in parameters:
        with pytest.raises(SpecError, match=rf"^spec\.{kind}\.{parameter}"):
            compose({**spec, kind: {"type": name, **variant, parameter: value}}, "meta")
