"""Tables: parameters of which a model takes entries by a fixed index, as those of relative positions.

An exporter folds the index into the table: the file has what was read, each entry as often as it is taken. It is read
backwards here, by the index of our own model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import torch

from zoo.builder import assemble
from zoo.model import Model
from zoo.spec import ParsedSpec
from zoo.weights.alignment.graph import Graph
from zoo.weights.alignment.layers import Held, Layout
from zoo.weights.parity import bit_equal


def with_indices(graph: Graph, skeleton: Model, parsed: ParsedSpec) -> Graph:
    """Return the graph of a model with the values of its buffers of whole numbers, which it makes when it is built.

    It is built for real once the first of them is asked for.

    Args:
        graph: the graph.
        skeleton: the model, on the meta device.
        parsed: its spec.
    """
    names = {name for name, each in skeleton.named_buffers() if not each.is_floating_point()}

    @cache
    def made() -> Mapping[str, torch.Tensor]:
        with torch.random.fork_rng(devices=[]):
            model = assemble(parsed, "cpu", initialise=False)
        return {name: each.clone() for name, each in model.named_buffers() if not each.is_floating_point()}

    def of(name: str) -> Callable[[], torch.Tensor]:
        return lambda: made()[name]

    constants = {
        name: replace(each, values=of(name)) if each.values is None and name in names else each
        for name, each in graph.constants.items()
    }
    return replace(graph, constants=constants)


def indices_of(layout: Layout) -> Mapping[str, torch.Tensor]:
    """Return the tensors of our state dict by which tables are read."""
    found = {}
    for held in (each for layer in layout.layers for each in layer.slots.values()):
        index = held.index.constant if held.index is not None else None
        if index is not None and index.parameter is not None and index.values is not None:
            found[index.parameter] = index.values()
    return found


class Reading(NamedTuple):
    """One way in which the model reads a table.

    Attributes:
        held: the table as it is read.
        seen: what is read.
        source: what that is in the file.
    """

    held: Held
    seen: torch.Tensor
    source: Held | None

    @property
    def single(self) -> bool:
        """Whether each entry is the same wherever it is taken."""
        return agrees(self.held, self.held.undone(self.seen), self.seen)


def agrees(held: Held, table: torch.Tensor, seen: torch.Tensor) -> bool:
    """Tell whether a table gives what was read."""
    return bit_equal(held.seen(table).contiguous(), seen.reshape(held.shape).contiguous())


def completed(readings: Sequence[Reading]) -> tuple[torch.Tensor, int]:
    """Return a table from all that is read of it, and how many numbers it lacks.

    Of an entry that is read in several ways it has what the first one gives; one that is never read is that of the
    file, where it has the table, or zero.
    """
    first = readings[0]
    table = first.held.undone(first.seen)
    known = torch.zeros(table.shape, dtype=torch.bool)
    for each in readings:
        read = each.held.undone(torch.ones(each.held.shape)) != 0
        table = torch.where(read & ~known, each.held.undone(each.seen), table)
        known |= read
    lacking = int((~known).sum())
    for source in (each.source for each in readings if lacking):
        if source is not None and source.index is not None and source.constant.values is not None:
            whole = source.constant.values().to(table.dtype)
            if whole.shape == table.shape and all(agrees(each.held, whole, each.seen) for each in readings):
                return whole, 0
    return table, lacking
