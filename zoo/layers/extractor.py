"""Extractor: the network of another library as a backbone, and the checks that make its features true."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NoReturn

import torch
from torch import nn

from zoo.errors import PartError, ShapeError
from zoo.features import Feature
from zoo.ghost import ghost

FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What libraries raise when a network cannot be built as asked, or does not take an input."""

Measure = Callable[[int, tuple[int, ...]], tuple[Feature, ...]]
"""Channels and spatial size of an input → every feature that a network gives for it; raises one of ``FAULTS``."""


class Extractor(nn.Module):
    """The network of another library, which gives maps or a vector, as a backbone.

    Args:
        network: takes the input and returns the maps, one for each of ``features``, as a list, tuple or dict; or one
            tensor.
        features: what comes out.
        channels_last: for each map, whether the network gives it as ``(N, H, W, C)``; it is turned then.
        where: the network in messages, ``"timm:resnet50d"``.

    Shape:
        ``(N, C, H, W)`` → one map ``(N, channels, H', W')``, or a vector ``(N, channels)``, for each of ``features``.

    Raises:
        ShapeError: (when called) the network does not take an input of this shape.
    """

    def __init__(
        self, network: nn.Module, features: tuple[Feature, ...], channels_last: Sequence[bool], where: str
    ) -> None:
        super().__init__()
        self.network = network
        self.features = features
        self._channels_last = tuple(channels_last)
        self._where = where

    def __deepcopy__(self, memo: dict[int, Any]) -> Extractor:
        # A copied torchvision extractor is in training mode whatever the original was in.
        # https://github.com/pytorch/vision/blob/v0.24.0/torchvision/models/feature_extraction.py
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        for name, module in self.named_modules():
            twin.get_submodule(name).training = module.training
        return twin

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if torch.compiler.is_compiling():
            return self.maps(x)
        try:
            return self.maps(x)
        except FAULTS as cause:
            if not x.is_meta and self._accepts(x):
                raise  # it is not the shape: memory, a type or a device
            raise ShapeError(
                f"an input of shape {tuple(x.shape)}",
                f"one that {self._where} takes ({_told(cause)}); if its size is fixed, state yours in the spec and "
                "build it anew",
                "model input",
            ) from cause

    def maps(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the maps for an input; what the network raises comes as it is."""
        given = self.network(x)
        if isinstance(given, torch.Tensor):
            given = (given,)
        maps = given.values() if isinstance(given, dict) else given
        return tuple(m.permute(0, 3, 1, 2) if last else m for m, last in zip(maps, self._channels_last, strict=True))

    def _accepts(self, x: torch.Tensor) -> bool:
        """Tell whether an input of this shape goes through, by a twin without weights on the meta device."""
        dtype = next((p.dtype for p in self.parameters()), x.dtype)
        try:
            with torch.no_grad(), torch.device("meta"):
                ghost(self)(torch.empty(x.shape, dtype=dtype))
        except ShapeError:
            return False
        return True


def shapes(extractor: Callable[[torch.Tensor], Any], channels: int, size: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the shape of each map of a network on the meta device, for one input.

    Raises:
        RuntimeError: (or another of ``FAULTS``) the network does not take it.
        ValueError: a map is none, or is empty.
    """
    with torch.no_grad(), torch.device("meta"):
        given = extractor(torch.empty(1, channels, *size))
    found = [tuple(m.shape) for m in given]
    for number, shape in enumerate(found):
        if len(shape) != 4:
            raise ValueError(f"output {number} has the shape {shape}, it is no map (N, C, H, W)")
        if 0 in shape:
            raise ValueError(f"map {number} would be empty, {shape}: the input is too small")
    return found


def pooled(network: nn.Module, channels: int, size: tuple[int, ...], where: str) -> tuple[Feature]:
    """Return the feature of a network on the meta device that gives one vector.

    Raises:
        RuntimeError: (or another of ``FAULTS``) the network does not take such an input.
        ValueError: it gives something else.
    """
    with torch.no_grad(), torch.device("meta"):
        given = network(torch.empty(1, channels, *size))
    shape = tuple(given.shape) if isinstance(given, torch.Tensor) else None
    if shape is None or len(shape) != 2 or shape[0] != 1:
        raise ValueError(f"before its classifier {where} has {shape or type(given).__name__}, no vector (N, C)")
    return (Feature("pooled", shape[1], stride=None, size=()),)


def vector_extractor(
    where: str,
    measure: Measure,
    make: Callable[[tuple[int, ...]], nn.Module],
    in_channels: int,
    in_size: tuple[int, ...] | None,
    usual: tuple[int, tuple[int, ...]],
    out_indices: tuple[int, ...] | None,
) -> Extractor:
    """Return a network that gives one vector as a backbone.

    Args:
        where: the network in messages, ``"timm:resnet50d"``.
        measure: what to call for its feature.
        make: makes it for a spatial size.
        in_channels: channels of the input.
        in_size: spatial size of the input, where it is known.
        usual: channels and size that its library made it for.
        out_indices: has to be None.

    Raises:
        PartError: the network cannot be a backbone, whatever the input.
        ShapeError: it does not take this size, or that many channels; or ``out_indices`` are stated.
    """
    if out_indices is not None:
        raise ShapeError(
            f"out_indices={list(out_indices)} with pooled", f"one of the two: pooled gives the one vector of {where}"
        )
    size = plane(in_size, where) or usual[1]
    features = measured(where, measure, in_channels, size, usual, role="give a pooled vector")
    return Extractor(make(size), features, [False], where)


def measured(
    where: str,
    measure: Measure,
    channels: int,
    size: tuple[int, ...],
    usual: tuple[int, tuple[int, ...]],
    *,
    role: str = "be a backbone",
) -> tuple[Feature, ...]:
    """Measure what a network gives for an input, and say what is wrong if it does not take it.

    Args:
        where: the network in messages, ``"timm:resnet50d"``.
        measure: what to call.
        channels: channels of the input.
        size: spatial size of the input.
        usual: channels and size that its library made it for.
        role: what a network cannot do that is not measured whatever the input.

    Raises:
        PartError: it cannot do that.
        ShapeError: it does not take this size, or that many channels.
    """
    try:
        return measure(channels, size)
    except FAULTS as cause:
        _blame(where, measure, channels, size, usual, role, cause)


def _blame(
    where: str,
    measure: Measure,
    channels: int,
    size: tuple[int, ...],
    usual: tuple[int, tuple[int, ...]],
    role: str,
    cause: Exception,
) -> NoReturn:
    if (channels, size) == usual:
        raise PartError(where, f"cannot {role}: {_told(cause)}") from cause
    measured(where, measure, *usual, usual, role=role)
    if size != usual[1] and _works(measure, channels, usual[1]):
        raise ShapeError(
            f"an input of {_times(size)}", f"a size that {where} takes, such as {_times(usual[1])} ({_told(cause)})"
        ) from cause
    raise ShapeError(
        f"{channels} input channels", f"{usual[0]}, the number that {where} takes ({_told(cause)})"
    ) from cause


def chosen(out_indices: tuple[int, ...] | None, levels: tuple[Feature, ...], where: str) -> tuple[int, ...]:
    """Return which of the features of a network to give: those of ``out_indices``, or all where it is None.

    Raises:
        ShapeError: they are none, not in order, or not there.
    """
    if out_indices is None:
        return tuple(range(len(levels)))
    rising = all(left < right for left, right in pairwise(out_indices))
    if not out_indices or not rising or out_indices[0] < 0 or out_indices[-1] >= len(levels):
        strides = ", ".join(str(f.stride) for f in levels)
        raise ShapeError(
            f"out_indices={list(out_indices)}",
            f"rising numbers from 0 to {len(levels) - 1}: {where} gives {len(levels)} maps, of stride {strides}",
        )
    return out_indices


def plane(in_size: tuple[int, ...] | None, where: str) -> tuple[int, ...] | None:
    """Return the size of an input, which has to have two axes where it is known.

    Raises:
        ShapeError: it has another number of axes.
    """
    if in_size is not None and len(in_size) != 2:
        raise ShapeError(f"an input with {len(in_size)} axes", f"two, height and width, for {where}")
    return in_size


def _works(measure: Measure, channels: int, size: tuple[int, ...]) -> bool:
    try:
        measure(channels, size)
    except FAULTS:
        return False
    return True


def _told(cause: Exception) -> str:
    return " ".join(f"{type(cause).__name__}: {cause}".split())


def _times(size: tuple[int, ...]) -> str:
    return "×".join(str(n) for n in size)
