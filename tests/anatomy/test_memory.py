"""Activation memory: what autograd really keeps on the CPU, and what is alive at one time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import zoo
from zoo.anatomy.tracing import run


def kept(model: nn.Module, x: torch.Tensor) -> int:
    """How many bytes autograd keeps in a real forward pass, each storage once, weights not."""
    weights = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    held: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            held[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = model.train()(x)
    del result
    return sum(storage.nbytes() for storage in held.values())


@pytest.mark.parametrize("batch", [2, 3])
@pytest.mark.parametrize("name", ["lenet", "mlp", "resnet-lite", "vgg-lite", "tiny-seg", "tiny-det"])
def test_what_is_kept_for_training_is_what_autograd_keeps(name: str, batch: int) -> None:
    model = zoo.build(name)
    found = zoo.plan(name, batch=batch, size=None if model.spec["input"]["size"] else (64, 48))
    assert found.training.kept_bytes == kept(model, torch.randn(found.input))


SMALL = {"type": "resnet_lite", "layers": [1, 1], "width": 8}
DROPPED = {"type": "mlp", "hidden": [8], "dropout": 0.5}
SPECS = {
    "layer norm": {"backbone": {**SMALL, "norm": "layer", "activation": "gelu"}},
    "group norm": {"backbone": {**SMALL, "norm": {"type": "group", "groups": 4}}},
    "signals": {"input": {"size": [50]}, "backbone": {**SMALL, "dims": 1}},
    "dropout": {"backbone": "mlp", "bottleneck": DROPPED, "head": {"type": "linear", "num_classes": 3}},
    "squeezed": {"backbone": "timm:mobilenetv3_small_050"},
    "dense": {"backbone": {"type": "timm:densenet121", "out_indices": [1]}},
    "convnext": {"backbone": {"type": "timm:test_convnext"}},
}


@pytest.mark.parametrize("name", SPECS)
def test_what_is_kept_of_other_parts(name: str) -> None:
    spec = {**SPECS[name], "input": {"channels": 3, "size": [64, 48], **SPECS[name].get("input", {})}}
    found = zoo.plan(spec, batch=2)
    assert found.training.kept_bytes == kept(zoo.build(spec), torch.randn(found.input))


def test_it_is_told_of_who_made_it() -> None:
    found = zoo.plan("resnet18")
    assert found.node("backbone.conv1").kept_bytes == 64 * 112 * 112 * 4
    assert found.node("backbone.bn1").kept_bytes == 64 * 112 * 112 * 4 + 2 * 64 * 4  # and its statistics
    assert found.node("backbone.maxpool").kept_bytes == 64 * 56 * 56 * (4 + 8)  # and where the maxima were
    assert found.tree.kept_bytes + 3 * 224 * 224 * 4 == found.training.kept_bytes


def test_what_is_alive_at_one_time() -> None:
    conv = nn.Conv2d(1, 4, 1, device="meta")
    x = torch.empty(1, 1, 10, 10, device="meta")
    one = 10 * 10 * 4
    assert run(conv, x, training=False).peak == one + 4 * one
    chain = nn.Sequential(conv, nn.ReLU(), nn.ReLU())
    assert run(chain, x, training=False).peak == one + 4 * one + 4 * one
    in_place = nn.Sequential(conv, nn.ReLU(inplace=True), nn.ReLU(inplace=True))
    assert run(in_place, x, training=False).peak == one + 4 * one


def test_other_dtypes_take_other_bytes() -> None:
    full, half = zoo.plan("resnet-lite"), zoo.plan("resnet-lite", dtype="bfloat16")
    assert half.inference.peak_bytes * 2 == full.inference.peak_bytes
    assert half.training.gradient_bytes * 2 == full.training.gradient_bytes
    assert half.inference.multiply_adds == full.inference.multiply_adds
    assert half.dtype == "bfloat16"
