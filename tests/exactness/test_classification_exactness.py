"""Classifiers compute what torchvision's do: of images and of video, in evaluation and in a step of training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torchvision
from exactness import ROWS, Row, classification, difference, pair

from zoo import kinds
from zoo.weights.parity import compare

CLASSIFIERS = {row.name: row for row in ROWS if row.outputs is classification}
SMALL = {"resnet34": (2, 3, 64, 96), "resnext50_32x4d": (2, 3, 64, 96), "r3d_18": (2, 3, 5, 48, 56)}
SLOW = [pytest.param(row, id=name, marks=pytest.mark.slow) for name, row in CLASSIFIERS.items()]
QUICK = [pytest.param(replace(CLASSIFIERS[name], shape=shape), id=f"{name}-small") for name, shape in SMALL.items()]


def test_the_table_has_every_model_that_torchvision_has_too() -> None:
    shared = set(kinds.models.names()) & set(torchvision.models.list_models())
    assert {row.name for row in ROWS if not row.theirs} == shared
    assert {row.theirs for row in ROWS if row.theirs} <= shared


@pytest.mark.parametrize("row", [*QUICK, *SLOW])
def test_they_compute_the_same(row: Row) -> None:
    for _, found, expected in row.outputs(*pair(row), torch.randn(row.shape)):
        assert expected.std() > 1e-3  # a network that answers the same to everything would prove nothing
        assert difference(found, expected) == 0.0


@pytest.mark.parametrize("row", QUICK[1:])
def test_gradients_and_statistics_of_a_training_step_are_the_same(row: Row) -> None:
    ours, theirs = (model.train() for model in pair(row))
    x = torch.randn(row.shape)
    for model in (ours, theirs):
        model.zero_grad()
        model(x).square().mean().backward()
    keymap = kinds.keymaps.get("torchvision")
    assert compare(keymap.to_theirs(ours), theirs.state_dict()).holds
    gradients = {**ours.state_dict(), **{name: p.grad for name, p in ours.named_parameters()}}
    found = keymap.to_theirs(gradients, row.name)
    for name, parameter in theirs.named_parameters():
        assert torch.equal(found[name], parameter.grad)


def test_a_difference_is_found() -> None:
    row = CLASSIFIERS["resnet18"]
    ours, theirs = pair(row)
    with torch.no_grad():
        theirs.layer3[0].conv1.weight *= 1.001
    ((_, found, expected),) = row.outputs(ours, theirs, torch.randn(1, 3, 64, 64))
    assert 0 < difference(found, expected) < 1
    assert difference(found[:, :1], expected) == float("inf")
