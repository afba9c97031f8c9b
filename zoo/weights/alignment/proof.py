"""The proof of an alignment: the stranger's file, run by onnxruntime, and the new model give the same.

The file is run first, in a process of its own, and what it gives is kept: its weights never are in memory here.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from zoo.errors import AlignmentError, RunawayGraphError
from zoo.model import Model
from zoo.weights.alignment.endings import Cut
from zoo.weights.alignment.graph import Graph
from zoo.weights.alignment.port import InputPort
from zoo.weights.alignment.target import Target
from zoo.weights.fingerprint import fingerprint_of
from zoo.weights.verification.apart import by_either, outputs_apart
from zoo.weights.verification.bounds import Work, bounds_for
from zoo.weights.verification.outputs import OutputParity, RunError, compare_outputs
from zoo.weights.verification.probes import probes

TRIED = 3
"""How many samples a file takes that takes any number of them: two, and the first one once more."""

_LOOSEST = 0.1
"""A model that rounds so much that more than this would do proves nothing by agreeing."""


@dataclass(frozen=True)
class Observed:
    """What a file gave.

    Attributes:
        batch: the input, in float64.
        outputs: what was made of it.
        by: what ran the file.
    """

    batch: torch.Tensor
    outputs: Sequence[torch.Tensor]
    by: str

    @property
    def varies(self) -> bool:
        """Whether it gave something else for something else."""
        return any(len(each) < 2 or not torch.equal(each[:1].expand_as(each), each) for each in self.outputs)


def _held_bytes(given: Mapping[str, torch.Tensor], graph: Graph) -> int:
    """Return how many bytes the weights of a file have: its initializers, and the constants of its nodes."""
    stated = sum(8 * math.prod(each.shape) for each in graph.tensors.values())
    return sum(tensor.nbytes for tensor in given.values()) + stated


def seed_of(path: Path, given: Mapping[str, torch.Tensor], graph: Graph) -> int:
    """Return the seed of what a file is tried on: the same for the same file, and not to be known by who writes it.

    A graph can hold anything, also what a fixed input is, and be right on that alone.

    Args:
        path: the file.
        given: its initializers.
        graph: its graph.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    if graph.outside:
        values = {name: each.values() for name, each in graph.tensors.items() if each.values is not None}
        digest.update(fingerprint_of({**given, **values}, {}).encode())
    return int.from_bytes(digest.digest()[:7])


def observe(
    path: Path, port: InputPort, which: Sequence[int], given: Mapping[str, torch.Tensor], end: Cut, goal: Target
) -> Observed:
    """Run a stranger's file by onnxruntime on random numbers and on an image made by code.

    It may take what a model of this size can need, not more.

    Args:
        path: the file, which was looked through before.
        port: what it takes.
        which: the outputs to keep, of those that its graph has where it ends as the model does.
        given: its initializers.
        end: its graph, and where it ends.
        goal: what the model makes for one sample, and how much work that is.

    Raises:
        AlignmentError: onnxruntime does not run it, or it gives numbers that are not finite.
    """
    weights = _held_bytes(given, end.graph)
    kinds = probes(port.channels, port.size, None, seed_of(path, given, end.graph), batches=(1,))
    both = torch.cat([kinds["random"][0], kinds["images"][0]])
    count = port.shape[0] if port.shape and port.shape[0] is not None else TRIED
    batch = both.repeat(-(-count // len(both)), *[1] * (both.dim() - 1))[:count]
    batches = [batch] if count > 1 else [both[:1], both[1:]]
    names = [end.graph.outputs[index] for index in which]
    work = Work(goal.activations, goal.products)

    def run(*, reference: bool) -> list[list[torch.Tensor]]:
        within = bounds_for(work, weights, batches, reference=reference)
        return outputs_apart(path, batches, within, names=names, added=end.added, reference=reference)

    try:
        found, by = by_either(run, {each.dtype for each in end.graph.tensors.values()})
    except RunError as error:
        raise AlignmentError(path, f"cannot be proven: {error}") from error
    except RunawayGraphError as error:
        raise AlignmentError(path, f"cannot be proven: {error.by} {error.reason}") from error
    outputs = [torch.cat(parts) if parts[0].dim() else parts[0] for parts in zip(*found, strict=True)]
    if count > len(both) and all(each.dim() and len(each) == count for each in outputs):
        _refuse_unlike(outputs, len(both), path)
        batches, outputs = [both], [each[: len(both)] for each in outputs]
    if not all(bool(torch.isfinite(each).all()) for each in outputs if each.is_floating_point()):
        raise AlignmentError(path, "cannot be proven: what it computes is not finite; a weight of it may be damaged")
    return Observed(torch.cat(batches), outputs, by)


def _refuse_unlike(outputs: Sequence[torch.Tensor], samples: int, path: Path) -> None:
    """Refuse a file that computes something else for a sample further on in a batch; the model is run on few samples.

    Raises:
        AlignmentError: it does.
    """
    for each in outputs:
        again = each[torch.arange(len(each)) % samples]
        scale = float(each.abs().max()) if each.numel() else 0.0
        if each.is_floating_point() and float((each - again).abs().max()) > torch.finfo(each.dtype).eps ** 0.5 * scale:
            raise AlignmentError(path, "cannot be proven: it gives something else for the same input in one batch")


def prove(model: Model, observed: Observed, which: Sequence[int], path: Path) -> list[OutputParity]:
    """Compare what a model computes with what a file gave.

    Args:
        model: the model, around the tensors of the file.
        observed: what the file gave.
        which: the outputs of the model that it is to be compared with.
        path: the file, for errors.

    Returns:
        How far each output is from a run in float64, and how far it may be.

    Raises:
        AlignmentError: they cannot be compared.
    """
    chosen = _Chosen(model, which, [tuple(each.shape) for each in observed.outputs])
    try:
        found = compare_outputs(
            chosen,
            {observed.by: lambda _: observed.outputs},
            {"random numbers and an image": [observed.batch]},
            [],
            copied=False,
            channels=True,
        )
    except RunError as error:
        raise AlignmentError(path, f"cannot be proven: {error}") from error
    if loose := [each for each in found if not each.limit <= _LOOSEST]:
        would_do = f"{loose[0].limit:.2g} apart would do"
        raise AlignmentError(path, f"cannot be proven: with its weights the model rounds so much that {would_do}")
    return found


class _Chosen(nn.Module):
    """A model that gives some of its outputs, in the shapes that a file gives them."""

    def __init__(self, model: Model, which: Sequence[int], shapes: Sequence[tuple[int, ...]]) -> None:
        super().__init__()
        self.model, self.which, self.shapes = model, which, tuple(shapes)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        leaves = [each for each in tree_leaves(self.model(x)) if isinstance(each, torch.Tensor)]
        return tuple(
            leaf.reshape(shape) if leaf.numel() == torch.Size(shape).numel() else leaf
            for leaf, shape in zip((leaves[index] for index in self.which), self.shapes, strict=True)
        )
