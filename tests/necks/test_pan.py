"""pan: torchvision's pyramid, and the paper's way back up it."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn
from torchvision.ops import FeaturePyramidNetwork

from zoo.errors import ShapeError
from zoo.features import Feature
from zoo.necks.pan import PathAggregation

GIVEN = (Feature("a", 4, 4, (16, 20)), Feature("b", 6, 8, (8, 10)), Feature("c", 8, 16, (4, 5)))


def test_it_is_torchvisions_pyramid_and_the_papers_way_up() -> None:
    neck = PathAggregation(GIVEN, channels=8)
    reference = FeaturePyramidNetwork([4, 6, 8], 8)
    reference.load_state_dict(dict(zip(reference.state_dict(), neck.pyramid.state_dict().values(), strict=True)))
    maps = tuple(torch.randn(2, f.channels, *f.size) for f in GIVEN)
    p = list(reference(OrderedDict(zip("abc", maps, strict=True))).values())
    n = [p[0]]
    for level in (1, 2):
        down, output = neck.downs[level - 1].conv, neck.outputs[level - 1].conv
        strided = nn.functional.conv2d(n[-1], down.weight, down.bias, stride=2, padding=1).relu()
        n.append(nn.functional.conv2d(p[level] + strided, output.weight, output.bias, padding=1).relu())
    found = neck(maps)
    assert len(found) == 3
    for ours, theirs in zip(found, n, strict=True):
        assert torch.equal(ours, theirs)
    assert [(f.name, f.channels, f.stride, f.size) for f in neck.features] == [
        ("a", 8, 4, (16, 20)), ("b", 8, 8, (8, 10)), ("c", 8, 16, (4, 5)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "given",
    [
        (Feature("a", 4, 4, (25,)), Feature("b", 4, 8, (12,))),  # rounded down, where a padded stride rounds up
        (Feature("a", 4, (1, 4, 4), (3, 8, 8)), Feature("b", 4, (2, 4, 8), (2, 8, 4))),
        (Feature("a", 4, 4, (17, 16)), Feature("b", 4, 16, (5, 4))),  # a level in between was left out
        (Feature("a", 4, 4, (16, 16)), Feature("b", 4, 4, (16, 16))),  # dilated
        (Feature("a", 4, 4, (16, 16)),),
    ],
)
def test_strides_and_sizes_of_every_axis_are_kept(given: tuple[Feature, ...]) -> None:
    neck = PathAggregation(given, channels=3, norm="layer")
    found = neck(tuple(torch.randn(2, 4, *f.size) for f in given))
    assert [tuple(m.shape[2:]) for m in found] == [f.size for f in given]
    assert [(f.stride, f.size) for f in neck.features] == [(f.stride, f.size) for f in given]


@pytest.mark.parametrize("strides", [(8, 4), (4, 6)])
def test_maps_that_are_not_from_fine_to_coarse_are_refused(strides: tuple[int, int]) -> None:
    with pytest.raises(ShapeError) as raised:
        PathAggregation((Feature("a", 4, strides[0]), Feature("b", 4, strides[1])))
    assert str(raised.value) == (
        f"found the map 'b' of stride {strides[1]} after 'a' of stride {strides[0]}; expected maps from fine to "
        "coarse, the stride of each a multiple of the one before"
    )
