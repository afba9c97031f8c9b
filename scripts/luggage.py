"""A component that carries tensors of any dtype and shape without using them: what a weights file has to bring back."""

from __future__ import annotations

import torch
from pydantic import NonNegativeInt
from torch import nn

from zoo.features import Feature
from zoo.model import Model
from zoo.weights.dtypes import DTYPES, dtype_name

NAMES = tuple(dtype_name(d.torch) for d in DTYPES)
_BY_NAME = {dtype_name(d.torch): d.torch for d in DTYPES}

SPEC = {
    "input": {"channels": 2, "size": [4, 4]},
    "backbone": {"type": "mlp", "hidden": [3]},
    "bottleneck": {"type": "luggage"},
    "head": {"type": "linear", "num_classes": 2},
}


class Luggage(nn.Module):
    """Passes features through, and holds one tensor for each dtype and shape, ``item0``, ``item1`` and so on.

    Args:
        in_features: what comes in, and goes out.
        dtypes: the dtype of each tensor; floating ones are parameters, the others buffers.
        shapes: the shape of each.

    Shape:
        tuple of tensors → the same tuple.
    """

    def __init__(
        self,
        in_features: tuple[Feature, ...],
        dtypes: tuple[str, ...] = (),
        shapes: tuple[tuple[NonNegativeInt, ...], ...] = (),
    ) -> None:
        super().__init__()
        self.features = in_features
        for number, (dtype, shape) in enumerate(zip(dtypes, shapes, strict=True)):
            tensor = torch.empty(shape, dtype=_BY_NAME[dtype])
            if tensor.is_floating_point():
                self.register_parameter(f"item{number}", nn.Parameter(tensor, requires_grad=False))
            else:
                self.register_buffer(f"item{number}", tensor)

    def forward(self, features: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:  # noqa: D102 - as the class says
        return features


def random_bits(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    """Return a tensor of random bytes: NaN of every kind, infinities and subnormal numbers among them."""
    if dtype == torch.bool:
        return torch.randint(2, shape, generator=generator).bool()
    count = torch.Size(shape).numel() * dtype.itemsize
    if not count:
        return torch.empty(shape, dtype=dtype)
    return torch.randint(256, (count,), dtype=torch.uint8, generator=generator).view(dtype).reshape(shape)


def put(model: Model, number: int, tensor: torch.Tensor) -> None:
    """Let an item be a tensor as it is, strides and all."""
    luggage = model.get_submodule("bottleneck")
    name = f"item{number}"
    if name in luggage._parameters:
        luggage._parameters[name] = nn.Parameter(tensor, requires_grad=False)
    else:
        luggage._buffers[name] = tensor
