"""MultiHead: several heads on the same features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from zoo.features import Feature
from zoo.layers.nested import MakeHeads
from zoo.layers.sized import needs_size, predict


class MultiHead(nn.Module):
    """Several named heads on one trunk: each gets all the features and predicts for itself.

    A head that wants other features than the rest has a neck of its own in the head ``branch``.

    Args:
        in_features: what the stage before gives.
        heads: each head by a name of its own.

    Shape:
        tensors, one for each of ``in_features`` → a dict from each name to what its head predicts, in the order of the
        spec.

    Raises:
        ShapeError: one of the heads does not fit.

    >>> from functools import partial
    >>> from zoo.heads.linear import LinearHead
    >>> vector = (Feature("hidden", channels=8, size=()),)
    >>> makers = {"kind": partial(LinearHead, num_classes=3), "age": partial(LinearHead, num_classes=1)}
    >>> head = MultiHead(vector, makers)
    >>> {name: tuple(found.shape) for name, found in head((torch.zeros(2, 8),)).items()}
    {'kind': (2, 3), 'age': (2, 1)}
    """

    def __init__(self, in_features: tuple[Feature, ...], heads: MakeHeads) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({name: make(in_features) for name, make in heads.items()})
        self.needs_size = any(needs_size(head) for head in self.heads.values())
        self.outputs = {
            name if len(told) == 1 else f"{name}.{key}": shape
            for name, head in self.heads.items()
            for told in [getattr(head, "outputs", {"": ()})]
            for key, shape in told.items()
        }

    def forward(self, features: tuple[torch.Tensor, ...], size: Sequence[int] | None = None) -> dict[str, Any]:
        return {name: predict(head, features, size) for name, head in self.heads.items()}
