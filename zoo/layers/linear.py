"""LinearBlock: a linear layer, optionally normalised, activated and dropped out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import nn

from zoo.layers.activation import ActivationName, activation_maker
from zoo.layers.init import Init, InitName, initialised
from zoo.layers.norm import Norm, NormName, norm_maker


def linear(in_features: int, out_features: int, *, bias: bool = True, init: InitName | Init = "default") -> nn.Linear:
    """Make a linear layer, initialised once.

    Shape:
        ``(N, in_features)`` → ``(N, out_features)``.
    """
    return initialised(lambda device: nn.Linear(in_features, out_features, bias=bias, device=device), init)


class LinearBlock(nn.Module):
    """Linear → norm → activation → dropout.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        norm: makes the normalisation for a width.
        activation: makes the activation.
        dropout: share of outputs zeroed in training.
        bias: whether the linear layer adds one.
        init: how the linear layer starts.

    Shape:
        ``(N, in_features)`` → ``(N, out_features)``.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        norm: Callable[[int], nn.Module],
        activation: Callable[[], nn.Module],
        dropout: float = 0.0,
        bias: bool = True,
        init: InitName | Init = "default",
    ) -> None:
        super().__init__()
        self.linear = linear(in_features, out_features, bias=bias, init=init)
        self.norm = norm(out_features)
        self.activation = activation()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.activation(self.norm(self.linear(x)))
        return self.dropout(x)  # type: ignore[no-any-return]


def linear_blocks(
    in_features: int,
    hidden: Sequence[int],
    *,
    norm: NormName | Norm,
    activation: ActivationName,
    dropout: float,
    init: InitName | Init,
) -> nn.Sequential:
    """Stack linear blocks, one for each width in ``hidden``, each with the same norm, activation and dropout.

    Shape:
        ``(N, in_features)`` → ``(N, hidden[-1])``.
    """
    make_norm, make_activation = norm_maker(norm, dims=0), activation_maker(activation)
    return nn.Sequential(
        *(
            LinearBlock(before, after, norm=make_norm, activation=make_activation, dropout=dropout, init=init)
            for before, after in pairwise((in_features, *hidden))
        )
    )
