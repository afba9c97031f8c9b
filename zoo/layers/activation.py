"""Activations by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from torch import nn

ActivationName = Literal[
    "relu", "relu6", "leaky_relu", "elu", "gelu", "silu", "mish", "hardswish", "tanh", "sigmoid", "softplus", "identity"
]

_MAKERS: Mapping[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "relu6": lambda: nn.ReLU6(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(inplace=True),
    "elu": lambda: nn.ELU(inplace=True),
    "gelu": nn.GELU,
    "silu": lambda: nn.SiLU(inplace=True),
    "mish": lambda: nn.Mish(inplace=True),
    "hardswish": lambda: nn.Hardswish(inplace=True),
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "identity": nn.Identity,
}


def activation_maker(name: ActivationName) -> Callable[[], nn.Module]:
    """Return what makes the activation.

    It may overwrite its input, which nothing else may read afterwards.

    >>> activation_maker("relu")()
    ReLU(inplace=True)
    """
    return _MAKERS[name]
