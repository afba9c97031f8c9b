"""Record: what weights were trained on, how well they do, and how an input is prepared for them."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Gt, Le, Len
from pydantic import BaseModel, ConfigDict, FiniteFloat, PositiveInt


class Preprocessing(BaseModel):
    """How an image becomes an input tensor: resized, scaled to [0, 1], then ``(x - mean) / std`` for each channel.

    Attributes:
        size: height and width after resizing, in pixels.
        mean: one number for each channel, on the scale of [0, 1].
        std: the same.
        interpolation: how the image is resized.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: Annotated[tuple[Annotated[PositiveInt, Le(16384)], ...], Len(2, 2)]
    mean: tuple[FiniteFloat, ...]
    std: tuple[Annotated[FiniteFloat, Gt(0)], ...]
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"


class Record(BaseModel):
    """What weights were trained on, how well they do, and how an input is prepared for them.

    Attributes:
        data: the data set, and where it comes from.
        licence: the licence of the data.
        split: which part of the data was used for what.
        metrics: what was measured, on which part: ``{"test_accuracy": 0.99}``.
        preprocessing: how an image becomes an input.
        labels: the name of each class.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str
    licence: str
    split: str
    metrics: dict[str, FiniteFloat]
    preprocessing: Preprocessing
    labels: tuple[str, ...]
