"""AtrousPyramid: the last map, looked at through several dilations at once."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import nn

from zoo.features import Feature, require_maps
from zoo.layers.activation import ActivationName
from zoo.layers.aspp import ASPP
from zoo.layers.init import Init, InitName
from zoo.layers.norm import Norm, NormName
from zoo.layers.parameters import Probability, Widths


class AtrousPyramid(nn.Module):
    """Atrous spatial pyramid pooling of the last map: :class:`zoo.layers.aspp.ASPP` as a neck.

    Source: Chen, Papandreou, Schroff, Adam, "Rethinking Atrous Convolution for Semantic Image Segmentation",
    arXiv 1706.05587, section 3.3; the dropout is torchvision's. The head ``deeplab`` has one of its own.

    Args:
        in_features: what the stage before gives, maps of one to three axes; only the last one is used.
        channels: width of the result.
        rates: the dilation of each 3×3 convolution; the default is the paper's for a stride of 8.
        norm: normalisation after each convolution, which has a bias only without one.
        activation: activation after each normalisation.
        dropout: share of the result zeroed in training.
        init: how the convolutions start.

    Shape:
        map ``(N, C, *spatial)`` → one map ``(N, channels, *spatial)``. Batch normalisation of the pooled map needs two
        samples or more in training.

    Raises:
        ShapeError: a vector comes in, or the norm is ``instance``, which a pooled map of one position cannot have.

    >>> neck = AtrousPyramid((Feature("stage4", channels=512, stride=8),), channels=64)
    >>> [tuple(m.shape) for m in neck.eval()((torch.zeros(2, 512, 28, 28),))]
    [(2, 64, 28, 28)]
    """

    def __init__(
        self,
        in_features: tuple[Feature, ...],
        channels: PositiveInt = 256,
        rates: Widths = (12, 24, 36),
        norm: NormName | Norm = "batch",
        activation: ActivationName = "relu",
        dropout: Probability = 0.5,
        init: InitName | Init = "default",
    ) -> None:
        super().__init__()
        feature = require_maps(in_features)[-1]
        self.aspp = ASPP(
            feature.channels,
            channels,
            rates,
            dims=feature.dims,
            norm=norm,
            activation=activation,
            dropout=dropout,
            init=init,
        )
        self.features = (Feature(feature.name, channels, feature.stride, feature.size, feature.dims),)

    def forward(self, maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (self.aspp(maps[-1]),)
