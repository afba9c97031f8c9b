"""MLPHead: hidden layers, then class logits."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import nn

from zoo.features import Feature, last_vector
from zoo.layers.activation import ActivationName
from zoo.layers.init import Init, InitName
from zoo.layers.linear import linear, linear_blocks
from zoo.layers.norm import Norm, NormName
from zoo.layers.parameters import Probability, Widths


class MLPHead(nn.Module):
    """Hidden layers, each with norm, activation and dropout, then one linear layer to class logits.

    Source: Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors", Nature 323, 1986. It
    computes what the bottleneck ``mlp`` and the head ``linear`` do together, as one part that is replaced as one.

    Args:
        in_features: what the stage before gives; the last one is used and has to be a vector.
        num_classes: how many logits.
        hidden: width of each hidden layer.
        norm: normalisation after each hidden layer.
        activation: activation after each normalisation.
        dropout: share of outputs zeroed in training, after each hidden layer.
        bias: whether the last layer adds one.
        init: how the linear layers start.

    Shape:
        vector ``(N, C)`` → logits ``(N, num_classes)``. Targets for ``cross_entropy``: ``(N,)`` int64 below
        ``num_classes``.

    Raises:
        ShapeError: what comes in is a map.

    >>> head = MLPHead((Feature("pooled", channels=512, size=()),), num_classes=10, hidden=(128, 64))
    >>> tuple(head((torch.zeros(2, 512),)).shape)
    (2, 10)
    """

    def __init__(
        self,
        in_features: tuple[Feature, ...],
        num_classes: PositiveInt,
        hidden: Widths = (256,),
        norm: NormName | Norm = "none",
        activation: ActivationName = "relu",
        dropout: Probability = 0.0,
        bias: bool = True,
        init: InitName | Init = "default",
    ) -> None:
        super().__init__()
        width = last_vector(in_features).channels
        self.layers = linear_blocks(width, hidden, norm=norm, activation=activation, dropout=dropout, init=init)
        self.fc = linear(hidden[-1], num_classes, bias=bias, init=init)

    def forward(self, vectors: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return self.fc(self.layers(vectors[-1]))  # type: ignore[no-any-return]
