"""strides: an input that is longer by one stride gives a map that is longer by one."""

from __future__ import annotations

import math

import torch

from zoo.errors import ShapeError
from zoo.features import Feature
from zoo.testing.report import fail, skip
from zoo.testing.subject import Subject


def strides(subject: Subject) -> None:
    """As the input grows, each map grows as its declared stride says; one of a fixed size need not grow."""
    if subject.kind == "head":
        skip("a head declares no features")
    small = subject.sizes[0]
    declared = subject.build(device="meta").features
    if all(f.is_vector for f in declared):
        skip("vectors have no stride")
    if any(min(f.strides) < 1 for f in declared if f.strides):
        fail(f"{next(f for f in declared if f.strides and min(f.strides) < 1)} has a stride below 1")
    # A multiple of every stride: the rounding of each layer is then the same for both inputs.
    step = math.lcm(*(stride for f in declared for stride in f.strides))
    large = tuple(n + step for n in small)
    for feature, before, after in zip(declared, _maps(subject, small), _maps(subject, large), strict=True):
        _check(feature, before.shape[2:], after.shape[2:], step)


def _check(feature: Feature, before: torch.Size, after: torch.Size, step: int) -> None:
    grown = [b - a for a, b in zip(before, after, strict=True)]
    expected = [step // stride for stride in feature.strides]
    if not feature.is_vector and any(grown) and grown != expected:
        fail(
            f"{feature.name!r} declares stride {feature.stride}, but as the input grows by {step} it grows by "
            f"{'×'.join(map(str, grown))}, from {'×'.join(map(str, before))} to {'×'.join(map(str, after))}"
        )


def _maps(subject: Subject, size: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    try:
        with torch.no_grad():
            output = subject.build(sized=size).eval()(subject.input(size, batch=1))
    except ShapeError as error:
        skip(f"it takes no input of {'×'.join(map(str, size))}: {error}")
    return tuple(output)
