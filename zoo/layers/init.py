"""Initialisers, and modules made without the initialisation that they would lose at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar, cast

import torch
from pydantic import ConfigDict, NonNegativeFloat
from pydantic.dataclasses import dataclass
from torch import nn

InitName = Literal["default", "kaiming", "lecun", "xavier", "normal", "zeros"]

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Init:
    """How weights and biases of convolutions and linear layers start.

    Attributes:
        weight: ``default`` (torch's own), ``kaiming`` (normal, fan out, for ReLU: He et al., "Delving Deep into
            Rectifiers", ICCV 2015, section 2.2), ``lecun`` (uniform, fan in, for layers that nothing activates: LeCun
            et al., "Efficient BackProp", 1998, section 4.6), ``xavier`` (uniform: Glorot, Bengio, AISTATS 2010,
            section 4.2), ``normal`` (mean 0 and ``std``) or ``zeros``.
        std: standard deviation, for ``normal`` alone.
        bias: ``zeros``, or ``default`` (torch's own).
    """

    weight: InitName = "default"
    std: NonNegativeFloat = 0.02
    bias: Literal["default", "zeros"] = "zeros"


def initialise(module: nn.Module, init: InitName | Init) -> None:
    """Fill the weight and bias of a convolution or linear layer in place.

    A name alone, ``"kaiming"``, also sets biases to zero; ``"default"`` alone leaves all to torch.
    """
    plan = Init(weight=init, bias="default" if init == "default" else "zeros") if isinstance(init, str) else init
    weight, bias = cast("torch.Tensor", module.weight), cast("torch.Tensor | None", module.bias)
    if plan.weight == "default" or (plan.bias == "default" and bias is not None):
        module.reset_parameters()  # type: ignore[operator]
    match plan.weight:
        case "kaiming":
            nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")
        case "lecun":
            nn.init.kaiming_uniform_(weight, a=1)  # a leak of 1 is no activation at all
        case "xavier":
            nn.init.xavier_uniform_(weight)
        case "normal":
            nn.init.normal_(weight, 0.0, plan.std)
        case "zeros":
            nn.init.zeros_(weight)
        case "default":
            pass
    if plan.bias == "zeros" and bias is not None:
        nn.init.zeros_(bias)


def initialised(make: Callable[[torch.device], M], init: InitName | Init) -> M:
    """Make a layer and initialise it once.

    torch's layers initialise themselves in their constructor; a second initialisation on top doubles the time that a
    large model takes to build. Here the constructor runs on the meta device, where it costs nothing.

    Args:
        make: builds the layer on a given device.
        init: how it starts.

    >>> layer = initialised(lambda device: nn.Linear(4, 2, device=device), "zeros")
    >>> layer.weight.abs().sum().item()
    0.0
    """
    module = make(torch.device("meta"))
    device = torch.get_default_device()
    if device.type != "meta":
        module = module.to_empty(device=device)
        initialise(module, init)
    return module
