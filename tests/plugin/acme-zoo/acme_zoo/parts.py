"""A neck, a bottleneck and a head."""

import torch
from pydantic import PositiveInt
from torch import nn

from zoo.features import Feature, last_vector, require_maps


class GlobalMaxPool(nn.Module):
    """The largest number of each channel: map ``(N, C, H, W)`` → vector ``(N, C)``."""

    def __init__(self, in_features: tuple[Feature, ...]) -> None:
        super().__init__()
        feature = require_maps(in_features)[-1]
        self.features = (Feature(feature.name, feature.channels, feature.stride, size=()),)

    def forward(self, maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (maps[-1].amax((2, 3)),)


class Halve(nn.Module):
    """A linear layer to half the width: vector ``(N, C)`` → vector ``(N, C // 2)``."""

    def __init__(self, in_features: tuple[Feature, ...], bias: bool = True) -> None:
        super().__init__()
        width = last_vector(in_features).channels
        self.linear = nn.Linear(width, max(1, width // 2), bias=bias)
        self.features = (Feature("halved", max(1, width // 2), size=()),)

    def forward(self, vectors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (self.linear(vectors[-1]),)


class Binary(nn.Module):
    """Yes or no for several questions: vector ``(N, C)`` → logits ``(N, questions)``."""

    def __init__(self, in_features: tuple[Feature, ...], questions: PositiveInt = 1) -> None:
        super().__init__()
        self.linear = nn.Linear(last_vector(in_features).channels, questions)

    def forward(self, vectors: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return self.linear(vectors[-1])
