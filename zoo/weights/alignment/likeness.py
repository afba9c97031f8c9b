"""alike: whether two modules compute the same from tensors of other names, told by a run of each without weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from torch import nn

from zoo.errors import ZooError
from zoo.weights.alignment.canonical import canonical
from zoo.weights.alignment.layers import Layer
from zoo.weights.alignment.matching import LEVELS, matches
from zoo.weights.alignment.tracing import traced

_MOST_WAYS = 16  # to lay one graph over another that are looked at


def alike(ours: nn.Module, theirs: nn.Module, names: Mapping[str, str], channels: int, size: Sequence[int]) -> bool:
    """Tell whether two modules compute the same, operator for operator, with the tensors that are said to be the same.

    Args:
        ours: one module, on the meta device and in evaluation mode.
        theirs: the other one, likewise.
        names: for each tensor of theirs that ours has, what it is called there.
        channels: of the input.
        size: the length of each axis of the input but batch and channels.

    Returns:
        True if so. False if not, or if a run of one cannot be followed.
    """
    nowhere = Path("graph")
    try:
        graphs = [traced(module, size, channels).graph for module in (ours, theirs)]
        layouts = [canonical(graph, nowhere) for graph in graphs if graph is not None]
    except (ZooError, RuntimeError, ValueError, TypeError, LookupError):  # what a module says to an input
        return False
    if len(layouts) != 2:
        return False
    mine, other = layouts
    ways = islice(matches(mine, other, LEVELS[0]), _MOST_WAYS)
    return any(all(_same(mine.layers[one], other.layers[two], names) for one, two in pairs) for pairs, _ in ways)


def _same(mine: Layer, other: Layer, names: Mapping[str, str]) -> bool:
    if mine.slots.keys() != other.slots.keys() or mine.eps != other.eps:
        return False
    for role, held in mine.slots.items():
        theirs = other.slots[role]
        if held.steps != theirs.steps or names.get(theirs.constant.parameter or "") != held.constant.parameter:
            return False
    return True
