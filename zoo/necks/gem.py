"""GeneralisedMeanPool: between the average and the maximum, where training puts it."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Le
from pydantic import PositiveFloat
from torch import nn

from zoo.features import Feature, require_maps
from zoo.layers.pool import global_average

Exponent = Annotated[float, Ge(1), Le(100)]


class GeneralisedMeanPool(nn.Module):
    """Pool each channel of the last map by its generalised mean, ``mean(xᵖ)^(1/p)``, with an exponent that is learnt.

    Source: Radenović, Tolias, Chum, "Fine-Tuning CNN Image Retrieval with No Human Annotation", TPAMI 41(7), 2019,
    section 3.2, with one exponent for all channels, as in its experiments. An exponent of 1 is the average, a large one
    nearly the maximum. Numbers below ``eps`` count as ``eps``: the mean is one of positive numbers.

    Args:
        in_features: what the stage before gives, maps of one to three axes; only the last one is used.
        exponent: ``p``, where it starts.
        learned: whether training changes it.
        eps: the smallest number that counts, above zero.

    Shape:
        map ``(N, C, *spatial)`` → one vector ``(N, C)``.

    Raises:
        ShapeError: ``in_features`` is empty or holds a vector.

    >>> neck = GeneralisedMeanPool((Feature("stage4", channels=1, stride=32),), exponent=2.0)
    >>> neck((torch.tensor([[[[1.0, 7.0]]]]),))[0].item()
    5.0
    """

    exponent: torch.Tensor

    def __init__(
        self,
        in_features: tuple[Feature, ...],
        exponent: Exponent = 3.0,
        learned: bool = True,
        eps: PositiveFloat = 1e-6,
    ) -> None:
        super().__init__()
        feature = require_maps(in_features)[-1]
        start = torch.full((1,), exponent)
        if learned:
            self.exponent = nn.Parameter(start)
        else:
            self.register_buffer("exponent", start)
        self.eps = eps
        self.dims = feature.dims
        self.features = (Feature(feature.name, feature.channels, feature.stride, size=()),)

    def forward(self, maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        powers = maps[-1].clamp(min=self.eps).pow(self.exponent)
        return (global_average(powers, self.dims).pow(1 / self.exponent),)

    def extra_repr(self) -> str:
        return f"{'learned' if isinstance(self.exponent, nn.Parameter) else 'fixed'} exponent, eps={self.eps}"
