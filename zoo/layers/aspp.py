"""ASPP: one map looked at through several dilations at once, and as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from zoo.errors import ShapeError
from zoo.layers.activation import ActivationName, activation_maker
from zoo.layers.conv import conv
from zoo.layers.init import Init, InitName
from zoo.layers.norm import Norm, NormName, is_none, norm_maker
from zoo.layers.pool import AdaptivePooling
from zoo.layers.resize import resize


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: a 1×1 convolution, dilated 3×3 ones and the pooled map, side by side.

    Source: Chen, Papandreou, Schroff, Adam, "Rethinking Atrous Convolution for Semantic Image Segmentation",
    arXiv 1706.05587, section 3.3. The dropout is torchvision's. With its numbers all parameters have the names of
    ``torchvision.models.segmentation.deeplabv3.ASPP``, in its order, and the same values give the same outputs.

    Args:
        in_channels: width of the map.
        channels: width of each branch and of the result.
        rates: the dilation of each 3×3 convolution.
        dims: spatial axes of the map.
        norm: normalisation after each convolution, which has a bias only without one.
        activation: activation after each normalisation.
        dropout: share of the result zeroed in training.
        init: how the convolutions start.

    Shape:
        ``(N, in_channels, *spatial)`` → ``(N, channels, *spatial)``. Batch normalisation of the pooled map needs two
        samples or more in training.

    Raises:
        ShapeError: ``instance`` as norm, which a pooled map of one position cannot have.

    >>> ASPP(8, channels=4, rates=(2, 4))(torch.zeros(2, 8, 9, 9)).shape
    torch.Size([2, 4, 9, 9])
    """

    def __init__(
        self,
        in_channels: int,
        channels: int = 256,
        rates: Sequence[int] = (12, 24, 36),
        *,
        dims: int = 2,
        norm: NormName | Norm = "batch",
        activation: ActivationName = "relu",
        dropout: float = 0.5,
        init: InitName | Init = "default",
    ) -> None:
        super().__init__()
        if (norm if isinstance(norm, str) else norm.type) == "instance":
            raise ShapeError(
                "an instance norm of the pooled map, which has one position alone",
                "another norm: batch, frozen_batch, group, layer or none",
            )
        make_norm, make_activation = norm_maker(norm, dims=dims), activation_maker(activation)

        def block(width: int, kernel_size: int, rate: int = 1) -> list[nn.Module]:
            made = conv(
                width,
                channels,
                kernel_size,
                dims=dims,
                padding=rate * (kernel_size // 2),
                dilation=rate,
                bias=is_none(norm),
                init=init,
            )
            return [made, make_norm(channels), make_activation()]

        self.dims = dims
        self.convs = nn.ModuleList(
            [
                nn.Sequential(*block(in_channels, 1)),
                *(nn.Sequential(*block(in_channels, 3, rate)) for rate in rates),
                nn.Sequential(AdaptivePooling((1,) * dims, "avg"), *block(in_channels, 1)),
            ]
        )
        self.project = nn.Sequential(*block(len(self.convs) * channels, 1), nn.Dropout(dropout))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        *local, pooled = (branch(x) for branch in self.convs)
        return self.project(torch.cat([*local, resize(pooled, x.shape[2:], dims=self.dims)], dim=1))  # type: ignore[no-any-return]
