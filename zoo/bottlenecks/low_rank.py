"""LowRank: a linear map written as the product of two thin ones."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import nn

from zoo.errors import ShapeError
from zoo.features import Feature, last_vector
from zoo.layers.activation import ActivationName, activation_maker
from zoo.layers.init import Init, InitName
from zoo.layers.linear import LinearBlock, linear
from zoo.layers.norm import Norm, NormName, norm_maker
from zoo.layers.parameters import Probability


class LowRank(nn.Module):
    """A linear map of small rank, ``W = U·V``, then norm, activation and dropout.

    Source: Sainath, Kingsbury, Sindhwani, Arisoy, Ramabhadran, "Low-Rank Matrix Factorization for Deep Neural Network
    Training with High-Dimensional Output Targets", ICASSP 2013, section 2. From ``C`` to ``out_features`` it has
    ``rank · (C + out_features)`` weights in place of ``C · out_features``.

    Args:
        in_features: what the stage before gives; the last one is used and has to be a vector.
        out_features: width of the result.
        rank: width between the two, at most that of the narrower side.
        norm: normalisation after the second map.
        activation: activation after the normalisation; there is none between the two maps.
        dropout: share of outputs zeroed in training.
        bias: whether the second map adds one.
        init: how both start.

    Shape:
        vector ``(N, C)`` → one vector ``(N, out_features)``.

    Raises:
        ShapeError: what comes in is a map, or the rank is larger than a linear map of this shape can have.

    >>> bottleneck = LowRank((Feature("pooled", channels=1024, size=()),), out_features=256, rank=16)
    >>> [tuple(v.shape) for v in bottleneck((torch.zeros(2, 1024),))]
    [(2, 256)]
    """

    def __init__(
        self,
        in_features: tuple[Feature, ...],
        out_features: PositiveInt = 256,
        rank: PositiveInt = 32,
        norm: NormName | Norm = "none",
        activation: ActivationName = "relu",
        dropout: Probability = 0.0,
        bias: bool = True,
        init: InitName | Init = "default",
    ) -> None:
        super().__init__()
        width = last_vector(in_features).channels
        most = min(width, out_features)
        if rank > most:
            raise ShapeError(
                f"rank={rank} for a map from {width} to {out_features}",
                f"at most {most}, which is full rank; the bottleneck 'linear' has that with fewer weights",
            )
        self.reduce = linear(width, rank, bias=False, init=init)
        self.expand = LinearBlock(
            rank,
            out_features,
            norm=norm_maker(norm, dims=0),
            activation=activation_maker(activation),
            dropout=dropout,
            bias=bias,
            init=init,
        )
        self.features = (Feature("low_rank", out_features, size=()),)

    def forward(self, vectors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (self.expand(self.reduce(vectors[-1])),)
