"""CosineHead: class logits by angle alone."""

from __future__ import annotations

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import nn

from zoo.features import Feature, last_vector
from zoo.layers.init import Init, InitName
from zoo.layers.linear import linear


class CosineHead(nn.Module):
    """The cosine of the angle between a vector and each class's weights, times a scale.

    Source: Gidaris, Komodakis, "Dynamic Few-Shot Visual Learning without Forgetting", CVPR 2018, section 3.2, where
    the scale is learnt from 10. With a fixed one it is the logit of Wang et al., "CosFace: Large Margin Cosine Loss
    for Deep Face Recognition", CVPR 2018, section 3.2, without its margin, which belongs to the loss.

    Args:
        in_features: what the stage before gives; the last one is used and has to be a vector.
        num_classes: how many logits.
        scale: what cosines are multiplied by, where it starts.
        learned: whether training changes the scale.
        init: how the weights start; only their direction counts.

    Shape:
        vector ``(N, C)`` → logits ``(N, num_classes)`` between ``-scale`` and ``scale``. Targets for
        ``cross_entropy``: ``(N,)`` int64 below ``num_classes``.

    Raises:
        ShapeError: what comes in is a map.

    >>> head = CosineHead((Feature("pooled", channels=512, size=()),), num_classes=10)
    >>> tuple(head((torch.zeros(2, 512),)).shape)
    (2, 10)
    """

    scale: torch.Tensor

    def __init__(
        self,
        in_features: tuple[Feature, ...],
        num_classes: PositiveInt,
        scale: PositiveFloat = 10.0,
        learned: bool = True,
        init: InitName | Init = "default",
    ) -> None:
        super().__init__()
        self.fc = linear(last_vector(in_features).channels, num_classes, bias=False, init=init)
        start = torch.full((1,), scale)
        if learned:
            self.scale = nn.Parameter(start)
        else:
            self.register_buffer("scale", start)

    def forward(self, vectors: tuple[torch.Tensor, ...]) -> torch.Tensor:
        directions = nn.functional.normalize(self.fc.weight, dim=1)
        return self.scale * nn.functional.linear(nn.functional.normalize(vectors[-1], dim=1), directions)
