"""Benchmark rows of models: building them, running them, and a step of training, beside torchvision's own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any

import exactness
import timm
import torch
import torchvision
from bench_pairs import Row
from torch import nn

import zoo

SAME = 1 / 1.03
"""The least ratio for what is the same arithmetic."""

NAMES = ("resnet18", "resnet50", "vgg16", "fcn_resnet50", "retinanet_resnet50_fpn")


def rows(groups: Collection[str]) -> Iterator[Row]:
    """Return the rows of groups; what a row needs is made when it is reached."""
    if "build" in groups:
        for name in ("resnet18", "resnet50", "vgg16"):
            yield from building(name)
    for group, size, row in (("forward", (1, 3, 224, 224), running), ("train", (4, 3, 96, 96), training)):
        if group in groups:
            for name in NAMES:
                yield row(replace(next(each for each in exactness.ROWS if each.name == name), shape=size))


def building(name: str) -> Iterator[Row]:
    """Build a model with fresh weights."""
    ours = (f"zoo.build({name!r})", lambda: zoo.build(name))
    yield Row(f"build {name}", ours, ("torchvision", lambda: torchvision.models.get_model(name, weights=None)), 1.0)
    yield Row(f"build {name}", ours, ("timm", lambda: timm.create_model(name)))


def running(model: exactness.Row) -> Row:
    """Run a model on one image; a detector up to its raw predictions."""
    sides = _sides(model)
    image = torch.randn(model.shape)

    def run(side: nn.Module) -> Callable[[], object]:
        return torch.inference_mode()(lambda: side(image))

    ours, peer = (run(side.eval()) for side in sides)
    return Row(f"forward {_text(model)}", ("zoo", ours), ("torchvision", peer), SAME, rounds=31)


def training(model: exactness.Row) -> Row:
    """Take one step of training: forward, backward, and plain gradient descent."""
    images = torch.randn(model.shape)

    def step(side: nn.Module) -> Callable[[], object]:
        optimiser = torch.optim.SGD(side.parameters(), lr=1e-6)

        def run() -> None:
            optimiser.zero_grad()
            outputs = [each for each in torch.utils._pytree.tree_leaves(side(images)) if _is_trained(each)]
            torch.stack([each.square().mean() for each in outputs]).sum().backward()
            optimiser.step()

        return run

    ours, peer = (step(side.train()) for side in _sides(model))
    return Row(f"training step {_text(model)}", ("zoo", ours), ("torchvision", peer), SAME, rounds=15)


class _Predictions(nn.Module):
    """A detector of torchvision up to its raw predictions, which is where ours ends."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.head

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(list(self.backbone(x).values()))


def _sides(model: exactness.Row) -> tuple[nn.Module, nn.Module]:
    ours, theirs = exactness.pair(model)
    return ours, _Predictions(theirs) if model.outputs is exactness.detection else theirs


def _is_trained(output: object) -> bool:
    return isinstance(output, torch.Tensor) and output.requires_grad


def _text(model: exactness.Row) -> str:
    return f"{model.name} {'×'.join(map(str, model.shape))}"
