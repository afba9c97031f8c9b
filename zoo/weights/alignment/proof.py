"""The proof of an alignment: onnxruntime on the stranger's file, and the new model, give the same.

The file is run first, alone, and what it gives is kept, so that its weights and the model's are not in memory at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from zoo.errors import AlignmentError
from zoo.model import Model
from zoo.weights.alignment.graph import Shape
from zoo.weights.verification.outputs import OutputParity, RunError, compare_outputs, in_onnxruntime
from zoo.weights.verification.probes import probes

_FINISHES: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "Softmax": lambda x: x.softmax(1),
    "LogSoftmax": lambda x: x.log_softmax(1),
    "Sigmoid": torch.sigmoid,
}
"""What a file may do behind the end of the model, and the model is made to do for the comparison."""

_LOOSEST = 0.1
"""A model that rounds so much that more than this would do proves nothing by agreeing."""

_SATURATED = 1 - 1e-3
"""A softmax beyond this hides what is before it."""


@dataclass(frozen=True)
class Observed:
    """What a file gave.

    Attributes:
        batch: the input, in float64.
        outputs: what onnxruntime made of it.
    """

    batch: torch.Tensor
    outputs: Sequence[torch.Tensor]

    @property
    def varies(self) -> bool:
        """Whether it gave something else for something else."""
        return any(len(each) < 2 or not torch.equal(each[:1].expand_as(each), each) for each in self.outputs)


def observe(path: Path, shape: Shape, channels: int, size: Sequence[int]) -> Observed:
    """Run a stranger's file by onnxruntime on random numbers and on an image made by code.

    Args:
        path: the file, which was looked through before.
        shape: what it takes; None for an axis of any length.
        channels: how many channels that is.
        size: the length of each further axis.

    Raises:
        AlignmentError: onnxruntime does not run it, or it gives numbers that are not finite.
    """
    kinds = probes(channels, size, None)
    both = torch.cat([kinds["random"][0], kinds["images"][0]])
    count = shape[0] if shape and shape[0] is not None else len(both)
    batch = both.repeat(-(-count // len(both)), *[1] * (both.dim() - 1))[:count]
    batches = [batch] if count > 1 else [both[:1], both[1:]]
    try:
        run = in_onnxruntime(path, frugal=True)
        found = [run(each) for each in batches]
    except RunError as error:
        raise AlignmentError(path, f"cannot be proven: {error}") from error
    except Exception as error:  # whatever onnxruntime raises for an input, it is told of which file
        reason = str(error).strip().partition("\n")[0]
        raise AlignmentError(path, f"cannot be proven: onnxruntime does not run it: {reason}") from error
    outputs = [torch.cat(parts) if parts[0].dim() else parts[0] for parts in zip(*found, strict=True)]
    if not all(bool(torch.isfinite(each).all()) for each in outputs if each.is_floating_point()):
        raise AlignmentError(path, "cannot be proven: what it computes is not finite; a weight of it may be damaged")
    return Observed(torch.cat(batches), outputs)


def prove(model: Model, observed: Observed, trailing: Sequence[str], path: Path) -> list[OutputParity]:
    """Compare what a model computes with what a file gave.

    Args:
        model: the model, around the tensors of the file.
        observed: what the file gave.
        trailing: for each output, what the file does behind the end of the model, or nothing.
        path: the file, for errors.

    Returns:
        How far each output is from a run in float64, and how far it may be.

    Raises:
        AlignmentError: they cannot be compared.
    """
    finished = _Finished(model, trailing, [tuple(each.shape) for each in observed.outputs])
    for word, output in zip(trailing, observed.outputs, strict=True):
        if word == "Softmax" and float(output.max()) > _SATURATED:
            raise AlignmentError(path, "cannot be proven: it ends in a softmax, which is saturated on every input")
    try:
        found = compare_outputs(
            finished,
            {"onnxruntime": lambda _: observed.outputs},
            {"random numbers and an image": [observed.batch]},
            [],
            copied=False,
        )
    except RunError as error:
        raise AlignmentError(path, f"cannot be proven: {error}") from error
    if loose := [each for each in found if not each.limit <= _LOOSEST]:
        would_do = f"{loose[0].limit:.2g} apart would do"
        raise AlignmentError(path, f"cannot be proven: with its weights the model rounds so much that {would_do}")
    return found


def _finished(output: torch.Tensor, word: str) -> torch.Tensor:
    return _FINISHES[word](output) if word in _FINISHES else output


class _Finished(nn.Module):
    """A model that ends as a file does."""

    def __init__(self, model: Model, trailing: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> None:
        super().__init__()
        self.model, self.trailing, self.shapes = model, tuple(trailing), tuple(shapes)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        leaves = tree_leaves(self.model(x))
        made = [_finished(leaf, word) for word, leaf in zip(self.trailing, leaves, strict=True)]
        return tuple(
            each.reshape(shape) if each.numel() == torch.Size(shape).numel() else each
            for each, shape in zip(made, self.shapes, strict=True)
        )
