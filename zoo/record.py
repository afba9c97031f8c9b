"""Record: what weights were trained on, how well they do, and how an input is prepared for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Gt, Le, Len
from pydantic import BaseModel, ConfigDict, FiniteFloat, PositiveInt, ValidationError

from registry import Problem, nearest
from zoo.errors import RecordError


class _Stated(type(BaseModel)):  # type: ignore[misc]
    """What makes a record of what a call states: what is wrong is told as our own error.

    That of a file is made without a call, and told as an error of the file.
    """

    def __call__(cls, *args: Any, **stated: Any) -> Any:
        """Make it.

        Raises:
            RecordError: something is missing, is of another kind, or has no place there.
        """
        try:
            return super().__call__(*args, **stated)
        except ValidationError as error:
            found = [_problem(dict(each), [*cls.model_fields]) for each in error.errors(include_url=False)]
            raise RecordError(cls.__name__, found) from error


def _problem(told: Mapping[str, Any], known: list[str]) -> Problem:
    """Return what is wrong in our words."""
    path = ".".join(map(str, told["loc"]))
    if told["type"] == "missing":
        return Problem(path, "missing")
    if told["type"] == "extra_forbidden" and path in told["loc"]:
        guess = "".join(f" (did you mean {name}?)" for name in nearest(path, known)[:1])
        return Problem(path, f"unknown; expected {', '.join(known)}{guess}")
    if told["type"] == "extra_forbidden":
        return Problem(path, "unknown")
    return Problem(path, f"found {told['input']!r}; {told['msg'].replace('Input should be', 'expected')}")


class Preprocessing(BaseModel, metaclass=_Stated):
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


class Record(BaseModel, metaclass=_Stated):
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
