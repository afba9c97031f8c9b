"""Whether a module runs eagerly, so that it may look at its input."""

from __future__ import annotations

import torch


def is_eager(x: torch.Tensor) -> bool:
    """Tell whether an input is a tensor of its own, and not one that stands for all while a graph is made."""
    tracing = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return not (tracing or isinstance(x, torch.fx.Proxy))
