"""resize: a map of one to three axes to the size of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import nn

ResizeMode = Literal["nearest", "linear"]

_LINEAR: Mapping[int, str] = {1: "linear", 2: "bilinear", 3: "trilinear"}


def resize(x: torch.Tensor, size: Sequence[int], *, dims: int, mode: ResizeMode = "linear") -> torch.Tensor:
    """Interpolate a map to a spatial size, corners not aligned: torchvision's arithmetic in its segmentation models.

    Args:
        x: the map.
        size: the result's, one number for each axis.
        dims: how many axes there are, which a symbolic trace cannot ask a tensor for.
        mode: ``nearest``, or ``linear`` along every axis.

    Shape:
        ``(N, C, *spatial)`` → ``(N, C, *size)``.

    >>> resize(torch.zeros(1, 2, 3, 4), (6, 7), dims=2).shape
    torch.Size([1, 2, 6, 7])
    """
    how, aligned = ("nearest", None) if mode == "nearest" else (_LINEAR[dims], False)
    return nn.functional.interpolate(x, size=size, mode=how, align_corners=aligned)
