"""Bounds: how much memory and time the run of an ONNX file may take, from what the model does that it is said to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from zoo.counting import multiply_adds
from zoo.dispatch import Dispatch
from zoo.weights.verification.outputs import in_torch, run_on

_AT_REST = 1 << 30
"""How many bytes a process may take for Python, onnxruntime and its threads."""

_AS_WRITTEN = 4
"""How many times its weights onnxruntime may take for a graph that it runs as it is written: parsed, and laid out."""

_OPTIMISED = 8
"""How many times for one that it optimises: of float16 it makes float32, folds that, and lays it out again."""

_ROOM = 2
"""How many times its activations onnxruntime may take: it unrolls the windows of convolutions of volumes."""

_UNROLLED = 32
"""The same for the reference implementation, which unrolls those of images and keeps all that it makes."""

_SLOWNESS = 4
"""How many times longer the reference implementation may take."""

_STARTED = 20
"""In how many seconds onnxruntime is there and has read a graph, on any machine."""

_SLOWEST = 10**8
"""How many products, or bytes, it is sure to do in a second."""

_SMALL = 1 << 20
_WIDEST = 8  # bytes of a number


class Bounds(NamedTuple):
    """How much a process may take.

    Attributes:
        memory: how many bytes; it is held to that where the system can: not on Windows.
        output: how many bytes all outputs together may have.
        seconds: how long processors may compute, all together; held to that where the system can.
    """

    memory: int
    output: int
    seconds: int


class Work(NamedTuple):
    """What a model does for one sample.

    Attributes:
        activations: how many numbers it makes.
        products: how often it multiplies and adds for that, in convolutions and products.
    """

    activations: int
    products: int


def bounds_for(
    work: Work, weights: int, batches: Sequence[torch.Tensor], *, optimised: bool = False, reference: bool = False
) -> Bounds:
    """Return what the run of a model of this size can need, on any machine.

    Args:
        work: what the model does.
        weights: how many bytes its weights have.
        batches: its inputs.
        optimised: whether onnxruntime optimises the graph before.
        reference: whether the reference implementation of onnx runs it.
    """
    samples = [len(each) for each in batches]
    made = _WIDEST * work.activations
    return Bounds(
        memory=_AT_REST
        + (_OPTIMISED if optimised else _AS_WRITTEN) * weights
        + (_UNROLLED if reference else _ROOM) * made * max(samples),
        output=_SMALL + made * sum(samples),
        seconds=(_SLOWNESS if reference else 1)
        * (_STARTED + (weights + sum(samples) * (work.products + made)) // _SLOWEST),
    )


def work_of(model: nn.Module, batch: torch.Tensor) -> Work:
    """Run a model once by torch, in evaluation mode, and return what it does; the model stays as it is.

    Args:
        model: the model, on any device.
        batch: an input.

    Raises:
        RunError: it cannot be run.
    """
    with _Counter() as counter:
        run_on(in_torch(model), batch, "the model")
    return Work(-(-counter.made // len(batch)), -(-counter.products // len(batch)))


class _Counter(Dispatch):
    """Counts what operations make."""

    def __init__(self) -> None:
        super().__init__()
        self.made = self.products = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = func(*args, **(kwargs or {}))
        results = [each for each in tree_leaves(given) if isinstance(each, torch.Tensor)]
        self.made += sum(each.numel() for each in results)
        op = func._schema.name.rpartition("::")[2]
        self.products += multiply_adds(op, args, tuple(results[0].shape)) if results else 0
        return given
