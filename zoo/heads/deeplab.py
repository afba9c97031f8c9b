"""DeepLabHead: a class for every position of the input, with the context that dilated convolutions see."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import PositiveInt
from torch import nn

from zoo.features import AXES, Feature, require_maps
from zoo.layers.activation import ActivationName, activation_maker
from zoo.layers.aspp import ASPP
from zoo.layers.conv import conv
from zoo.layers.init import Init, InitName
from zoo.layers.norm import Norm, NormName, is_none, norm_maker
from zoo.layers.parameters import Probability, Widths
from zoo.layers.resize import resize


class DeepLabHead(nn.Module):
    """Class logits for every position: ASPP, a 3×3 convolution, a 1×1 one, and interpolation to the input's size.

    Source: Chen, Papandreou, Schroff, Adam, "Rethinking Atrous Convolution for Semantic Image Segmentation",
    arXiv 1706.05587. At its defaults it computes what ``torchvision.models.segmentation.deeplabv3.DeepLabHead`` and the
    interpolation after that compute.

    Args:
        in_features: what the stage before gives; the last one is used and has to be a map, of one to three axes.
        num_classes: how many logits each position has.
        channels: width of everything between.
        rates: the dilations of ASPP's 3×3 convolutions.
        dropout: share of ASPP's values zeroed in training.
        norm: normalisation after each convolution but the last.
        activation: activation after each normalisation.
        init: how the convolutions start.

    Shape:
        map ``(N, C, *spatial)`` and the size of the input → logits ``(N, num_classes, *size)``. Targets for
        ``cross_entropy``: ``(N, *size)`` int64 below ``num_classes``, or the ``ignore_index``. Batch norm needs
        two samples or more in training.

    Raises:
        ShapeError: a vector comes in, or the norm is ``instance``.

    >>> head = DeepLabHead((Feature("stage4", channels=16, stride=8),), num_classes=21, channels=8, rates=(2, 4))
    >>> tuple(head((torch.zeros(2, 16, 9, 13),), (65, 97)).shape)
    (2, 21, 65, 97)
    """

    needs_size = True

    def __init__(
        self,
        in_features: tuple[Feature, ...],
        num_classes: PositiveInt,
        channels: PositiveInt = 256,
        rates: Widths = (12, 24, 36),
        dropout: Probability = 0.5,
        norm: NormName | Norm = "batch",
        activation: ActivationName = "relu",
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
        self.conv = conv(channels, channels, 3, dims=feature.dims, padding=1, bias=is_none(norm), init=init)
        self.norm = norm_maker(norm, feature.dims)(channels)
        self.activation = activation_maker(activation)()
        self.classifier = conv(channels, num_classes, 1, dims=feature.dims, init=init)
        self.dims = feature.dims
        self.outputs = {"logits": (num_classes, *AXES[feature.dims])}

    def forward(self, maps: tuple[torch.Tensor, ...], size: Sequence[int]) -> torch.Tensor:
        x = self.activation(self.norm(self.conv(self.aspp(maps[-1]))))
        return resize(self.classifier(x), size, dims=self.dims)
