"""Normalisation: each kind normalises over what it says."""

from __future__ import annotations

import pytest
import torch

from zoo.errors import ShapeError
from zoo.layers.norm import Norm, norm_maker


@pytest.mark.parametrize(
    ("norm", "axes"), [("batch", (0, 2, 3)), ("layer", (1,)), (Norm(type="group", groups=1), (1, 2, 3))]
)
def test_a_map_is_normalised_over_the_axes_of_its_kind(norm, axes: tuple[int, ...]) -> None:
    y = norm_maker(norm, dims=2)(8)(torch.randn(4, 8, 5, 6) * 3 + 2)
    torch.testing.assert_close(y.mean(axes), torch.zeros_like(y.mean(axes)), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var(axes, correction=0), torch.ones_like(y.mean(axes)), atol=1e-3, rtol=0)


@pytest.mark.parametrize("norm", ["batch", "layer", Norm(type="group", groups=2), "none"])
def test_vectors_keep_their_shape(norm) -> None:
    assert norm_maker(norm, dims=0)(8)(torch.randn(4, 8)).shape == (4, 8)


def test_groups_that_do_not_divide_are_an_error_with_those_that_do() -> None:
    with pytest.raises(
        ShapeError, match=r"found 12 channels for a group norm of 8 groups; .* divides 12 \(6, 4, 3, 2, 1\)"
    ):
        norm_maker(Norm(type="group", groups=8), dims=2)(12)


def test_the_numbers_arrive() -> None:
    layer = norm_maker(Norm(type="batch", eps=0.5, momentum=0.9), dims=2)(3)
    assert (layer.eps, layer.momentum) == (0.5, 0.9)


def test_a_group_norm_takes_one_number_a_group_and_is_torchs_otherwise() -> None:
    norm = norm_maker(Norm("group", groups=4), dims=2)(4)
    assert norm(torch.randn(1, 4, 1, 1)).abs().max() < 1e-3  # of values about 1, times 1 over the root of eps
    x = torch.randn(2, 4, 5, 5)
    assert torch.equal(norm(x), torch.nn.GroupNorm(4, 4)(x))
