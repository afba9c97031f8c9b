"""A real model of another library, with random numbers, becomes ours and goes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import nn

import zoo
from zoo import kinds
from zoo.weights.parity import compare


@pytest.fixture
def difference(randomise) -> Callable[[str, str, nn.Module, Sequence[tuple[int, ...]]], float]:
    """Prove that tensors go there and back bit for bit; return the largest relative difference of the outputs."""

    def prove(keymap: str, name: str, theirs: nn.Module, sizes: Sequence[tuple[int, ...]]) -> float:
        randomise(theirs.eval())
        tables = kinds.keymaps.get(keymap)
        state = theirs.state_dict()
        ours = zoo.build(name).eval()
        ours.load_state_dict(tables.to_ours(state, name), assign=True)
        back = tables.to_theirs(ours)
        assert list(back) == list(state)
        assert compare(back, state).holds
        theirs.load_state_dict(back)
        found = 0.0
        for size in sizes:
            x = torch.randn(2, 3, *size)
            with torch.inference_mode():
                expected, output = theirs(x), ours(x)
            assert expected.std() > 1e-3  # a network that answers the same to everything would prove nothing
            assert output.isfinite().all()  # the larger of a number and NaN is the number
            found = max(found, ((output - expected).abs().max() / expected.abs().max()).item())
        return found

    return prove
