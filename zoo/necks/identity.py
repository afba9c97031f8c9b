"""Identity: every feature goes on as it is."""

from __future__ import annotations

import torch
from torch import nn

from zoo.features import Feature, last


class Identity(nn.Module):
    """Pass every feature on as it is.

    Args:
        in_features: what the stage before gives.

    Shape:
        any tensors → the same.

    Raises:
        ShapeError: ``in_features`` is empty.

    >>> neck = Identity((Feature("stage1", channels=8, stride=2),))
    >>> [tuple(m.shape) for m in neck((torch.zeros(2, 8, 4, 4),))]
    [(2, 8, 4, 4)]
    """

    def __init__(self, in_features: tuple[Feature, ...]) -> None:
        super().__init__()
        last(in_features)
        self.features = in_features

    def forward(self, maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return maps
