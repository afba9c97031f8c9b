"""features: what the component declares is what comes out, at every input size that it takes."""

from __future__ import annotations

import torch

from zoo.errors import ShapeError
from zoo.features import Feature
from zoo.model import Model
from zoo.testing.report import fail
from zoo.testing.subject import Subject


def features(subject: Subject) -> None:
    """Channels, dimensions and sizes are as declared: for each size with the size in the spec, and for all without.

    A size that is refused with a ShapeError is no fault.
    """
    accepted = 0
    for size in subject.sizes:
        try:
            _run(subject, subject.build(sized=size), size, f"built for {_text(size)}")
            accepted += 1
        except ShapeError:
            continue
    if not accepted:
        fail(f"no input size is accepted; tried {', '.join(_text(s) for s in subject.sizes)}")
    try:
        model = subject.build(sized=None)
    except ShapeError:  # a component may need to know the size
        return
    for size in subject.sizes:
        try:
            _run(subject, model, size, "built for any size")
        except ShapeError:
            continue


def _run(subject: Subject, model: Model, size: tuple[int, ...], how: str) -> None:
    x = subject.input(size, batch=2)
    try:
        with torch.no_grad():
            output = model.eval()(x)
    except ShapeError:
        raise
    except Exception as error:  # noqa: BLE001, RUF100 - named with the size that it happened at
        fail(
            f"{how}, an input of {_text(size)} raises {type(error).__name__}: {error}; "
            "raise zoo.errors.ShapeError for sizes that do not fit, or declare 'min_size'"
        )
    if subject.kind == "head":
        _check_prediction(subject, output, len(x))
        return
    if len(output) != len(model.features):
        fail(f"{len(model.features)} features are declared and {len(output)} tensors come out")
    for feature, tensor in zip(model.features, output, strict=True):
        _check(feature, tensor, len(x), f"{how}, at an input of {_text(size)}")


def _check(feature: Feature, tensor: torch.Tensor, batch: int, where: str) -> None:
    spatial = ("?",) * feature.dims if feature.size is None else feature.size
    declared = (batch, feature.channels, *spatial)
    found = tuple(tensor.shape)
    fits = len(found) == len(declared) and all(d in ("?", f) for d, f in zip(declared, found, strict=True))
    if not fits:
        fail(f"{where}, {feature.name!r} is declared as {_text(declared)} and is {_text(found)}")


def _check_prediction(subject: Subject, output: object, batch: int) -> None:
    if not isinstance(output, torch.Tensor):  # boxes and masks have forms of their own
        return
    classes = subject.spec["head"].get("num_classes")
    if output.shape[0] != batch:
        fail(f"of a batch of {batch} comes {_text(tuple(output.shape))}; expected the batch first")
    if classes is not None and (output.dim() < 2 or output.shape[1] != classes):
        fail(f"num_classes={classes} gives {_text(tuple(output.shape))}; expected {classes} as the second dimension")


def _text(shape: tuple[object, ...]) -> str:
    return "×".join(str(n) for n in shape)
