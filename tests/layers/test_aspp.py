"""ASPP: torchvision's, to the last bit, and the same idea along one axis and along three."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models.segmentation.deeplabv3 import ASPP as Reference

from zoo.errors import ShapeError
from zoo.features import Feature
from zoo.layers.aspp import ASPP
from zoo.necks.aspp import AtrousPyramid
from zoo.testing.tensors import randomise


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("rates", [(12, 24, 36), (2, 3)])
def test_it_is_torchvisions(rates: tuple[int, ...], training: bool) -> None:
    ours, theirs = ASPP(16, 8, rates), Reference(16, rates, 8)
    randomise(theirs)
    ours.load_state_dict(theirs.state_dict())  # strictly: the names are the same
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x = torch.randn(3, 16, 13, 17)
    outputs = []
    for module in (ours, theirs):
        torch.manual_seed(0)  # for the dropout
        outputs.append(module.train(training)(x))
    assert torch.equal(*outputs)
    assert torch.equal(ours.project[1].running_var, theirs.project[1].running_var)


@pytest.mark.parametrize("size", [(9,), (4, 5, 6)])
def test_one_axis_and_three_compute_what_two_do_where_the_others_have_one_position(size: tuple[int, ...]) -> None:
    flat = ASPP(4, 3, (1, 2), norm="none").eval()
    deep = ASPP(4, 3, (1, 2), norm="none", dims=len(size)).eval()
    for given, taken in zip(flat.parameters(), deep.parameters(), strict=True):
        with torch.no_grad():  # the kernel's middle, along the axis in question
            taken.zero_()
            where = (slice(None),) * 2 + tuple(n // 2 for n in taken.shape[2:-1])
            taken[where if taken.dim() > 1 else ...] = given[:, :, given.shape[2] // 2] if given.dim() > 1 else given
    line = torch.randn(2, 4, size[-1])
    x = line.view(2, 4, *[1] * (len(size) - 1), size[-1]).expand(2, 4, *size)
    found = deep(x)
    expected = flat(line.unsqueeze(2)).squeeze(2).view(2, 3, *[1] * (len(size) - 1), size[-1]).expand(found.shape)
    torch.testing.assert_close(found, expected)


def test_the_neck_takes_the_last_map_and_passes_its_stride_on() -> None:
    given = (Feature("a", 2, 4, (16, 16)), Feature("b", 5, (1, 8, 8), (4, 8, 8)))
    neck = AtrousPyramid(given, channels=3, rates=(1, 2), norm="layer").eval()
    assert neck.features == (Feature("b", 3, (1, 8, 8), (4, 8, 8)),)
    assert isinstance(neck.aspp.project[-1], nn.Dropout)
    x = torch.randn(1, 5, 4, 8, 8)
    assert torch.equal(neck((x[:, :2, 0], x))[0], neck.aspp(x))


def test_an_instance_norm_is_refused() -> None:
    with pytest.raises(ShapeError, match="found an instance norm of the pooled map, which has one position alone"):
        AtrousPyramid((Feature("a", 2),), norm="instance")
