"""MLP: linear layers on the flattened input."""

from __future__ import annotations

import torch
from torch import nn

from zoo.errors import ShapeError
from zoo.features import Feature, require_shape
from zoo.layers.activation import ActivationName
from zoo.layers.conv import Dims, require_dims
from zoo.layers.eager import is_eager
from zoo.layers.init import Init, InitName
from zoo.layers.linear import linear_blocks
from zoo.layers.norm import Norm, NormName
from zoo.layers.parameters import Probability, Widths


class MLP(nn.Module):
    """Linear layers on the flattened input, each with norm, activation and dropout.

    Source: Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors", Nature 323, 1986.

    Args:
        in_channels: channels of the input.
        in_size: spatial size of the input; it has to be known.
        hidden: width of each layer.
        dims: spatial dimensions of the input; None takes as many as it has.
        norm: normalisation after each linear layer.
        activation: activation after each normalisation.
        dropout: share of outputs zeroed in training, after each layer.
        init: how the linear layers start.

    Shape:
        ``(N, in_channels, *in_size)`` → one vector ``(N, hidden[-1])``.

    Raises:
        ShapeError: the size of the input is not known, or it has other dimensions.

    >>> net = MLP(in_channels=1, in_size=(8, 8), hidden=(32, 16))
    >>> [tuple(v.shape) for v in net(torch.zeros(2, 1, 8, 8))]
    [(2, 16)]
    """

    def __init__(
        self,
        in_channels: int,
        in_size: tuple[int, ...] | None,
        hidden: Widths = (256, 128),
        dims: Dims | None = None,
        norm: NormName | Norm = "none",
        activation: ActivationName = "relu",
        dropout: Probability = 0.0,
        init: InitName | Init = "default",
    ) -> None:
        super().__init__()
        self.source = Feature("input", in_channels, size=in_size)
        width = self.source.numel
        if width is None:
            raise ShapeError("an input of unknown size", "its size in the spec, such as input.size = [32, 32]")
        self.dims = self.source.dims if dims is None else dims
        require_dims(in_size, self.dims)
        self.layers = linear_blocks(width, hidden, norm=norm, activation=activation, dropout=dropout, init=init)
        self.features = (Feature("hidden", hidden[-1], size=()),)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if is_eager(x):
            require_shape(x, self.source)
        return (self.layers(x.flatten(1)),)
