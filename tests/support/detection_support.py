"""What tests of detection share: maps in the place of a backbone, numbers of theirs, and detections that are equal."""

from __future__ import annotations

from collections import OrderedDict

import torch
from exactness import unprepared
from torch import nn

__all__ = ["Given", "copied", "equal_detections", "unprepared"]


class Given(nn.Module):
    """In the place of a backbone: maps that are there already."""

    def __init__(self, maps: tuple[torch.Tensor, ...]) -> None:
        super().__init__()
        self.maps, self.out_channels = maps, maps[0].shape[1]

    def forward(self, x: torch.Tensor) -> OrderedDict[str, torch.Tensor]:
        return OrderedDict((str(i), m) for i, m in enumerate(self.maps))


def copied(ours: nn.Module, theirs: nn.Module) -> None:
    """Fill a module of ours with the numbers of one of theirs that has them in the same order."""
    values = list(theirs.state_dict().values())
    ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))


def equal_detections(left: list[dict[str, torch.Tensor]], right: list[dict[str, torch.Tensor]]) -> bool:
    """Tell whether the boxes, scores and labels of every image are the same, to the last bit."""
    return len(left) == len(right) and all(
        set(a) == set(b) == {"boxes", "scores", "labels"} and all(torch.equal(a[name], b[name]) for name in a)
        for a, b in zip(left, right, strict=True)
    )
