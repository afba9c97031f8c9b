"""low_rank: one matrix, written as two."""

from __future__ import annotations

import pytest
import torch

from zoo.bottlenecks.low_rank import LowRank
from zoo.errors import ShapeError
from zoo.features import Feature

GIVEN = (Feature("pooled", 12, size=()),)


def test_it_is_a_linear_map_of_that_rank_and_an_activation() -> None:
    bottleneck = LowRank(GIVEN, out_features=10, rank=3).double()
    x = torch.randn(5, 12, dtype=torch.float64)
    product = bottleneck.expand.linear.weight @ bottleneck.reduce.weight
    expected = (x @ product.T + bottleneck.expand.linear.bias).relu()
    torch.testing.assert_close(bottleneck((x,))[0], expected)
    assert torch.linalg.matrix_rank(product) == 3
    assert bottleneck.features == (Feature("low_rank", 10, size=()),)


def test_it_has_the_weights_of_two_thin_maps() -> None:
    bottleneck = LowRank(GIVEN, out_features=10, rank=3, bias=False)
    assert sum(p.numel() for p in bottleneck.parameters()) == 3 * (12 + 10)


def test_more_than_full_rank_is_refused() -> None:
    LowRank(GIVEN, out_features=10, rank=10)
    with pytest.raises(ShapeError, match="found rank=11 for a map from 12 to 10; expected at most 10, which is full"):
        LowRank(GIVEN, out_features=10, rank=11)
