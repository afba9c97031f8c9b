"""Tensors: those of an output, whatever its form, and how two models are compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from zoo.testing.report import fail
from zoo.weights.parity import compare


def tensors_of(output: Any, name: str = "output") -> dict[str, torch.Tensor]:
    """Return every tensor of an output by its place in it, through tuples, lists, dicts and dataclasses.

    >>> list(tensors_of((torch.zeros(1), {"boxes": torch.zeros(2)})))
    ['output[0]', "output[1]['boxes']"]
    """
    if isinstance(output, torch.Tensor):
        return {name: output}
    if isinstance(output, Mapping):
        places = {f"{name}[{key!r}]": value for key, value in output.items()}
    elif isinstance(output, list | tuple):
        places = {f"{name}[{index}]": value for index, value in enumerate(output)}
    elif dataclasses.is_dataclass(output):
        places = {f"{name}.{f.name}": getattr(output, f.name) for f in dataclasses.fields(output)}
    else:
        places = {}
    return {place: tensor for key, value in places.items() for place, tensor in tensors_of(value, key).items()}


def require_same(left: Mapping[str, torch.Tensor], right: Mapping[str, torch.Tensor], why: str) -> None:
    """End the check unless two sets of tensors are the same, bit for bit."""
    found = compare(left, right)
    if found.differing:
        fail(f"{why}: {', '.join(found.differing[:3])}{' …' if len(found.differing) > 3 else ''}")


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Fill every parameter and buffer with random numbers of a sane size: fresh BatchNorm statistics hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in module.state_dict(keep_vars=True).values():
            if tensor.is_floating_point():  # positive, for a variance has to be
                scale = max(1, tensor[0].numel() if tensor.dim() > 1 else 1) ** -0.5
                tensor.copy_((torch.rand(tensor.shape, generator=generator) + 0.5) * scale)
            elif not tensor.is_complex() and tensor.dtype != torch.bool and tensor.dim() == 0:
                tensor.fill_(int(torch.randint(100, (), generator=generator)))


def state_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of every tensor of a module, the buffers that no state dict holds included."""
    state = {**module.state_dict(), **dict(module.named_buffers())}
    return {name: tensor.detach().clone() for name, tensor in state.items()}
