"""torchvision: the classification models of torchvision as backbones, through its ``feature_extraction``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from zoo.errors import PartError, UnknownNameError

if TYPE_CHECKING:
    from torch import fx, nn

    from zoo.features import Feature

_PROBES = (224, 448)
"""Two input sizes that tell maps from everything else: apart by a multiple of every stride and of MaxViT's windows."""

_FIXED_SIZE: Mapping[str, tuple[str, Callable[[tuple[int, ...]], Any]]] = {
    "maxvit": ("input_size", tuple),
    "vision_transformer": ("image_size", max),
}
"""Families whose models are built for one size: what they call it, and what they make of height and width."""

_TWO_STARTS = frozenset({"googlenet", "inception"})
"""Families that warn unless ``init_weights`` is stated, and have classifiers on the way that only training uses."""


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

    def whole(self, kind: str, name: str) -> Sequence[nn.Module]:
        """Return torchvision's own model, and for one that has classifiers on its way, that without them."""
        size = made_for(name)[1]
        return [_fresh(name, size, aux=aux) for aux in ((True, False) if family(name) in _TWO_STARTS else (False,))]


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
    usual_channels, usual_size, fixed = made_for(name)
    size = plane(in_size, where) or usual_size
    features = measured(
        where, lambda channels, hw: measure(name, channels, hw), in_channels, size, (usual_channels, usual_size)
    )
    if in_size is None and not fixed:
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


def made_for(name: str) -> tuple[int, tuple[int, ...], bool]:
    """Return the channels and the spatial size that a model is tried on, and whether its size is fixed when built."""
    return 3, (224, 224), family(name) in _FIXED_SIZE


def family(name: str) -> str:
    """Return the file of torchvision that a model stands in: ``"resnet"`` for ``wide_resnet50_2``."""
    from torchvision.models import get_model_builder

    return str(get_model_builder(name).__module__).rpartition(".")[2]


def _fresh(
    name: str, size: tuple[int, ...], *, initialise: bool = False, num_classes: int = 1, aux: bool = False
) -> nn.Module:
    from contextlib import ExitStack

    import torch
    from torchvision.models import get_model

    from zoo.ghost import parameters_on_meta

    stands_in = family(name)
    options: dict[str, Any] = {"num_classes": num_classes}
    if stands_in in _FIXED_SIZE:
        called, given = _FIXED_SIZE[stands_in]
        options[called] = given(size)
    if stands_in in _TWO_STARTS:
        options |= {"init_weights": initialise, "aux_logits": aux}
    meta = torch.get_default_device().type == "meta"
    with ExitStack() as stack:
        if meta:  # RegNet computes its widths with tensors, which need values: only parameters go to the meta device
            stack.enter_context(torch.device("cpu"))
            stack.enter_context(parameters_on_meta())
        model: nn.Module = get_model(name, weights=None, **options)
    return model.to("meta") if meta else model


def _trained(name: str, size: tuple[int, ...]) -> nn.Module:
    from torchvision.models import get_model

    from zoo.errors import ShapeError

    if made_for(name)[2] and size != (224, 224):
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
    found: tuple[str, Any] = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    path, first = found
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
    recoloured: Any = model
    if hasattr(recoloured, "transform_input"):
        recoloured.transform_input = False  # it recolours red, green and blue, which are not there


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
            model = _fresh(name, (small, small), num_classes=10).eval()
            training, evaluating = get_graph_node_names(model, suppress_diff_warning=True)
            network: Any = _extract(model, [node for node in evaluating if node in set(training)]).eval()
            before = network(torch.empty(1, 3, small, small))
            narrows = [node for node in _narrows(network.eval_graph) if getattr(before[node], "ndim", 0) == 4]
            after = {}
            if narrows:
                larger = _extract(_fresh(name, (large, large), num_classes=11), narrows).eval()
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
            "cannot be a backbone: it computes with tokens; no map (N, C, H, W) is there that all of it passes through",
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
        model = _fresh(name, size)
        _take_channels(model, in_channels)
        network = _extract(model, [level.node for level in levels]).eval()
    extractor = Extractor(network, (), [level.channels_last for level in levels], f"torchvision:{name}")
    found = shapes(extractor.maps, in_channels, size)
    return tuple(
        Feature(level.node, shape[1], level.stride, shape[2:]) for level, shape in zip(levels, found, strict=True)
    )
