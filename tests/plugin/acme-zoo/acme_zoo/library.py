"""A library with models of its own."""

import torch
from torch import nn

from zoo.features import Feature


class Library:
    """Strides as names: ``acme:stride-4`` is an average over 4×4 pixels."""

    distribution = "acme-zoo"

    def names(self, kind):
        return [f"stride-{stride}" for stride in (2, 4, 8)] if kind == "backbone" else []

    def component(self, kind, name):
        stride = int(name.removeprefix("stride-"))

        def build(in_channels: int) -> nn.Module:
            return Averages(in_channels, stride)

        return build


class Averages(nn.Module):
    """Averages over squares of pixels."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(stride)
        self.features = (Feature("averages", channels, stride),)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.pool(x),)


LIBRARY = Library()
