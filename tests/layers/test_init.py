"""Initialisers: what each one does to a layer, and that a layer is initialised once."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from zoo.layers.init import Init, initialised


def layer(init, kernel: int = 3) -> nn.Conv2d:
    return initialised(lambda device: nn.Conv2d(64, 128, kernel, device=device), init)


@pytest.mark.parametrize(
    ("init", "std"),
    [
        ("kaiming", math.sqrt(2 / (128 * 9))),
        ("xavier", math.sqrt(2 / (64 * 9 + 128 * 9))),
        ("lecun", math.sqrt(1 / (64 * 9))),
        ("normal", 0.02),
        (Init(weight="normal", std=0.3), 0.3),
        ("default", math.sqrt(1 / (3 * 64 * 9))),
    ],
)
def test_weights_have_the_spread_that_the_paper_says(init, std: float) -> None:
    assert layer(init).weight.std().item() == pytest.approx(std, rel=0.02)


def test_biases_are_zero_unless_left_to_torch() -> None:
    assert layer("kaiming").bias.abs().max() == 0
    assert layer(Init(weight="default", bias="zeros")).bias.abs().max() == 0
    assert layer("default").bias.abs().max() > 0
    assert layer(Init(weight="zeros", bias="default")).bias.abs().max() > 0
    assert layer("zeros").weight.abs().max() == 0


def test_the_default_is_what_torch_does() -> None:
    torch.manual_seed(5)
    ours = layer("default")
    torch.manual_seed(5)
    assert torch.equal(ours.weight, nn.Conv2d(64, 128, 3).weight)


def test_a_layer_lands_on_the_device_of_the_context() -> None:
    with torch.device("meta"):
        assert layer("kaiming").weight.is_meta
    assert layer("kaiming").weight.device.type == "cpu"
    assert layer("kaiming").weight.requires_grad
