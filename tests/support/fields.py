"""What a network really sees, by the gradient, in a form in which nothing cancels out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from zoo.anatomy.record import Output

_AVERAGES = {nn.MaxPool1d: nn.AvgPool1d, nn.MaxPool2d: nn.AvgPool2d, nn.MaxPool3d: nn.AvgPool3d}


def positive(network: nn.Module) -> nn.Module:
    """Make each output grow with each input that it sees: positive weights, and means for maxima; in eval mode."""
    for module in network.modules():
        for maximum, average in _AVERAGES.items():
            if isinstance(module, maximum):  # it stays what it is, for some networks look for their pools
                module.forward = average(module.kernel_size, module.stride, module.padding).forward
    for parameter in network.parameters():
        parameter.data.fill_(1 / max(parameter[0].numel(), 1) if parameter.dim() > 1 else 1)
    return network.double().eval()


def seen(
    network: Callable[[torch.Tensor], torch.Tensor], shape: Sequence[int], position: Sequence[int]
) -> list[tuple[int, int]]:
    """Return for each axis the first and the last position of the input that one of the output sees, if it sees any."""
    x = torch.ones(1, *shape, dtype=torch.float64, requires_grad=True)
    network(x)[(slice(None), slice(None), *position)].sum().backward()
    touched = x.grad[0].sum(0).ne(0)
    if not touched.any():
        return []  # it sees nothing but padding
    found = []
    for axis in range(touched.dim()):
        others = [d for d in range(touched.dim()) if d != axis]
        where = (touched.any(dim=others) if others else touched).nonzero().flatten()
        found.append((int(where[0]), int(where[-1])))
    return found


def planned(output: Output, position: Sequence[int]) -> list[tuple[int, int]]:
    """Return the same, as a plan says it."""
    return [
        (int(field.offset + field.jump * at), int(field.offset + field.jump * at + field.size - 1))
        for field, at in zip(output.field, position, strict=True)
    ]
