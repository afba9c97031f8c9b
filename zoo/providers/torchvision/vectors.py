"""A model of torchvision without the last layer of its classifier, which gives one vector."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from zoo.providers.torchvision.models import made_for, model_of

if TYPE_CHECKING:
    from torch import nn

    from zoo.features import Feature


def build(
    name: str,
    in_channels: int,
    in_size: tuple[int, ...] | None,
    initialise: bool,
    out_indices: tuple[int, ...] | None,
    pretrained: bool,
) -> nn.Module:
    """Return the backbone that the namespace promises for ``pooled``.

    Raises:
        PartError: the model has no such vector, or its weights cannot be had.
        ShapeError: it does not take such an input, or ``out_indices`` are stated.
    """
    from zoo.layers.extractor import vector_extractor

    return vector_extractor(
        f"torchvision:{name}",
        lambda channels, size: measure(name, channels, size),
        lambda size: _headless(model_of(name, in_channels, size, pretrained, initialise)),
        in_channels,
        in_size,
        made_for(name)[:2],
        out_indices,
    )


@lru_cache(maxsize=256)
def measure(name: str, in_channels: int, size: tuple[int, ...]) -> tuple[Feature]:
    """Return the vector of a model, from a run on the meta device.

    Raises:
        RuntimeError: (or another of ``FAULTS``) the model does not take such an input.
        ValueError: it has no vector.
    """
    import torch

    from zoo.layers.extractor import pooled

    with torch.device("meta"):
        network = _headless(model_of(name, in_channels, size, pretrained=False, initialise=False)).eval()
    return pooled(network, in_channels, size, f"torchvision:{name}")


def _headless(model: nn.Module) -> nn.Module:
    """Take the last layer of its classifier off a model.

    Raises:
        ValueError: it is no linear layer.
    """
    from torch import nn

    path, last = [(path, module) for path, module in model.named_modules() if not list(module.children())][-1]
    if not isinstance(last, nn.Linear):
        raise ValueError(f"its classifier ends in {type(last).__name__}, not in a linear layer, so it has no vector")
    model.set_submodule(path, nn.Identity())
    return model
