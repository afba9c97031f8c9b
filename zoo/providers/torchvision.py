"""torchvision: the classification models of torchvision as backbones, through its ``feature_extraction``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from zoo.errors import PartError, UnknownNameError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from zoo.features import Feature

_USUAL = (3, (224, 224))
"""The input on which a model is tried where the spec does not say more; every model takes it."""

_PROBES = ((224, 224), (448, 672))
"""Two input sizes that tell maps from everything else: apart by multiples of every stride and of MaxViT's windows."""

_FIXED_SIZE = frozenset({"maxvit_t"})
"""Models that are built for one size, ``input_size``."""

_TWO_STARTS = frozenset({"googlenet", "inception_v3"})
"""Models that warn unless ``init_weights`` is stated, and have classifiers on the way that only training uses."""


class _Torchvision:
    """The namespace ``torchvision``."""

    distribution = "torchvision"

    def names(self, kind: str) -> Sequence[str]:
        """Return the names of all of torchvision's classification models, which are all candidates for a backbone."""
        import torchvision.models

        return torchvision.models.list_models(module=torchvision.models) if kind == "backbone" else []

    def component(self, kind: str, name: str) -> Callable[..., nn.Module]:
        """Return what builds one of them.

        Raises:
            UnknownNameError: torchvision has no such model, or the kind is another than backbone.
        """
        known = self.names(kind)
        if name not in known:
            from registry import nearest

            raise UnknownNameError(kind, f"torchvision:{name}", known, nearest(name, known))
        return _backbone(name)


TORCHVISION = _Torchvision()
"""What the entry point names."""


def _backbone(name: str) -> Callable[..., nn.Module]:
    def build(
        in_channels: int,
        in_size: tuple[int, ...] | None = None,
        initialise: bool = True,
        out_indices: tuple[int, ...] | None = None,
        pretrained: bool = False,
    ) -> Any:
        """Build a model of torchvision without its classifier; it gives one map for each stride.

        Source: https://github.com/pytorch/vision; the paper of each model stands in its file there. The map of a
        stride is the last one that the model computes at it, in inference as in training, dropout left out. An input
        with other than three channels gets a new first convolution; trained weights are summed for one channel, and
        repeated and scaled for several.

        Args:
            in_channels: channels of the input.
            in_size: spatial size of the input, where it is known.
            initialise: False leaves the weights of torchvision aside, for others are about to come.
            out_indices: which of its maps to give, counted from 0 at the shallowest; None gives all.
            pretrained: start from torchvision's default weights, downloaded if they are not in its cache.

        Shape:
            ``(N, in_channels, H, W)`` → one map for each of ``out_indices``, channels first.

        Raises:
            PartError: the model gives no maps, or its weights cannot be had.
            ShapeError: it does not take such an input, or has no such maps.
        """
        return _build(name, in_channels, in_size, initialise, out_indices, pretrained)

    build.__qualname__ = build.__name__ = name
    return build


@dataclass(frozen=True)
class _Level:
    """The map of one stride: the node of the traced graph that gives it, and how."""

    node: str
    stride: int
    channels_last: bool


def _build(
    name: str,
    in_channels: int,
    in_size: tuple[int, ...] | None,
    initialise: bool,
    out_indices: tuple[int, ...] | None,
    pretrained: bool,
) -> nn.Module:
    from dataclasses import replace

    import torch

    from zoo.layers.extractor import Extractor, chosen, measured, plane

    where = f"torchvision:{name}"
    levels = _levels(name)
    size = plane(in_size, where) or _USUAL[1]
    features = measured(where, lambda channels, hw: _measure(name, channels, hw), in_channels, size, _USUAL)
    if in_size is None and name not in _FIXED_SIZE:
        features = tuple(replace(feature, size=None) for feature in features)
    indices = chosen(out_indices, features, where)
    download = pretrained and initialise and torch.get_default_device().type != "meta"
    model = _trained(name, size) if download else _fresh(name, size, initialise=initialise)
    _take_channels(model, in_channels, adapt=download)
    network = _extract(model, [levels[i].node for i in indices])
    extractor = Extractor(
        network, tuple(features[i] for i in indices), [levels[i].channels_last for i in indices], where
    )
    extractor.register_forward_pre_hook(_follow_mode)
    return extractor


def _fresh(name: str, size: tuple[int, ...], *, initialise: bool = False, num_classes: int = 1) -> nn.Module:
    from torchvision.models import get_model

    options: dict[str, Any] = {"num_classes": num_classes}
    if name in _FIXED_SIZE:
        options["input_size"] = size
    if name in _TWO_STARTS:
        options |= {"init_weights": initialise, "aux_logits": False}
    model: nn.Module = get_model(name, weights=None, **options)
    return model


def _trained(name: str, size: tuple[int, ...]) -> nn.Module:
    from torchvision.models import get_model

    from zoo.errors import ShapeError

    if name in _FIXED_SIZE and size != _USUAL[1]:
        raise ShapeError(
            f"an input of {'×'.join(str(n) for n in size)}",
            f"224×224, the one size that torchvision's weights of {name} fit; or pretrained false",
        )
    try:
        model: nn.Module = get_model(name, weights="DEFAULT")
    except (OSError, RuntimeError, ValueError, LookupError) as cause:
        raise PartError(
            f"torchvision:{name}",
            f"its weights cannot be had ({type(cause).__name__}: {cause}); look at the network, or build it with "
            "pretrained false",
        ) from cause
    return model


def _take_channels(model: nn.Module, in_channels: int, *, adapt: bool = False) -> None:
    """Give a model a first convolution for another number of channels; ``adapt`` keeps what its weights have learnt."""
    import torch
    from torch import nn

    if in_channels == 3:
        return
    path, first = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    wanted = nn.Conv2d(
        in_channels, first.out_channels, first.kernel_size, first.stride, first.padding, first.dilation,
        bias=first.bias is not None, padding_mode=first.padding_mode,
    )  # fmt: skip
    if adapt:
        with torch.no_grad():
            grey = first.weight.sum(dim=1, keepdim=True)
            copies = first.weight.repeat(1, -(-in_channels // 3), 1, 1)[:, :in_channels] * (3 / in_channels)
            wanted.weight.copy_(grey if in_channels == 1 else copies)
            if first.bias is not None and wanted.bias is not None:
                wanted.bias.copy_(first.bias)
    model.set_submodule(path, wanted)
    if getattr(model, "transform_input", False):
        model.transform_input = False  # it recolours red, green and blue, which are not there


def _extract(model: nn.Module, nodes: Sequence[str]) -> nn.Module:
    import torch
    from torchvision.models.feature_extraction import create_feature_extractor

    # What a trace computes by itself becomes a constant of the graph: not on the meta device.
    with torch.device("cpu"):
        network: nn.Module = create_feature_extractor(model, list(nodes), suppress_diff_warning=True)
    return network


def _follow_mode(extractor: nn.Module, _: tuple[torch.Tensor, ...]) -> None:
    """Run the graph of the mode that a network is in; it notices ``train()`` alone, not ``training = False``."""
    network: Any = extractor.network
    wanted = network.train_graph if network.training else network.eval_graph
    if network.graph is not wanted:
        network.graph = wanted


@lru_cache(maxsize=256)
def _levels(name: str) -> tuple[_Level, ...]:
    """Return one level for each stride of a model, from two runs of its traced graph on the meta device.

    A map is an output whose height and width grow with the input, and whose channels grow with nothing, the number of
    classes included. Nothing of this depends on the size that the model is then built for.

    Raises:
        PartError: it cannot be traced, or it has no maps, or most of its layers come after the last.
    """
    import torch
    from torchvision.models.feature_extraction import get_graph_node_names

    from zoo.layers.extractor import FAULTS

    where = f"torchvision:{name}"
    runs: list[Mapping[str, Any]] = []
    try:
        for classes, size in enumerate(_PROBES, start=10):
            with torch.device("meta"), torch.no_grad():
                model = _fresh(name, size, num_classes=classes)
                training, evaluating = get_graph_node_names(model, suppress_diff_warning=True)
                nodes = [node for node in evaluating if node in training]
                runs.append(_extract(model.eval(), nodes).eval()(torch.empty(1, 3, *size)))
    except FAULTS as cause:
        raise PartError(where, f"cannot be a backbone: {type(cause).__name__}: {cause}") from cause
    last: dict[int, _Level] = {}
    for node in nodes[1:]:  # the first is the input
        level = _level(node, *(run[node] for run in runs))
        if level is not None and not _drops(model, node):
            last[level.stride] = level
    levels = tuple(sorted(last.values(), key=lambda level: level.stride))
    if not levels:
        raise PartError(where, "cannot be a backbone: nothing that it computes is a map (N, C, H, W)")
    place = nodes.index(levels[-1].node) + 1
    if place <= len(nodes) // 2:
        raise PartError(
            where,
            f"cannot be a backbone: its last map is step {place} of {len(nodes)}, {levels[-1].node!r}; after it come "
            "tokens without height and width",
        )
    return levels


def _level(node: str, small: Any, large: Any) -> _Level | None:
    """Return the level that a node is, from what it gave for the two probes; None if that is no map."""
    if any(getattr(given, "ndim", 0) != 4 or given.shape[0] != 1 for given in (small, large)):
        return None
    grown = tuple(after - before for before, after in zip(_PROBES[0], _PROBES[1], strict=True))
    for height, channels in ((2, 1), (1, 3)):
        more = [large.shape[axis] - small.shape[axis] for axis in (height, height + 1)]
        if large.shape[channels] == small.shape[channels] and all(more):
            strides = {each / step for each, step in zip(grown, more, strict=True)}
            stride = strides.pop()
            if not strides and stride.is_integer():
                return _Level(node, int(stride), channels_last=channels == 3)
    return None


def _drops(model: nn.Module, node: str) -> bool:
    from torch import nn

    return isinstance(dict(model.named_modules()).get(node), nn.Dropout)


@lru_cache(maxsize=256)
def _measure(name: str, in_channels: int, size: tuple[int, ...]) -> tuple[Feature, ...]:
    """Return every feature of a model, from a run on the meta device.

    Raises:
        RuntimeError: (or another of ``FAULTS``) it does not take such an input.
    """
    import torch

    from zoo.features import Feature
    from zoo.layers.extractor import Extractor, shapes

    levels = _levels(name)
    with torch.device("meta"):
        model = _fresh(name, size)
        _take_channels(model, in_channels)
        network = _extract(model, [level.node for level in levels]).eval()
    extractor = Extractor(network, (), [level.channels_last for level in levels], f"torchvision:{name}")
    found = shapes(extractor.maps, in_channels, size)
    return tuple(
        Feature(level.node, shape[1], level.stride, shape[2:]) for level, shape in zip(levels, found, strict=True)
    )
