"""timm: the models of the library timm as backbones, through its ``features_only``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from zoo.errors import PartError, UnknownNameError

if TYPE_CHECKING:
    from torch import nn

    from zoo.features import Feature


class _Timm:
    """The namespace ``timm``."""

    distribution = "timm"

    def names(self, kind: str) -> Sequence[str]:
        """Return the names of all of timm's models, which are all candidates for a backbone."""
        import timm

        return timm.list_models() if kind == "backbone" else []

    def component(self, kind: str, name: str) -> Callable[..., nn.Module]:
        """Return what builds one of them.

        Raises:
            UnknownNameError: timm has no such model, or the kind is another than backbone.
        """
        if name not in self.names(kind):
            from registry import nearest

            known = self.names(kind)
            raise UnknownNameError(kind, f"timm:{name}", (), nearest(name, known), f"; timm has {len(known)}")
        return _backbone(name)

    def whole(self, kind: str, name: str) -> Sequence[nn.Module]:
        """Return timm's own model with its classifier, and without.

        One that has none by itself may be trained with one nevertheless.
        """
        import timm

        usual: Any = timm.create_model(name, pretrained=False)
        if not getattr(usual, "num_classes", None):
            usual = timm.create_model(name, pretrained=False, num_classes=1000)
        return [usual, timm.create_model(name, pretrained=False, num_classes=0)]

    def made_for(self, kind: str, name: str) -> Sequence[int]:
        """Return the channels and the size of the input that one of them was made for."""
        channels, size, _ = made_for(name)
        return channels, *size


TIMM = _Timm()
"""What the entry point names."""


def _backbone(name: str) -> Callable[..., nn.Module]:
    def build(
        in_channels: int,
        in_size: tuple[int, ...] | None = None,
        initialise: bool = True,
        out_indices: tuple[int, ...] | None = None,
        pretrained: bool = False,
        pooled: bool = False,
    ) -> Any:
        """Build a model of timm without its classifier; it gives maps, or the vector that the classifier takes.

        Source: https://github.com/huggingface/pytorch-image-models; the paper of each model stands in its file there.
        A model whose size is fixed is built for ``in_size``, or for the size that it was trained on.

        Args:
            in_channels: channels of the input.
            in_size: spatial size of the input, where it is known.
            initialise: False leaves the weights of timm aside, for others are about to come.
            out_indices: which of its maps to give, counted from 0 at the shallowest; None gives all.
            pretrained: start from timm's weights, downloaded if they are not in its cache.
            pooled: give one vector instead of maps, pooled as timm does it, norms and layers after that included: what
                ``timm.create_model(name, num_classes=0)`` gives. The ``linear`` head is then timm's classifier.

        Shape:
            ``(N, in_channels, H, W)`` → one map for each of ``out_indices``, channels first; ``(N, C)`` if ``pooled``.

        Raises:
            PartError: the model gives no maps, or has no weights, or they cannot be had.
            ShapeError: it does not take such an input, or has no such maps.
        """
        if pooled:
            return _build_pooled(name, in_channels, in_size, initialise, out_indices, pretrained)
        return _build(name, in_channels, in_size, initialise, out_indices, pretrained)

    build.__qualname__ = build.__name__ = name
    return build


def _build(
    name: str,
    in_channels: int,
    in_size: tuple[int, ...] | None,
    initialise: bool,
    out_indices: tuple[int, ...] | None,
    pretrained: bool,
) -> nn.Module:
    from dataclasses import replace

    from zoo.layers.extractor import Extractor, chosen, measured, plane

    where = f"timm:{name}"
    usual_channels, usual_size, fixed = made_for(name)
    size = plane(in_size, where) or usual_size
    levels = measured(
        where, lambda channels, hw: measure(name, channels, hw), in_channels, size, (usual_channels, usual_size)
    )
    if in_size is None and not fixed:
        levels = tuple(replace(level, size=None) for level in levels)
    indices = chosen(out_indices, levels, where)
    network = _network(name, in_channels, size, tuple(_taps(name)[i] for i in indices), pretrained, initialise)
    return Extractor(network, tuple(levels[i] for i in indices), [_channels_last(network)] * len(indices), where)


def _build_pooled(
    name: str,
    in_channels: int,
    in_size: tuple[int, ...] | None,
    initialise: bool,
    out_indices: tuple[int, ...] | None,
    pretrained: bool,
) -> nn.Module:
    from zoo.layers.extractor import vector_extractor

    return vector_extractor(
        f"timm:{name}",
        lambda channels, size: measure_pooled(name, channels, size),
        lambda size: _network(name, in_channels, size, None, pretrained, initialise),
        in_channels,
        in_size,
        made_for(name)[:2],
        out_indices,
    )


def _network(
    name: str,
    in_channels: int,
    size: tuple[int, ...],
    taps: tuple[int, ...] | None,
    pretrained: bool,
    initialise: bool,
) -> nn.Module:
    """Return a model with its weights if they are asked for, and no others are about to come."""
    import torch

    if pretrained:
        _require_weights(name)
    download = pretrained and initialise and torch.get_default_device().type != "meta"
    return (_create_with_weights if download else _create)(name, in_channels, size, taps)


def _create(
    name: str, in_channels: int, size: tuple[int, ...], taps: tuple[int, ...] | None, pretrained: bool = False
) -> nn.Module:
    """Return a model of timm that gives some of its maps, or its vector if ``taps`` is None."""
    import timm

    from zoo.ghost import still

    options: dict[str, Any] = {"img_size": size} if made_for(name)[2] else {}
    options |= {"num_classes": 0} if taps is None else {"features_only": True, "out_indices": taps}
    with still():
        network: nn.Module = timm.create_model(name, pretrained=pretrained, in_chans=in_channels, **options)
    return network


def _create_with_weights(name: str, in_channels: int, size: tuple[int, ...], taps: tuple[int, ...] | None) -> nn.Module:
    try:
        return _create(name, in_channels, size, taps, pretrained=True)
    except (OSError, RuntimeError, ValueError, LookupError) as cause:
        raise PartError(
            f"timm:{name}",
            f"its weights cannot be had ({type(cause).__name__}: {cause}); look at the network, or build it with "
            "pretrained false",
        ) from cause


def _require_weights(name: str) -> None:
    from timm.models import get_pretrained_cfg

    source = get_pretrained_cfg(name)
    if source is None or not source.has_weights:
        raise PartError(f"timm:{name}", "timm has no weights for it; build it with pretrained false")


def made_for(name: str) -> tuple[int, tuple[int, ...], bool]:
    """Return the channels and the spatial size that a model was made for, and whether its size is fixed when built."""
    from timm.models import get_pretrained_cfg

    source = get_pretrained_cfg(name)
    if source is None:
        return 3, (224, 224), False
    channels, *size = source.input_size
    return channels, tuple(size), bool(source.fixed_input_size)


@lru_cache(maxsize=256)
def _taps(name: str) -> tuple[int, ...]:
    """Return timm's numbers of the maps of a model: all but those that timm describes and cannot give.

    Raises:
        RuntimeError: (or another of ``FAULTS``) it has none.
    """
    import torch

    channels, size, _ = made_for(name)
    with torch.device("meta"):
        try:
            described: Any = _create(name, channels, size, (0,)).feature_info
        except AssertionError:  # TResNet describes its first map, but no module of it ends there
            described = _create(name, channels, size, (1,)).feature_info
    return tuple(number for number, tap in enumerate(described.info) if tap["module"])


@lru_cache(maxsize=256)
def measure(name: str, in_channels: int, size: tuple[int, ...]) -> tuple[Feature, ...]:
    """Return every feature of a model, from a run on the meta device.

    Raises:
        RuntimeError: (or another of ``FAULTS``) the model has no maps or does not take such an input.
        ValueError: its maps are not what timm declares.
    """
    import torch

    from zoo.features import Feature
    from zoo.layers.extractor import Extractor, shapes

    taps = _taps(name)
    with torch.device("meta"):
        network = _create(name, in_channels, size, taps).eval()
    declared: Any = network.feature_info  # CoaT names one module for several of its maps
    extractor = Extractor(network, (), [_channels_last(network)] * len(taps), f"timm:{name}")
    found = shapes(extractor.maps, in_channels, size)
    if [shape[1] for shape in found] != declared.channels():
        raise ValueError(f"timm declares {declared.channels()} channels; it gives {[shape[1] for shape in found]}")
    modules = declared.module_name()
    names = [
        module if modules.count(module) == 1 else f"{module}[{modules[:number].count(module)}]"
        for number, module in enumerate(modules)
    ]
    return tuple(
        Feature(name, shape[1], stride, shape[2:])
        for name, stride, shape in zip(names, declared.reduction(), found, strict=True)
    )


@lru_cache(maxsize=256)
def measure_pooled(name: str, in_channels: int, size: tuple[int, ...]) -> tuple[Feature]:
    """Return the vector of a model, from a run on the meta device.

    Raises:
        RuntimeError: (or another of ``FAULTS``) the model does not take such an input.
        ValueError: it gives no vector.
    """
    import torch

    from zoo.layers.extractor import pooled

    with torch.device("meta"):
        network = _create(name, in_channels, size, None).eval()
    return pooled(network, in_channels, size, f"timm:{name}")


def family(name: str) -> str:
    """Return the file of timm that a model stands in: ``"resnet"`` for ``wide_resnet50_2``."""
    from timm.models import model_entrypoint

    return model_entrypoint(name).__module__.rpartition(".")[2]


def _channels_last(network: nn.Module) -> bool:
    return getattr(network, "output_fmt", "NCHW") == "NHWC"
