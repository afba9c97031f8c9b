"""Components with one fault each, for the check that should find it."""

from __future__ import annotations

import random
from typing import Annotated

import torch
from annotated_types import Gt
from pydantic import PositiveInt
from torch import nn

from zoo.features import Feature


class Sound(nn.Module):
    """A backbone with nothing wrong; the faulty ones change one thing."""

    def __init__(self, in_channels: int, width: PositiveInt = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.features = (Feature("stage1", width, stride=2),)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.norm(self.conv(x)),)


class ReturnsATensor(Sound):
    def forward(self, x):
        return super().forward(x)[0]


class WrongChannels(Sound):
    def __init__(self, in_channels: int, width: PositiveInt = 4) -> None:
        super().__init__(in_channels, width)
        self.features = (Feature("stage1", width + 1, stride=2),)


class WrongSize(Sound):
    def __init__(self, in_channels: int, in_size: tuple[int, ...] | None, width: PositiveInt = 4) -> None:
        super().__init__(in_channels, width)
        size = None if in_size is None else tuple(n // 2 for n in in_size)  # rounds down where padding rounds up
        self.features = (Feature("stage1", width, stride=2, size=size),)


class OnlyEvenSizes(Sound):
    def forward(self, x):
        if x.shape[-1] % 2:
            raise RuntimeError("the width is odd")
        return super().forward(x)


class WrongStride(Sound):
    def __init__(self, in_channels: int, width: PositiveInt = 4) -> None:
        super().__init__(in_channels, width)
        self.features = (Feature("stage1", width, stride=4),)


class WrongStrideOfOneAxis(Sound):
    def __init__(self, in_channels: int, width: PositiveInt = 4) -> None:
        super().__init__(in_channels, width)
        self.features = (Feature("stage1", width, stride=(2, 4)),)


class WrongDims(Sound):
    def __init__(self, in_channels: int, width: PositiveInt = 4) -> None:
        super().__init__(in_channels, width)
        self.features = (Feature("stage1", width, stride=2, dims=3),)


class OtherWhenExported(Sound):
    def forward(self, x):
        x = super().forward(x)[0]
        return (x + 1 if torch.compiler.is_exporting() else x,)


class NamesADevice(Sound):
    def __init__(self, in_channels: int, width: PositiveInt = 4) -> None:
        super().__init__(in_channels, width)
        self.register_buffer("scale", torch.ones(width, device="cpu"))


class OtherShapeOnMeta(Sound):
    def __init__(self, in_channels: int, width: PositiveInt = 4) -> None:
        super().__init__(in_channels, width)
        self.register_buffer("scale", torch.ones(1 if self.conv.weight.is_meta else 2))


class UnusedParameter(Sound):
    def __init__(self, in_channels: int, width: PositiveInt = 4) -> None:
        super().__init__(in_channels, width)
        self.unused = nn.Parameter(torch.zeros(1))


class DetachesItsInput(Sound):
    def forward(self, x):
        return super().forward(x.detach())


class AlwaysDrops(Sound):
    def forward(self, x):
        return (nn.functional.dropout(super().forward(x)[0], 0.5, training=True),)


class LearnsInEvaluation(Sound):
    def forward(self, x):
        if not torch.compiler.is_compiling() and not x.is_meta:
            self.norm.num_batches_tracked += 1
        return super().forward(x)


class StaysInTraining(Sound):
    def train(self, mode: bool = True):
        return super().train(True)


class DrawsFromPython(Sound):
    def __init__(self, in_channels: int, width: PositiveInt = 4) -> None:
        super().__init__(in_channels, width)
        nn.init.constant_(self.conv.weight, random.random())


class AlwaysFloat32(Sound):
    def forward(self, x):
        return (super().forward(x)[0].float(),)


class TensorAsAttribute(Sound):
    def __init__(self, in_channels: int, width: PositiveInt = 4) -> None:
        super().__init__(in_channels, width)
        self.scale = torch.ones(width, 1, 1)

    def forward(self, x):
        return (super().forward(x)[0] * self.scale,)


class CopiesByReference(Sound):
    def __deepcopy__(self, memo):
        return self


class HoldsALambda(Sound):
    def __init__(self, in_channels: int, width: PositiveInt = 4) -> None:
        super().__init__(in_channels, width)
        self.activation = lambda x: x.relu()


class StateOutsideTheStateDict(Sound):
    def __init__(self, in_channels: int, width: PositiveInt = 4) -> None:
        super().__init__(in_channels, width)
        self.register_buffer("scale", torch.rand(width, 1, 1), persistent=False)

    def forward(self, x):
        return (super().forward(x)[0] * self.scale,)


class DefaultOfAnotherType(Sound):
    def __init__(self, in_channels: int, width: PositiveInt = 4, depth: Annotated[int, Gt(0)] = 0) -> None:
        super().__init__(in_channels, width)


class AnyWidth(Sound):
    def __init__(self, in_channels: int, width: int = 4) -> None:
        super().__init__(in_channels, width)


class ChangesTheDefaultDtype(Sound):
    def __init__(self, in_channels: int, width: PositiveInt = 4) -> None:
        super().__init__(in_channels, width)
        torch.set_default_dtype(torch.float64)


class SetsTheSeed(Sound):
    def __init__(self, in_channels: int, width: PositiveInt = 4) -> None:
        torch.manual_seed(0)
        super().__init__(in_channels, width)


class SwitchesGradientsOff(Sound):
    def forward(self, x):
        result = super().forward(x)
        torch.set_grad_enabled(False)
        return result


_SHARED: dict[int, nn.BatchNorm2d] = {}


class SharesItsNorm(Sound):
    def __init__(self, in_channels: int, width: PositiveInt = 4) -> None:
        super().__init__(in_channels, width)
        if not self.norm.weight.is_meta:
            self.norm = _SHARED.setdefault(width, self.norm)


class LooksAtValues(Sound):
    def forward(self, x):
        x = super().forward(x)[0]
        if not x.is_meta and x.sum() > 0:
            x = -x
        return (x,)


class FixedBatch(Sound):
    def forward(self, x):
        x = super().forward(x)[0]
        return (x * int(x.shape[0]),)


class DoesNotBuild(Sound):
    def __init__(self, in_channels: int, width: PositiveInt = 4) -> None:
        raise RuntimeError("no licence")


class WrongClasses(nn.Module):
    """A head with one logit more than asked for."""

    def __init__(self, in_channels: int, num_classes: PositiveInt) -> None:
        super().__init__()
        self.fc = nn.Linear(in_channels, num_classes + 1)

    def forward(self, maps):
        return self.fc(maps[-1].mean((2, 3)))
