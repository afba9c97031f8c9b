"""ProjectionHead: the vectors that a contrastive pretext task compares."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import nn

from zoo.features import Feature, last_vector
from zoo.layers.activation import ActivationName
from zoo.layers.init import Init, InitName
from zoo.layers.linear import linear, linear_blocks
from zoo.layers.norm import Norm, NormName
from zoo.layers.parameters import Widths


class ProjectionHead(nn.Module):
    """Hidden layers and a linear one, to the unit sphere where a contrastive loss compares views of one thing.

    Source: Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations",
    ICML 2020, section 2.1. After pretraining it is replaced: the parts before it are what one keeps (section 4.2).

    Args:
        in_features: what the stage before gives; the last one is used and has to be a vector.
        out_features: width of the result.
        hidden: width of each hidden layer; None for one, as wide as what comes in.
        norm: normalisation after each hidden layer.
        activation: activation after each normalisation.
        normalize: whether results have length one, so that their products are cosines.
        bias: whether the last layer adds one.
        init: how the linear layers start.

    Shape:
        vector ``(N, C)`` → vector ``(N, out_features)``. The paper's loss for ``2N`` results ``z``, ``i`` and ``i + N``
        of one thing, is ``cross_entropy`` of ``z @ z.T / temperature``, its diagonal at ``-inf``, with the targets
        ``(arange(2N) + N) % 2N``, int64.

    Raises:
        ShapeError: what comes in is a map.

    >>> head = ProjectionHead((Feature("pooled", channels=512, size=()),))
    >>> tuple(head((torch.zeros(2, 512),)).shape)
    (2, 128)
    """

    def __init__(
        self,
        in_features: tuple[Feature, ...],
        out_features: PositiveInt = 128,
        hidden: Widths | None = None,
        norm: NormName | Norm = "none",
        activation: ActivationName = "relu",
        normalize: bool = True,
        bias: bool = True,
        init: InitName | Init = "default",
    ) -> None:
        super().__init__()
        width = last_vector(in_features).channels
        widths = (width,) if hidden is None else hidden
        self.layers = linear_blocks(width, widths, norm=norm, activation=activation, dropout=0.0, init=init)
        self.fc = linear(widths[-1], out_features, bias=bias, init=init)
        self.normalize = normalize
        self.outputs = {"projection": (out_features,)}

    def forward(self, vectors: tuple[torch.Tensor, ...]) -> torch.Tensor:
        projected: torch.Tensor = self.fc(self.layers(vectors[-1]))
        return nn.functional.normalize(projected, dim=1) if self.normalize else projected
