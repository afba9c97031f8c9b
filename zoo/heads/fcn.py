"""FCNHead: a class for every position of the input, by convolutions on the last map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import PositiveInt
from torch import nn

from zoo.features import AXES, Feature, require_maps
from zoo.layers.activation import ActivationName, activation_maker
from zoo.layers.conv import conv
from zoo.layers.init import Init, InitName
from zoo.layers.norm import Norm, NormName, is_none, norm_maker
from zoo.layers.parameters import Probability
from zoo.layers.resize import resize


class FCNHead(nn.Module):
    """Class logits for every position: a 3×3 convolution, a 1×1 one, and interpolation to the size of the input.

    Source: Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015. Departure:
    the hidden convolution is torchvision's, and nothing is learnt in the interpolation. At its defaults it computes
    what ``torchvision.models.segmentation.fcn.FCNHead`` and the interpolation after that compute.

    Args:
        in_features: what the stage before gives; the last one is used and has to be a map, of one to three axes.
        num_classes: how many logits each position has.
        channels: width between the two convolutions; a quarter of the map's unless stated.
        dropout: share of the channels' values zeroed in training.
        norm: normalisation after the first convolution, which has a bias only without one.
        activation: activation after the normalisation.
        init: how the convolutions start.

    Shape:
        map ``(N, C, *spatial)`` and the size of the input → logits ``(N, num_classes, *size)``. Targets for
        ``cross_entropy``: ``(N, *size)`` int64 below ``num_classes``, or the ``ignore_index``.

    Raises:
        ShapeError: a vector comes in.

    >>> head = FCNHead((Feature("stage4", channels=16, stride=8),), num_classes=21)
    >>> tuple(head((torch.zeros(2, 16, 9, 13),), (65, 97)).shape)
    (2, 21, 65, 97)
    """

    needs_size = True

    def __init__(
        self,
        in_features: tuple[Feature, ...],
        num_classes: PositiveInt,
        channels: PositiveInt | None = None,
        dropout: Probability = 0.1,
        norm: NormName | Norm = "batch",
        activation: ActivationName = "relu",
        init: InitName | Init = "default",
    ) -> None:
        super().__init__()
        feature = require_maps(in_features)[-1]
        hidden = max(1, feature.channels // 4) if channels is None else channels
        self.conv = conv(feature.channels, hidden, 3, dims=feature.dims, padding=1, bias=is_none(norm), init=init)
        self.norm = norm_maker(norm, feature.dims)(hidden)
        self.activation = activation_maker(activation)()
        self.dropout = nn.Dropout(dropout)
        self.classifier = conv(hidden, num_classes, 1, dims=feature.dims, init=init)
        self.dims = feature.dims
        self.outputs = {"logits": (num_classes, *AXES[feature.dims])}

    def forward(self, maps: tuple[torch.Tensor, ...], size: Sequence[int]) -> torch.Tensor:
        x = self.activation(self.norm(self.conv(maps[-1])))
        return resize(self.classifier(self.dropout(x)), size, dims=self.dims)
