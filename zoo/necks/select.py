"""Select: some of the features go on, the others end here."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
from annotated_types import MinLen
from torch import nn

from registry import nearest
from zoo.errors import ShapeError
from zoo.features import Feature, last


class Select(nn.Module):
    """Pass some of the features on as they are.

    Args:
        in_features: what the stage before gives.
        keep: which go on, by name (``"stage3"``) or by place, from 0 for the first or from -1 for the last, in the
            order in which they come.

    Shape:
        tensors → those that are kept.

    Raises:
        ShapeError: one of ``keep`` is not there, or they are not in order.

    >>> maps = (Feature("stage1", channels=8, stride=2), Feature("stage2", channels=16, stride=4))
    >>> Select(maps, keep=("stage2",)).features == Select(maps, keep=(-1,)).features == maps[1:]
    True
    """

    def __init__(
        self, in_features: tuple[Feature, ...], keep: Annotated[tuple[int | str, ...], MinLen(1)] = (-1,)
    ) -> None:
        super().__init__()
        last(in_features)
        self.places = [_place(in_features, wanted) for wanted in keep]
        if any(left >= right for left, right in pairwise(self.places)):
            raise ShapeError(
                f"keep={list(keep)}", f"each once and in the order in which they come: {_listed(in_features)}"
            )
        self.features = tuple(in_features[place] for place in self.places)

    def forward(self, maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return tuple(maps[place] for place in self.places)

    def extra_repr(self) -> str:
        return ", ".join(feature.name for feature in self.features)


def _place(features: tuple[Feature, ...], wanted: int | str) -> int:
    """Return where a feature stands.

    Raises:
        ShapeError: there is none of this name or at this place, or there are several.
    """
    names = [feature.name for feature in features]
    if isinstance(wanted, int):
        if not -len(features) <= wanted < len(features):
            raise ShapeError(
                f"keep of {wanted}", f"a place from 0 to {len(features) - 1}, or from -1 back: {_listed(features)}"
            )
        return wanted % len(features)
    if names.count(wanted) > 1:
        raise ShapeError(f"keep of {wanted!r}, which several are called", f"a place: {_listed(features)}")
    if wanted not in names:
        near = nearest(wanted, names)
        meant = f" (did you mean {near[0]!r}?)" if near else ""
        raise ShapeError(f"keep of {wanted!r}", f"one of those that there are: {_listed(features)}{meant}")
    return names.index(wanted)


def _listed(features: tuple[Feature, ...]) -> str:
    return ", ".join(f"{place} {feature.name!r} ({feature.shape_text})" for place, feature in enumerate(features))
