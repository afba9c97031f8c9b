"""Multiply-adds: half of the operations that torch's own counter finds, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import zoo
from zoo.anatomy.tracing import named_tensors
from zoo.builder import compose
from zoo.spec import merge, named


def counted(spec: dict, shape: tuple[int, ...]) -> tuple[int, int]:
    """The multiply-adds of a forward pass, and of a step of training, as torch counts them."""
    model = compose(spec, "meta")
    x = torch.empty(shape, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as forward:
        model.eval()(x)
    with FlopCounterMode(display=False) as step:
        sum(t.sum() for _, t in named_tensors(model.train()(x)) if t.requires_grad).backward()
    return forward.get_total_flops() // 2, step.get_total_flops() // 2


SMALL = {
    "resnet18": 64, "resnet50": 64, "vgg11": 64, "vgg16_bn": 64, "lenet": 32, "mlp": 28, "resnet-lite": 32,
    "vgg-lite": 32, "tiny-seg": 32, "tiny-det": 64, "deeplabv3_resnet50": 64, "retinanet_resnet50_fpn": 64,
}  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_of_named_models(name: str) -> None:
    compare(merge(named(name), {"input": {"size": [SMALL[name]] * 2}}))


VGG = {"type": "vgg_lite", "dims": 3, "layers": [1, 1], "channels": [4, 8]}
GROUPED = {"grouped and squeezed", "inverted"}
# Where torch's counter takes the gradients of grouped convolutions for those of full ones.
PARTS = {
    "dilated": {"backbone": {"type": "resnet_lite", "layers": [1, 1, 1, 1], "width": 8, "output_stride": 8}},
    "signals": {"input": {"channels": 2, "size": [64]}, "backbone": {"type": "resnet_lite", "width": 8, "dims": 1}},
    "volumes": {"input": {"channels": 2, "size": [8, 32, 32]}, "backbone": VGG},
    "grouped and squeezed": {"backbone": "torchvision:regnet_y_400mf"},
    "inverted": {"backbone": "timm:mobilenetv3_small_050"},
    "attention": {"backbone": {"type": "timm:test_vit"}, "input": {"size": [160, 160]}},
    "windows": {"backbone": "torchvision:swin_t"},
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_of_parts(name: str) -> None:
    compare(merge({"input": {"channels": 3, "size": [64, 64]}}, PARTS[name]), backward=name not in GROUPED)


def compare(spec: dict, *, backward: bool = True) -> None:
    found = zoo.plan(spec, batch=2)
    forward, step = counted(spec, found.input)
    assert forward > 0
    assert found.inference.multiply_adds == forward
    assert found.training.multiply_adds == step or not backward
    assert found.tree.multiply_adds == forward


def test_of_transposed_convolutions() -> None:
    from zoo.anatomy.tracing import run

    network = torch.nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, groups=2, device="meta")
    x = torch.empty(2, 4, 7, 9, device="meta")
    with FlopCounterMode(display=False) as counter:
        network(x)
    assert run(network, x, training=False).multiply_adds == counter.get_total_flops() // 2


def test_gradients_of_grouped_convolutions_cost_what_they_do() -> None:
    from zoo.anatomy.tracing import run

    network = torch.nn.Sequential(
        torch.nn.Conv2d(4, 8, 3, groups=4, device="meta"), torch.nn.Conv2d(8, 8, 3, groups=8, device="meta")
    )
    found = run(network, torch.empty(1, 4, 9, 9, device="meta"), training=True)
    first, second = 8 * 9 * 7 * 7, 8 * 9 * 5 * 5
    assert found.multiply_adds == first + second
    assert found.backward == first + 2 * second  # the input has no gradient


def test_what_is_frozen_has_no_gradients_to_count() -> None:
    model = zoo.build("lenet")
    full, frozen = zoo.plan(model), zoo.plan(model.freeze("backbone", "neck", "bottleneck"))
    assert frozen.trainable == 850
    assert frozen.training.multiply_adds == full.inference.multiply_adds + 840
    assert frozen.training.kept_bytes < full.training.kept_bytes
    assert frozen.training.gradient_bytes == 3400
