"""gem: the generalised mean, in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.features import Feature
from zoo.necks.gem import GeneralisedMeanPool
from zoo.necks.pool import GlobalAveragePool, GlobalMaxPool

SIZES = {1: (11,), 2: (5, 8), 3: (3, 5, 4)}


@pytest.mark.parametrize("dims", SIZES)
def test_it_is_the_generalised_mean(dims: int) -> None:
    x = torch.rand(2, 4, *SIZES[dims]) + 0.1
    given = (Feature("last", 4, size=SIZES[dims]),)
    neck = GeneralisedMeanPool(given, exponent=3.0)
    expected = x.double().flatten(2).pow(3).mean(-1).pow(1 / 3)
    torch.testing.assert_close(neck((x,))[0].double(), expected, rtol=1e-6, atol=0)
    assert neck.features == (Feature("last", 4, size=()),)


def test_it_goes_from_the_average_to_the_maximum() -> None:
    given, x = (Feature("last", 4),), torch.rand(2, 4, 5, 8) + 0.1
    torch.testing.assert_close(
        GeneralisedMeanPool(given, exponent=1.0)((x,))[0], GlobalAveragePool(given)((x,))[0], rtol=1e-6, atol=0
    )
    maximum = GlobalMaxPool(given)((x.double(),))[0]
    found = GeneralisedMeanPool(given, exponent=100.0).double()((x.double(),))[0]
    # The mean of n numbers raised to p is between max/n^(1/p) and max.
    assert (found <= maximum).all()
    assert (found >= maximum / 40 ** (1 / 100)).all()


def test_the_exponent_learns_by_the_derivative_of_the_mean() -> None:
    neck = GeneralisedMeanPool((Feature("last", 1),)).double()
    x = torch.rand(1, 1, 3, 3, dtype=torch.float64) + 0.5
    neck((x,))[0].sum().backward()

    def at(p: float) -> float:
        return x.pow(p).mean().pow(1 / p).item()

    assert neck.exponent.grad.item() == pytest.approx((at(3 + 1e-6) - at(3 - 1e-6)) / 2e-6, rel=1e-7)
    assert [n for n, _ in neck.named_parameters()] == ["exponent"]


def test_a_fixed_exponent_is_kept_and_never_trained() -> None:
    neck = GeneralisedMeanPool((Feature("last", 1),), exponent=2.0, learned=False)
    assert not list(neck.parameters())
    assert neck.state_dict() == {"exponent": torch.tensor([2.0])}
    assert "fixed exponent" in repr(neck)


def test_what_is_not_above_eps_counts_as_eps() -> None:
    x = torch.tensor([[[[-3.0, 0.0]]]], requires_grad=True)
    (found,) = GeneralisedMeanPool((Feature("last", 1),), eps=0.25)((x,))
    assert found.item() == pytest.approx(0.25)
    found.sum().backward()
    assert torch.equal(x.grad, nn.functional.pad(torch.zeros(1, 1, 1, 1), (0, 1)))
