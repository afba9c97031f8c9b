"""The classification models of torchvision, with or without weights, for any number of channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from zoo.errors import PartError

if TYPE_CHECKING:
    from torch import nn

_FIXED_SIZE: Mapping[str, tuple[str, Callable[[tuple[int, ...]], Any]]] = {
    "maxvit": ("input_size", tuple),
    "vision_transformer": ("image_size", max),
}
"""Families whose models are built for one size: what they call it, and what they make of height and width."""

TWO_STARTS = frozenset({"googlenet", "inception"})
"""Families that warn unless ``init_weights`` is stated, and have classifiers on the way that only training uses."""

_ON_THE_WAY = frozenset({"aux1", "aux2", "AuxLogits"})


def made_for(name: str) -> tuple[int, tuple[int, ...], bool]:
    """Return the channels and the spatial size that a model is tried on, and whether its size is fixed when built."""
    return 3, (224, 224), family(name) in _FIXED_SIZE


def family(name: str) -> str:
    """Return the file of torchvision that a model stands in: ``"resnet"`` for ``wide_resnet50_2``."""
    from torchvision.models import get_model_builder

    return str(get_model_builder(name).__module__).rpartition(".")[2]


def fresh(
    name: str, size: tuple[int, ...], *, initialise: bool = False, num_classes: int = 1, aux: bool = False
) -> nn.Module:
    """Return a model without trained weights; on the meta device where that is the default one."""
    from contextlib import ExitStack

    import torch
    from torchvision.models import get_model

    from zoo.ghost import parameters_on_meta

    stands_in = family(name)
    options: dict[str, Any] = {"num_classes": num_classes}
    if stands_in in _FIXED_SIZE:
        called, given = _FIXED_SIZE[stands_in]
        options[called] = given(size)
    if stands_in in TWO_STARTS:
        options |= {"init_weights": initialise, "aux_logits": aux}
    meta = torch.get_default_device().type == "meta"
    with ExitStack() as stack:
        if meta:  # RegNet computes its widths with tensors, which need values: only parameters go to the meta device
            stack.enter_context(torch.device("cpu"))
            stack.enter_context(parameters_on_meta())
        model: nn.Module = get_model(name, weights=None, **options)
    return model.to("meta") if meta else model


def model_of(name: str, in_channels: int, size: tuple[int, ...], pretrained: bool, initialise: bool) -> nn.Module:
    """Return a model for an input, with its weights if they are asked for, and no others are about to come."""
    import torch

    download = pretrained and initialise and torch.get_default_device().type != "meta"
    model = _trained(name, size) if download else fresh(name, size, initialise=initialise)
    if pretrained and hasattr(model, "transform_input"):
        recolouring: Any = model
        recolouring.transform_input = True  # its weights want it, whether they come from here or from a file
    take_channels(model, in_channels, adapt=download)
    return model


def _trained(name: str, size: tuple[int, ...]) -> nn.Module:
    from torchvision.models import get_model, get_model_weights

    from zoo.errors import ShapeError

    if made_for(name)[2]:
        trained_on = tuple(get_model_weights(name)["DEFAULT"].meta["min_size"])
        if size != trained_on:
            given, right = ("×".join(map(str, each)) for each in (size, trained_on))
            told = f"{right}, the one size that torchvision's weights of {name} fit; or pretrained false"
            raise ShapeError(f"an input of {given}", told)
    try:
        model: Any = get_model(name, weights="DEFAULT")
    except (OSError, RuntimeError, ValueError, LookupError) as cause:
        raise PartError(
            f"torchvision:{name}",
            f"its weights cannot be had ({type(cause).__name__}: {cause}); look at the network, or build it with "
            "pretrained false",
        ) from cause
    if family(name) in TWO_STARTS:  # trained weights come with the classifiers on the way
        model.aux_logits = False
        for each in _ON_THE_WAY & {child for child, _ in model.named_children()}:
            setattr(model, each, None)
    trained: nn.Module = model
    return trained


def take_channels(model: nn.Module, in_channels: int, *, adapt: bool = False) -> None:
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
