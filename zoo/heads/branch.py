"""BranchHead: a head with a neck or a bottleneck of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from zoo.features import Feature
from zoo.kinds import output_features
from zoo.layers.nested import MakeBottleneck, MakeHead, MakeNeck
from zoo.layers.sized import needs_size, predict


class BranchHead(nn.Module):
    """A head behind a neck or a bottleneck of its own, for one among several that wants other features.

    Args:
        in_features: what the stage before gives.
        head: the head.
        neck: what comes before it; None for no such part.
        bottleneck: what comes between the two; None for no such part.

    Shape:
        tensors, one for each of ``in_features`` → what the head predicts.

    Raises:
        ShapeError: one of the parts does not fit.

    >>> from functools import partial
    >>> from zoo.heads.linear import LinearHead
    >>> from zoo.necks.pool import GlobalAveragePool
    >>> maps = (Feature("stage4", channels=8, stride=32),)
    >>> head = BranchHead(maps, head=partial(LinearHead, num_classes=3), neck=GlobalAveragePool)
    >>> tuple(head((torch.zeros(2, 8, 5, 5),)).shape)
    (2, 3)
    """

    def __init__(
        self,
        in_features: tuple[Feature, ...],
        head: MakeHead,
        neck: MakeNeck | None = None,
        bottleneck: MakeBottleneck | None = None,
    ) -> None:
        super().__init__()
        features = in_features
        self.neck = None if neck is None else neck(features)
        features = features if self.neck is None else output_features(self.neck) or features
        self.bottleneck = None if bottleneck is None else bottleneck(features)
        features = features if self.bottleneck is None else output_features(self.bottleneck) or features
        self.head = head(features)
        self.needs_size = needs_size(self.head)
        self.outputs = getattr(self.head, "outputs", {"": ()})

    def forward(self, features: tuple[torch.Tensor, ...], size: Sequence[int] | None = None) -> Any:
        if self.neck is not None:
            features = self.neck(features)
        if self.bottleneck is not None:
            features = self.bottleneck(features)
        return predict(self.head, features, size)
