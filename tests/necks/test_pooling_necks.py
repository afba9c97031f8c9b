"""Pooling necks: the operators of torch in one to three dimensions, and what they say of their results."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.errors import ShapeError
from zoo.features import Feature
from zoo.heads.anchor_point import AnchorPointHead
from zoo.layers.pool import pooled_by_index
from zoo.necks.flatten import Flatten
from zoo.necks.fpn import FeaturePyramid
from zoo.necks.identity import Identity
from zoo.necks.pool import AdaptivePool, GlobalAveragePool, GlobalMaxPool

SIZES = {1: (11,), 2: (5, 8), 3: (3, 5, 4)}
STRIDES = {1: 4, 2: 8, 3: (1, 2, 2)}
AVERAGES = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
MAXIMA = {1: nn.AdaptiveMaxPool1d, 2: nn.AdaptiveMaxPool2d, 3: nn.AdaptiveMaxPool3d}


def feature(dims: int, *, sized: bool = True) -> Feature:
    return Feature("last", 6, STRIDES[dims], SIZES[dims] if sized else None, dims)


def maps(dims: int) -> torch.Tensor:
    return torch.randn(2, 6, *SIZES[dims], generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dims", SIZES)
@pytest.mark.parametrize(("neck", "reference"), [(GlobalAveragePool, AVERAGES), (GlobalMaxPool, MAXIMA)])
def test_global_pools_are_adaptive_pools_to_one(neck, reference, dims: int) -> None:
    x = maps(dims)
    (found,) = neck((feature(dims),))((x,))
    assert torch.equal(found, reference[dims](1)(x).flatten(1))


@pytest.mark.parametrize("dims", SIZES)
@pytest.mark.parametrize(("pool", "reference"), [("avg", AVERAGES), ("max", MAXIMA)])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_adaptive_pool_is_torchs(pool: str, reference, size: int, dims: int) -> None:
    x = maps(dims)
    neck = AdaptivePool((feature(dims),), size=size, pool=pool)
    (found,) = neck((x,))
    assert torch.equal(found, reference[dims](size)(x))
    assert neck.features[0].size == (size,) * dims == tuple(found.shape[2:])


@pytest.mark.parametrize("dims", SIZES)
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_what_is_exported_instead_gives_the_same(size: int, dims: int) -> None:
    x, out = maps(dims), (size,) * dims
    assert torch.equal(pooled_by_index(x, out, "max"), MAXIMA[dims](out)(x))
    torch.testing.assert_close(pooled_by_index(x, out, "avg"), AVERAGES[dims](out)(x))


def test_infinities_and_nan_stay_in_their_windows_in_what_is_exported() -> None:
    x = torch.zeros(1, 1, 7)
    x[..., 1], x[..., 6] = float("inf"), float("nan")
    for pool, reference in (("avg", AVERAGES), ("max", MAXIMA)):
        found = pooled_by_index(x, (3,), pool)
        torch.testing.assert_close(found, reference[1](3)(x), equal_nan=True, rtol=0, atol=0)


def test_adaptive_pool_takes_a_size_for_each_axis() -> None:
    x = maps(3)
    neck = AdaptivePool((feature(3),), size=(1, 3, 2), flatten=True)
    assert torch.equal(neck((x,))[0], AVERAGES[3]((1, 3, 2))(x).flatten(1))
    assert neck.features == (Feature("last", 36, None, size=()),)
    with pytest.raises(
        ShapeError, match=r"found size=\[1, 3\] for the map 'last' \(6×11\); expected one number for each"
    ):
        AdaptivePool((feature(1),), size=(1, 3))


def test_a_map_of_a_fixed_size_has_no_stride() -> None:
    neck = AdaptivePool((feature(2),), size=3)
    (pooled,) = neck.features
    assert (pooled.stride, pooled.strides, pooled.size) == (None, (), (3, 3))
    assert FeaturePyramid(neck.features, channels=4, extra="pool").features[-1].stride is None
    with pytest.raises(ShapeError) as caught:
        AnchorPointHead(neck.features, num_classes=2)
    assert str(caught.value) == (
        f"found the map 'last' of a fixed size ({pooled.channels}×3×3), which has no stride; "
        "expected maps that grow with the input, as those of a backbone or of the neck 'fpn' do"
    )


@pytest.mark.parametrize("dims", SIZES)
def test_identity_and_flatten_pass_stride_and_axes_on(dims: int) -> None:
    given = (feature(dims, sized=False), feature(dims))
    assert Identity(given).features == given
    (flat,) = Flatten(given).features
    assert (flat.channels, flat.stride, flat.strides) == (feature(dims).numel, STRIDES[dims], ())
    x = maps(dims)
    assert torch.equal(Flatten(given)((x, x))[0], x.flatten(1))


@pytest.mark.parametrize("neck", [GlobalAveragePool, GlobalMaxPool, AdaptivePool])
def test_a_vector_is_refused(neck) -> None:
    with pytest.raises(ShapeError, match=r"found the vector 'fc' \(8\); expected maps with a spatial size"):
        neck((Feature("fc", 8, size=()),))
