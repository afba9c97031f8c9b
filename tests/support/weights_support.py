"""What tests of weights files share."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn


def listing(folder: Path) -> list[str]:
    """Return the names of what is in a folder."""
    return sorted(file.name for file in folder.iterdir())


def odd_tensors() -> dict[str, torch.Tensor]:
    """Return what formats are apt to lose: a scalar, an empty tensor, NaN and -0.0, flags, a transposed view."""
    return {
        "z.weight": torch.randn(3, 4),
        "a.scalar": torch.tensor(5),
        "m.empty": torch.empty(0, 3),
        "b.nan": torch.tensor([float("nan"), -0.0], dtype=torch.float16),
        "c.flags": torch.tensor([True, False, True]),
        "d.view": torch.randn(4, 6).t(),
    }


class Trunk(nn.Module):
    """A ResNet of torchvision without its last layer, as a graph of others may end."""

    def __init__(self, theirs: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*list(theirs.children())[:-1], nn.Flatten())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)  # type: ignore[no-any-return]
