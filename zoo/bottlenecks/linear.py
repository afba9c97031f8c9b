"""Linear bottlenecks: vectors to a smaller width, in one step or in several."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import nn

from zoo.features import Feature, last_vector
from zoo.layers.activation import ActivationName, activation_maker
from zoo.layers.init import Init, InitName
from zoo.layers.linear import LinearBlock, linear_blocks
from zoo.layers.norm import Norm, NormName, norm_maker
from zoo.layers.parameters import Probability, Widths


class Linear(LinearBlock):
    """Linear → norm → activation → dropout: 1024 → 256, say.

    Args:
        in_features: what the stage before gives; the last one is used and has to be a vector.
        out_features: width of the result.
        norm: normalisation after the linear layer.
        activation: activation after the normalisation.
        dropout: share of outputs zeroed in training.
        bias: whether the linear layer adds one.
        init: how the linear layer starts.

    Shape:
        vector ``(N, C)`` → one vector ``(N, out_features)``.

    Raises:
        ShapeError: what comes in is a map.

    >>> bottleneck = Linear((Feature("pooled", channels=1024, size=()),), out_features=256)
    >>> [tuple(v.shape) for v in bottleneck((torch.zeros(2, 1024),))]
    [(2, 256)]
    """

    def __init__(
        self,
        in_features: tuple[Feature, ...],
        out_features: PositiveInt = 256,
        norm: NormName | Norm = "none",
        activation: ActivationName = "relu",
        dropout: Probability = 0.0,
        bias: bool = True,
        init: InitName | Init = "default",
    ) -> None:
        super().__init__(
            last_vector(in_features).channels,
            out_features,
            norm=norm_maker(norm, dims=0),
            activation=activation_maker(activation),
            dropout=dropout,
            bias=bias,
            init=init,
        )
        self.features = (Feature("linear", out_features, size=()),)

    def forward(self, vectors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:  # type: ignore[override]
        return (super().forward(vectors[-1]),)


class MLP(nn.Module):
    """Several linear layers, each with norm, activation and dropout: the fully connected part of LeNet and of VGG.

    Args:
        in_features: what the stage before gives; the last one is used and has to be a vector.
        hidden: width of each layer.
        norm: normalisation after each linear layer.
        activation: activation after each normalisation.
        dropout: share of outputs zeroed in training, after each layer.
        init: how the linear layers start.

    Shape:
        vector ``(N, C)`` → one vector ``(N, hidden[-1])``.

    Raises:
        ShapeError: what comes in is a map.

    >>> bottleneck = MLP((Feature("flat", channels=400, size=()),), hidden=(120, 84))
    >>> [tuple(v.shape) for v in bottleneck((torch.zeros(2, 400),))]
    [(2, 84)]
    """

    def __init__(
        self,
        in_features: tuple[Feature, ...],
        hidden: Widths = (256,),
        norm: NormName | Norm = "none",
        activation: ActivationName = "relu",
        dropout: Probability = 0.0,
        init: InitName | Init = "default",
    ) -> None:
        super().__init__()
        self.layers = linear_blocks(
            last_vector(in_features).channels, hidden, norm=norm, activation=activation, dropout=dropout, init=init
        )
        self.features = (Feature("hidden", hidden[-1], size=()),)

    def forward(self, vectors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (self.layers(vectors[-1]),)
