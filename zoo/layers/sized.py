"""Heads whose predictions depend on the size of the input, which they cannot tell from the features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


def needs_size(head: nn.Module) -> bool:
    """Tell whether a head takes the spatial size of the input besides the features: it says ``needs_size = True``."""
    return bool(getattr(head, "needs_size", False))


def predict(head: nn.Module, features: tuple[torch.Tensor, ...], size: Sequence[int] | None) -> Any:
    """Run a head.

    Args:
        head: the head.
        features: what goes in.
        size: spatial size of the input of the model, for a head that needs it.
    """
    return head(features, size) if needs_size(head) else head(features)
