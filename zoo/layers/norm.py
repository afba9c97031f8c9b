"""Normalisation layers by name, for vectors and for maps of one to three dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from pydantic import ConfigDict, NonNegativeFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import nn

from zoo.errors import ShapeError
from zoo.features import Feature

NormName = Literal["batch", "frozen_batch", "group", "layer", "instance", "none"]

_BATCH_NORMS: dict[int, type[nn.Module]] = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INSTANCE_NORMS: dict[int, type[nn.Module]] = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Norm:
    """A normalisation and its numbers.

    Attributes:
        type: ``batch`` (Ioffe, Szegedy, ICML 2015), ``frozen_batch`` (the same with statistics, scale and shift that
            never train: He et al., "Mask R-CNN", ICCV 2017, section 3.1), ``group`` (Wu, He, "Group Normalization",
            ECCV 2018), ``layer`` (Ba, Kiros, Hinton, arXiv 1607.06450; over the channels at each position of a map),
            ``instance`` (Ulyanov, Vedaldi, Lempitsky, arXiv 1607.08022; with scale and shift, maps only) or ``none``.
        groups: how many groups, for ``group`` alone; it has to divide the channels.
        eps: what is added to the variance.
        momentum: the weight of a new batch in the running statistics, for ``batch`` alone.
    """

    type: NormName = "batch"
    groups: PositiveInt = 32
    eps: NonNegativeFloat = 1e-5
    momentum: NonNegativeFloat = 0.1


class ChannelLayerNorm(nn.LayerNorm):
    """Layer normalisation over the channels of a map, at each position by itself.

    Shape:
        maps ``(N, C, *spatial)`` → the same.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class FrozenBatchNorm(nn.Module):
    """Batch normalisation by statistics, scale and shift that are buffers: nothing of it trains, in any mode.

    Source: He et al., "Mask R-CNN", ICCV 2017, section 3.1. Names are ``nn.BatchNorm2d``'s.

    Args:
        channels: width of the input.
        eps: what is added to the variance.

    Shape:
        ``(N, channels, *spatial)`` → the same.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps}"


class GroupNorm(nn.GroupNorm):
    """Group normalisation, also of one image whose groups have a single number each: that number becomes the shift.

    torch refuses it in every mode, though only in training it would be a mistake, and a detector's coarsest map of a
    small image may be such.

    Shape:
        ``(N, channels, *spatial)`` → the same.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


def norm_maker(norm: NormName | Norm, dims: int) -> Callable[[int], nn.Module]:
    """Return what makes the normalisation layer for a number of channels.

    Args:
        norm: a name, or a name with its numbers.
        dims: spatial dimensions: 0 for vectors, 2 for images.

    Raises:
        ShapeError: ``instance`` for vectors, which have no axis to take statistics over; and from the result, where
            groups do not divide the channels.

    >>> type(norm_maker("batch", dims=2)(8)).__name__
    'BatchNorm2d'
    """
    plan = Norm(type=norm) if isinstance(norm, str) else norm
    if plan.type == "instance" and not dims:
        raise ShapeError("an instance norm of vectors", "maps, or another norm: batch, group, layer or none")

    def make(channels: int) -> nn.Module:
        match plan.type:
            case "batch":
                return _BATCH_NORMS[dims](channels, eps=plan.eps, momentum=plan.momentum)
            case "frozen_batch":
                return FrozenBatchNorm(channels, eps=plan.eps)
            case "instance":
                return _INSTANCE_NORMS[dims](channels, eps=plan.eps, affine=True)
            case "group":
                return _group_norm(plan, channels)
            case "layer":
                return (ChannelLayerNorm if dims else nn.LayerNorm)(channels, eps=plan.eps)
            case "none":
                return nn.Identity()

    return make


def is_none(norm: NormName | Norm) -> bool:
    """Tell whether there is no normalisation, so that a convolution before it needs its bias."""
    return (norm if isinstance(norm, str) else norm.type) == "none"


def require_spread(norm: NormName | Norm, feature: Feature) -> None:
    """Check that a map has something to take the statistics of an instance norm over, where its size is known.

    Raises:
        ShapeError: it has one position, and the norm is ``instance``.
    """
    if (norm if isinstance(norm, str) else norm.type) == "instance" and feature.size and math.prod(feature.size) == 1:
        raise ShapeError(
            f"the map {feature.name!r} of {'×'.join(str(n) for n in feature.size)} for an instance norm",
            "two positions at least: a larger input, or another norm",
        )


def _group_norm(plan: Norm, channels: int) -> nn.GroupNorm:
    if channels % plan.groups:
        fitting = ", ".join(str(g) for g in range(min(channels, plan.groups), 0, -1) if channels % g == 0)
        raise ShapeError(
            f"{channels} channels for a group norm of {plan.groups} groups",
            f'a number of groups that divides {channels} ({fitting}), as in {{"type": "group", "groups": …}}',
        )
    return GroupNorm(plan.groups, channels, eps=plan.eps)
