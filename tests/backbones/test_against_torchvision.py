"""ResNet and VGG against torchvision: the same parameters in the same order and, with equal values, equal outputs."""

from __future__ import annotations

import re

import pytest
import torch
import torchvision

import zoo
from zoo.builder import compose
from zoo.spec import named
from zoo.weights.parity import compare

CLASSICS = [f"resnet{n}" for n in (18, 34, 50, 101, 152)]
CLASSICS += ["resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"]
CLASSICS += [f"vgg{n}{bn}" for n in (11, 13, 16, 19) for bn in ("", "_bn")]

_RULES = [
    (r"^backbone\.layers\.(\d+)\.", r"features.\1."),
    (r"^bottleneck\.layers\.0\.linear\.", "classifier.0."),
    (r"^bottleneck\.layers\.1\.linear\.", "classifier.3."),
    (r"^backbone\.", ""),
]


def their_name(ours: str, family: str) -> str:
    for pattern, theirs in _RULES:
        ours = re.sub(pattern, theirs, ours)
    return re.sub(r"^head\.fc\.", "classifier.6." if family == "vgg" else "fc.", ours)


def family(name: str) -> str:
    return "vgg" if name.startswith("vgg") else "resnet"


@pytest.mark.parametrize("name", CLASSICS)
def test_parameters_are_torchvisions_key_for_key(name: str) -> None:
    with torch.device("meta"):
        ours, theirs = compose(named(name)), torchvision.models.get_model(name)
    shapes = {their_name(n, family(name)): t.shape for n, t in ours.state_dict().items()}
    assert list(shapes) == list(theirs.state_dict())
    assert shapes == {n: t.shape for n, t in theirs.state_dict().items()}


@pytest.fixture(params=["resnet18", "resnet50", "vgg11_bn", "vgg16"])
def pair(request: pytest.FixtureRequest, randomise) -> tuple[zoo.Model, torch.nn.Module]:
    name = request.param
    ours = zoo.build(name)
    theirs = randomise(torchvision.models.get_model(name))
    state = theirs.state_dict()
    ours.load_state_dict({n: state[their_name(n, family(name))] for n in ours.state_dict()})
    return ours, theirs


def test_outputs_are_torchvisions_bit_for_bit(pair) -> None:
    ours, theirs = (model.eval() for model in pair)
    for size in ((224, 224), (96, 128)):
        x = torch.randn(2, 3, *size)
        with torch.inference_mode():
            difference = (ours(x) - theirs(x)).abs().max().item()
            assert theirs(x).std() > 1e-3  # a network that answers the same to everything would prove nothing
        assert difference == 0.0


def test_gradients_and_statistics_of_a_training_step_are_torchvisions(pair) -> None:
    ours, theirs = (model.train() for model in pair)
    x = torch.randn(2, 3, 64, 64)
    for model in (ours, theirs):
        torch.manual_seed(1)  # dropout
        model(x).square().mean().backward()
    name = "resnet" if hasattr(theirs, "layer1") else "vgg"
    grads = {their_name(n, name): p.grad for n, p in ours.named_parameters()}
    for n, p in theirs.named_parameters():
        torch.testing.assert_close(grads[n], p.grad, rtol=0, atol=0)
    assert (
        compare({their_name(n, name): b for n, b in ours.named_buffers()}, dict(theirs.named_buffers())).differing == ()
    )


def test_published_parameter_counts() -> None:
    counts = {
        "lenet": 61_706,
        "resnet18": 11_689_512,
        "resnet20": 269_722,  # the paper has 0.27 and 0.85 million, table 6
        "resnet50": 25_557_032,
        "resnet56": 853_018,
        "resnet18_1d": 3_849_034,
        "vgg11_bn": 132_868_840,
        "vgg16": 138_357_544,
    }
    for name, count in counts.items():
        assert sum(p.numel() for p in compose(named(name), "meta").parameters()) == count
