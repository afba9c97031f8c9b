"""conv1x1: a linear map at every position, in one to three dimensions."""

from __future__ import annotations

import pytest
import torch

from zoo.bottlenecks.conv1x1 import Conv1x1
from zoo.features import Feature


@pytest.mark.parametrize("size", [(9,), (4, 5), (2, 4, 5)])
def test_it_is_a_linear_map_at_every_position(size: tuple[int, ...]) -> None:
    given = (Feature("a", 3, 4, size), Feature("b", 5, (8,) * len(size), None, len(size)))
    bottleneck = Conv1x1(given, out_channels=2, norm="none")
    maps = (torch.randn(2, 3, *size), torch.randn(2, 5, *size))
    for layer, x, found in zip(bottleneck.layers, maps, bottleneck(maps), strict=True):
        expected = torch.einsum("nc...,oc->no...", x, layer.conv.weight.flatten(1))
        torch.testing.assert_close(found, (expected + layer.conv.bias.view(-1, *[1] * len(size))).relu())
    assert bottleneck.features == (Feature("a", 2, 4, size), Feature("b", 2, 8, None, len(size)))


@pytest.mark.parametrize("norm", ["batch", "frozen_batch", "layer", "instance"])
def test_norms_are_those_of_the_maps(norm: str) -> None:
    given = (Feature("a", 3, size=(9,)), Feature("b", 3, size=(4, 5)), Feature("c", 3, size=(2, 4, 5)))
    bottleneck = Conv1x1(given, out_channels=4, norm=norm)
    found = bottleneck(tuple(torch.randn(2, 3, *f.size) for f in given))
    assert [tuple(m.shape) for m in found] == [(2, 4, *f.size) for f in given]
