"""LinearHead: class logits from a vector."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import nn

from zoo.features import Feature, last_vector
from zoo.layers.init import Init, InitName
from zoo.layers.linear import linear
from zoo.layers.parameters import Probability


class LinearHead(nn.Module):
    """One linear layer from a vector to class logits.

    Args:
        in_features: what the stage before gives; the last one is used and has to be a vector.
        num_classes: how many logits.
        dropout: share of the inputs zeroed in training.
        bias: whether the layer adds one.
        init: how the layer starts.

    Shape:
        vector ``(N, C)`` → logits ``(N, num_classes)``. Targets for ``cross_entropy``: ``(N,)`` int64 below
        ``num_classes``.

    Raises:
        ShapeError: what comes in is a map.

    >>> head = LinearHead((Feature("hidden", channels=84, size=()),), num_classes=10)
    >>> tuple(head((torch.zeros(2, 84),)).shape)
    (2, 10)
    """

    def __init__(
        self,
        in_features: tuple[Feature, ...],
        num_classes: PositiveInt,
        dropout: Probability = 0.0,
        bias: bool = True,
        init: InitName | Init = "default",
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.fc = linear(last_vector(in_features).channels, num_classes, bias=bias, init=init)
        self.outputs = {"logits": (num_classes,)}

    def forward(self, vectors: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return self.fc(self.dropout(vectors[-1]))  # type: ignore[no-any-return]
