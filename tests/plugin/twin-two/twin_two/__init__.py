"""A backbone that another plugin calls the same."""

import torch
from torch import nn

from zoo.features import Feature


class Twin(nn.Module):
    """The input as it is."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.features = (Feature("twin-two", in_channels),)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (x,)
