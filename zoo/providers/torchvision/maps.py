"""The maps of a model of torchvision, one for each stride, through its ``feature_extraction``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from zoo.errors import PartError
from zoo.providers.torchvision.models import fresh, made_for, model_of, take_channels

if TYPE_CHECKING:
    from torch import fx, nn

    from zoo.features import Feature

_PROBES = (224, 448)
"""Two input sizes that tell maps from everything else: apart by a multiple of every stride and of MaxViT's windows."""


@dataclass(frozen=True)
class _Level:
    """The map of one stride: the node of the traced graph that gives it, and how."""

    node: str
    stride: int
    channels_last: bool


def build(
    name: str,
    in_channels: int,
    in_size: tuple[int, ...] | None,
    initialise: bool,
    out_indices: tuple[int, ...] | None,
    pretrained: bool,
) -> nn.Module:
    """Return the backbone that the namespace promises, for maps.

    Raises:
        PartError: the model gives no maps, or its weights cannot be had.
        ShapeError: it does not take such an input, or has no such maps.
    """
    from dataclasses import replace

    from zoo.layers.extractor import Extractor, chosen, measured, plane

    where = f"torchvision:{name}"
    levels = _levels(name)
    usual_channels, usual_size, fixed = made_for(name)
    size = plane(in_size, where) or usual_size
    features = measured(
        where, lambda channels, hw: measure(name, channels, hw), in_channels, size, (usual_channels, usual_size)
    )
    if in_size is None and not fixed:
        features = tuple(replace(feature, size=None) for feature in features)
    indices = chosen(out_indices, features, where)
    model = model_of(name, in_channels, size, pretrained, initialise)
    network = _extract(model, [levels[i].node for i in indices])
    extractor = Extractor(
        network, tuple(features[i] for i in indices), [levels[i].channels_last for i in indices], where
    )
    extractor.register_forward_pre_hook(_follow_mode)
    return extractor


def _extract(model: nn.Module, nodes: Sequence[str]) -> nn.Module:
    import torch
    from torchvision.models.feature_extraction import create_feature_extractor

    # What a trace computes by itself becomes a constant of the graph: not on the meta device.
    with torch.device("cpu"):
        network: nn.Module = create_feature_extractor(model, list(nodes), suppress_diff_warning=True)
    return network


def _follow_mode(extractor: nn.Module, _: tuple[Any, ...]) -> None:
    """Run the graph of the mode that a network is in; it notices ``train()`` alone, not ``training = False``."""
    network: Any = extractor.network
    wanted = network.train_graph if network.training else network.eval_graph
    if network.graph is not wanted:
        network.graph = wanted


@lru_cache(maxsize=256)
def _levels(name: str) -> tuple[_Level, ...]:
    """Return one level for each stride of a model, from two runs of its traced graph on the meta device.

    A map is an output whose height and width grow with the input, and whose channels grow with nothing, the number of
    classes included. The map of a stride is the last one that no path through the network passes by: the end of a
    block rather than a branch of the next. None of this depends on the size that the model is then built for.

    Raises:
        PartError: it cannot be traced, or it has no maps.
    """
    import torch
    from torchvision.models.feature_extraction import get_graph_node_names

    from zoo.layers.extractor import FAULTS

    where = f"torchvision:{name}"
    small, large = _PROBES
    try:
        with torch.device("meta"), torch.no_grad():
            model = fresh(name, (small, small), num_classes=10).eval()
            training, evaluating = get_graph_node_names(model, suppress_diff_warning=True)
            network: Any = _extract(model, [node for node in evaluating if node in set(training)]).eval()
            before = network(torch.empty(1, 3, small, small))
            narrows = [node for node in _narrows(network.eval_graph) if getattr(before[node], "ndim", 0) == 4]
            after = {}
            if narrows:
                larger = _extract(fresh(name, (large, large), num_classes=11), narrows).eval()
                after = larger(torch.empty(1, 3, large, large))
    except FAULTS as cause:
        raise PartError(where, f"cannot be a backbone: {type(cause).__name__}: {cause}") from cause
    modules = dict(model.named_modules())
    last: dict[int, _Level] = {}
    for node in narrows:
        level = _level(node, before[node].shape, after[node].shape)
        if level is not None and not _drops(modules.get(node)):
            last[level.stride] = level
    levels = tuple(sorted(last.values(), key=lambda level: level.stride))
    if not levels:
        raise PartError(
            where,
            "cannot be a backbone: it computes with tokens; no map (N, C, H, W) is there that all of it passes "
            "through; pooled gives its vector",
        )
    return levels


def _narrows(graph: fx.Graph) -> list[str]:
    """Return the nodes that everything on its way from the input to the end passes through, in order.

    Args:
        graph: one that returns a dict of its nodes by name.
    """
    steps = [node for node in graph.nodes if node.op not in ("get_attr", "output")]
    place = {node: number for number, node in enumerate(steps)}
    [end] = [node for node in graph.nodes if node.op == "output"]
    named = {node: name for name, node in end.args[0].items()}
    found, furthest = [], 0
    for number, node in enumerate(steps):
        if furthest <= number and node.op != "placeholder" and node in named:
            found.append(named[node])
        furthest = max([furthest, *(place[user] for user in node.users if user in place)])
    return found


def _level(node: str, small: Sequence[int], large: Sequence[int]) -> _Level | None:
    """Return the level that a node is, from the shapes that it gave for the two probes; None if that is no map."""
    if small[0] != 1:
        return None
    for height, channels in ((2, 1), (1, 3)):
        grown = {large[axis] - small[axis] for axis in (height, height + 1)}
        if large[channels] == small[channels] and len(grown) == 1 and grown != {0}:
            stride, rest = divmod(_PROBES[1] - _PROBES[0], grown.pop())
            return None if rest else _Level(node, stride, channels_last=channels == 3)
    return None


def _drops(module: nn.Module | None) -> bool:
    from torch import nn

    return isinstance(module, nn.Dropout)


@lru_cache(maxsize=256)
def measure(name: str, in_channels: int, size: tuple[int, ...]) -> tuple[Feature, ...]:
    """Return every feature of a model, from a run on the meta device.

    Raises:
        RuntimeError: (or another of ``FAULTS``) it does not take such an input.
    """
    import torch

    from zoo.features import Feature
    from zoo.layers.extractor import Extractor, shapes

    levels = _levels(name)
    with torch.device("meta"):
        model = fresh(name, size)
        take_channels(model, in_channels)
        network = _extract(model, [level.node for level in levels]).eval()
    extractor = Extractor(network, (), [level.channels_last for level in levels], f"torchvision:{name}")
    found = shapes(extractor.maps, in_channels, size)
    return tuple(
        Feature(level.node, shape[1], level.stride, shape[2:]) for level, shape in zip(levels, found, strict=True)
    )
