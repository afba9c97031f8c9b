"""The nodes of a graph, each after those whose results it takes, in whatever order a file has them."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from zoo.errors import AlignmentError
from zoo.weights.alignment.graph import Graph, Node


def ordered(graph: Graph, path: Path) -> list[Node]:
    """Return the nodes that the outputs need, sorted; of those that could come next, the one that the file has first.

    Raises:
        AlignmentError: two nodes give the same, one takes what nothing gives, or they go round in a circle.
    """
    makers = _makers(graph, path)
    return _sorted(graph, makers, _needed(graph, makers, path), path)


def all_ordered(graph: Graph, path: Path) -> list[Node]:
    """Return every node, sorted, also those that no output needs: a runtime may run them all the same.

    Raises:
        AlignmentError: two nodes give the same, or they go round in a circle.
    """
    return _sorted(graph, _makers(graph, path), set(range(len(graph.nodes))), path)


def _makers(graph: Graph, path: Path) -> dict[str, int]:
    makers: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        for name in node.outputs:
            if name and (name in makers or name in graph.constants or name in graph.inputs):
                raise AlignmentError(path, f"has two values called {name!r}", f"{node.op} {node.name!r}")
            if name:
                makers[name] = index
    return makers


def _sorted(graph: Graph, makers: Mapping[str, int], among: set[int], path: Path) -> list[Node]:
    waiting = {index: len({makers[n] for n in graph.nodes[index].inputs if n in makers}) for index in among}
    takers: dict[int, set[int]] = defaultdict(set)
    for index in among:
        for name in graph.nodes[index].inputs:
            if name in makers:
                takers[makers[name]].add(index)
    ready = [index for index, count in waiting.items() if not count]
    heapq.heapify(ready)
    found = []
    while ready:
        index = heapq.heappop(ready)
        found.append(graph.nodes[index])
        for taker in takers[index]:
            waiting[taker] -= 1
            if not waiting[taker]:
                heapq.heappush(ready, taker)
    if len(found) < len(among):
        raise AlignmentError(path, "has nodes that take what they give, in a circle")
    return found


def _needed(graph: Graph, makers: Mapping[str, int], path: Path) -> set[int]:
    needed: set[int] = set()
    wanted = [(name, "an output") for name in graph.outputs]
    while wanted:
        name, by = wanted.pop()
        if name in makers:
            index = makers[name]
            if index not in needed:
                needed.add(index)
                node = graph.nodes[index]
                wanted += [(each, f"{node.op} {node.name!r}") for each in node.inputs if each]
        elif name not in graph.constants and name not in graph.inputs:
            raise AlignmentError(path, f"needs {name!r}, which nothing gives", by)
    return needed
