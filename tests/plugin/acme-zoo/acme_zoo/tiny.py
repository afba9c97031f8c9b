"""A backbone that does everything right."""

import torch
from pydantic import PositiveInt
from torch import nn

from zoo.features import Feature

ACME_NET = {
    "input": {"channels": 1, "size": [32, 32]},
    "backbone": {"type": "tiny", "width": 4},
    "neck": {"type": "gap"},
    "head": {"type": "linear", "num_classes": 10},
}


class Tiny(nn.Module):
    """One strided convolution, with a buffer that no state dict holds."""

    def __init__(self, in_channels: int, width: PositiveInt = 8) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, 3, stride=2, padding=1)
        self.register_buffer("scale", torch.linspace(1, 2, width).reshape(-1, 1, 1), persistent=False)
        self.features = (Feature("stage1", width, stride=2),)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.conv(x) * self.scale,)
