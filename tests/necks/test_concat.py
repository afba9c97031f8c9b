"""concat: every map at the size of the first, side by side."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.errors import ShapeError
from zoo.features import Feature
from zoo.necks.concat import Concat

SIZES = {1: [(9,), (4,)], 2: [(9, 8), (5, 4)], 3: [(3, 9, 8), (3, 5, 4)]}
MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def given(dims: int) -> tuple[Feature, ...]:
    first, second = SIZES[dims]
    return (Feature("a", 3, 4, first), Feature("b", 5, 8, second))


@pytest.mark.parametrize("dims", SIZES)
def test_maps_are_interpolated_to_the_first(dims: int) -> None:
    a, b = (torch.randn(2, f.channels, *f.size) for f in given(dims))
    for mode, options in (("linear", {"mode": MODES[dims], "align_corners": False}), ("nearest", {"mode": "nearest"})):
        neck = Concat(given(dims), mode=mode)
        expected = torch.cat([a, nn.functional.interpolate(b, size=a.shape[2:], **options)], 1)
        assert torch.equal(neck((a, b))[0], expected)
        assert neck.features == (Feature("a", 8, 4, SIZES[dims][0]),)
        assert not list(neck.parameters())


@pytest.mark.parametrize("dims", SIZES)
def test_the_reduction_is_a_1x1_convolution_with_norm_and_activation(dims: int) -> None:
    neck = Concat(given(dims), channels=2, norm="none", activation="identity")
    maps = tuple(torch.randn(2, f.channels, *f.size) for f in given(dims))
    (wide,), (narrow,) = Concat(given(dims))(maps), neck(maps)
    weight, bias = neck.reduce.conv.weight.flatten(1), neck.reduce.conv.bias
    expected = torch.einsum("nc...,oc->no...", wide, weight) + bias.view(-1, *[1] * dims)
    torch.testing.assert_close(narrow, expected)
    assert neck.features[0].channels == 2
    assert Concat(given(dims), channels=2).reduce.conv.bias is None


def test_maps_of_several_dimensions_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"found the map 'b' \(5×4\); expected maps with height and width"):
        Concat((Feature("a", 3, size=(9, 8)), Feature("b", 5, size=(4,))))
