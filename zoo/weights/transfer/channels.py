"""Another number of input channels: which convolution takes the input, and what its weight becomes."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList


def adapted(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """Return the weight of a convolution for another number of input channels.

    For one channel the weights are summed, so that a grey picture gives what it gave as a colour picture with that
    channel thrice. For more, the channels are repeated in turn and scaled, so that a constant input gives as much as
    before.

    Shape:
        ``(out, in, *kernel)`` → ``(out, channels, *kernel)``, computed in float64 and rounded once.

    >>> adapted(torch.tensor([[[1.0], [2.0], [3.0]]]), 1).flatten().tolist()
    [6.0]
    >>> adapted(torch.tensor([[[1.0], [2.0], [3.0]]]), 6).flatten().tolist()
    [0.5, 1.0, 1.5, 0.5, 1.0, 1.5]
    """
    wide, before = weight.double(), weight.shape[1]
    if channels == 1:
        return wide.sum(1, keepdim=True).to(weight.dtype)
    return (wide[:, torch.arange(channels) % before] * (before / channels)).to(weight.dtype)


def takes_input(given: torch.Tensor, before: int, expected: torch.Tensor, channels: int) -> bool:
    """Tell whether a tensor is the weight of a convolution that takes all channels of the input, in file and model."""
    same = given.dim() == expected.dim() > 2 and given.is_floating_point() and expected.is_floating_point()
    others = given.shape[:1] + given.shape[2:] == expected.shape[:1] + expected.shape[2:]
    return same and others and (given.shape[1], expected.shape[1]) == (before, channels)


def regrouped(former: nn.Module, planned: nn.Module) -> dict[str, str]:
    """Return the weights of convolutions whose groups are others, so that the same numbers mean something else."""
    before, after = (
        {path: m.groups for path, m in model.named_modules() if hasattr(m, "groups") and hasattr(m, "weight")}
        for model in (former, planned)
    )
    return {
        f"{path}.weight": f" in {groups} groups, not {before[path]}"
        for path, groups in after.items()
        if before.get(path, groups) != groups
    }


def computing(model: nn.Module) -> set[str]:
    """Return the parameters that a module computes its weight from, as weight norm does."""
    return {
        f"{path}.{name}"
        for path, module in model.named_modules()
        for name, _ in module.named_parameters(recurse=False)
        if isinstance(module, ParametrizationList) or (name != "weight" and hasattr(module, "weight"))
    }
