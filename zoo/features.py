"""Feature: what is known of one tensor that passes from one part to the next."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.errors import ShapeError

if TYPE_CHECKING:
    import torch

AXES = {0: (), 1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
"""What the spatial axes are called, by how many there are."""


@dataclass(frozen=True)
class Feature:
    """What is known of one tensor that passes from one part to the next.

    Attributes:
        name: what it is called: ``"layer4"``.
        channels: its width, the second dimension of the tensor.
        stride: how many pixels of the input one of its own stands for: one number for every axis, or one for each; None
            for a map that has one size whatever that of the input is, as ``adaptive_pool`` gives.
        size: its spatial size; ``()`` for a vector, None where it depends on an input whose size is not known.
        dims: how many spatial axes it has: 1 for signals, 2 for images, 3 for volumes and video, 0 for a vector. A
            ``size`` decides it; without one it is 2 unless stated.

    >>> Feature("layer4", channels=512, stride=32, size=(7, 7)).shape_text
    '512×7×7'
    >>> Feature("fc", channels=84, size=()).is_vector
    True
    >>> Feature("stage1", channels=64, stride=(1, 2, 2), size=(16, 56, 56)).strides
    (1, 2, 2)
    """

    name: str
    channels: int
    stride: int | tuple[int, ...] | None = 1
    size: tuple[int, ...] | None = None
    dims: int = 2

    def __post_init__(self) -> None:
        if self.size is not None:
            object.__setattr__(self, "dims", len(self.size))
        if isinstance(self.stride, tuple) and len(set(self.stride)) == 1:
            object.__setattr__(self, "stride", self.stride[0])  # one spelling: features compare equal

    @property
    def strides(self) -> tuple[int, ...]:
        """The stride along each spatial axis; none for a vector, whatever the map was that it came from.

        None either for a map without a fixed stride.
        """
        if self.stride is None:
            return ()
        return (self.stride,) * self.dims if isinstance(self.stride, int) else self.stride[: self.dims]

    @property
    def is_vector(self) -> bool:
        """True for a tensor ``(N, C)``."""
        return self.dims == 0

    @property
    def numel(self) -> int | None:
        """How many numbers one sample has, or None where the size is not known."""
        return None if self.size is None else self.channels * math.prod(self.size)

    @property
    def shape_text(self) -> str:
        """The shape of one sample, for messages."""
        sizes = ("?",) * self.dims if self.size is None else self.size
        return "×".join(str(n) for n in (self.channels, *sizes))


def last(features: tuple[Feature, ...]) -> Feature:
    """Return the deepest feature.

    Raises:
        ShapeError: there is none.
    """
    if not features:
        raise ShapeError("no feature at all", "at least one from the stage before")
    return features[-1]


def last_vector(features: tuple[Feature, ...]) -> Feature:
    """Return the deepest feature, which has to be a vector.

    Raises:
        ShapeError: it is a map, or there is none.
    """
    feature = last(features)
    if not feature.is_vector:
        raise ShapeError(
            f"the map {feature.name!r} ({feature.shape_text})",
            "a vector; put a neck such as 'gap' or 'flatten' before it",
        )
    return feature


def require_maps(features: tuple[Feature, ...], dims: int | tuple[int, ...] = (1, 2, 3)) -> tuple[Feature, ...]:
    """Return the features, all of which have to be maps.

    Args:
        features: what the stage before gives.
        dims: how many spatial axes they may have.

    Raises:
        ShapeError: one is a vector or has another number of axes, or there is none.
    """
    last(features)
    fitting = (dims,) if isinstance(dims, int) else dims
    for feature in features:
        if feature.is_vector:
            raise ShapeError(
                f"the vector {feature.name!r} ({feature.shape_text})", "maps with a spatial size, before any pooling"
            )
        if feature.dims not in fitting:
            wanted = " or ".join(_AXES[n] for n in fitting)
            raise ShapeError(f"the map {feature.name!r} ({feature.shape_text})", f"maps with {wanted}")
    return features


_AXES = {1: "one spatial axis", 2: "height and width", 3: "depth, height and width"}


def require_shape(tensor: torch.Tensor, feature: Feature) -> None:
    """Check that a tensor has the size that a part was built for; for parts that only fit one size.

    Raises:
        ShapeError: its channels or its spatial size are others.
    """
    found = tuple(tensor.shape[1:])
    if found != (feature.channels, *(feature.size or ())):
        raise ShapeError(
            f"{feature.name!r} of {'×'.join(str(n) for n in found)}",
            f"{feature.shape_text}, for which the model was built; for any size use the neck 'gap' or 'adaptive_pool'",
            "model input",
        )
