"""The feature pyramid against torchvision's, and in one to three dimensions."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

import zoo
from zoo.errors import ShapeError
from zoo.features import Feature
from zoo.necks.fpn import FeaturePyramid

WIDTHS = (6, 8, 12)
SIZES = ((25, 37), (13, 19), (7, 10))  # each half of the one before, rounded up


def features(dims: int = 2) -> tuple[Feature, ...]:
    return tuple(
        Feature(f"stage{i}", width, 2**i, (*size, 3)[:dims])
        for i, (width, size) in enumerate(zip(WIDTHS, SIZES, strict=True), start=1)
    )


@pytest.mark.parametrize(
    ("parameters", "extra"),
    [
        ({}, None),
        ({"extra": "pool"}, LastLevelMaxPool),
        ({"extra": "p6p7", "extra_from": "p5"}, lambda: LastLevelP6P7(10, 10)),
        ({"extra": "p6p7", "extra_from": "c5"}, lambda: LastLevelP6P7(12, 10)),
        ({"norm": "batch"}, None),
    ],
)
def test_it_computes_what_torchvisions_does(parameters, extra, randomise) -> None:
    norm = nn.BatchNorm2d if "norm" in parameters else None
    theirs = FeaturePyramidNetwork(list(WIDTHS), 10, extra and extra(), norm).eval()
    ours = FeaturePyramid(features(), channels=10, **parameters).eval()
    randomise(theirs)
    values = list(theirs.state_dict().values())
    ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))
    maps = tuple(torch.randn(2, w, *s) for w, s in zip(WIDTHS, SIZES, strict=True))
    expected = theirs(OrderedDict((str(i), m) for i, m in enumerate(maps)))
    found = ours(maps)
    assert len(found) == len(expected) == len(ours.features)
    for feature, mine, own in zip(ours.features, found, expected.values(), strict=True):
        assert torch.equal(mine, own)
        assert tuple(mine.shape[1:]) == (feature.channels, *feature.size)


def test_it_starts_as_torchvisions_does() -> None:
    ours = FeaturePyramid(features(), channels=64, extra="p6p7")
    theirs = FeaturePyramidNetwork(list(WIDTHS), 64, LastLevelP6P7(64, 64))
    for mine, own in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert mine.shape == own.shape
        if mine.dim() == 1:
            assert not mine.any()
            assert not own.any()
        else:  # uniform numbers: their bound is the largest of some hundred
            assert mine.abs().max().item() == pytest.approx(own.abs().max().item(), rel=0.02)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_signals_images_and_volumes(dims: int) -> None:
    neck = FeaturePyramid(features(dims), channels=4, extra="p6p7")
    maps = tuple(torch.randn(1, f.channels, *f.size) for f in features(dims))
    for feature, found in zip(neck.features, neck(maps), strict=True):
        assert tuple(found.shape) == (1, 4, *feature.size)
    assert [f.stride for f in neck.features] == [2, 4, 8, 16, 32]


def test_strides_of_each_axis_are_doubled() -> None:
    neck = FeaturePyramid((Feature("stage1", 4, (1, 2, 2), dims=3),), channels=4, extra="pool")
    assert (neck.features[-1].stride, neck.features[-1].size, neck.features[-1].dims) == ((2, 4, 4), None, 3)


def test_a_vector_is_refused_with_the_place() -> None:
    with pytest.raises(ShapeError, match=r"spec.neck \(fpn\) after backbone mlp: found the vector 'hidden'.*maps"):
        zoo.build("mlp", neck="fpn")
