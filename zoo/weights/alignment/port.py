"""port_of: what an ONNX file of elsewhere takes, and on what it is tried."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from zoo.errors import AlignmentError
from zoo.model import Model
from zoo.weights.alignment.graph import Graph
from zoo.weights.alignment.safety import refuse_large_input
from zoo.weights.onnx.ports import Shape


class InputPort(NamedTuple):
    """What a file takes.

    Attributes:
        shape: as it says itself; None for an axis of any length.
        channels: how many channels that is.
        size: the length of each further axis, for the proof.
    """

    shape: Shape
    channels: int
    size: Sequence[int]


def port_of(model: Model, graph: Graph, path: Path) -> InputPort:
    """Return what a file takes; what it does not say is as the model has it.

    Raises:
        AlignmentError: the model takes something else, or it is too large to be tried.
    """
    if len(graph.inputs) != 1:
        raise AlignmentError(path, f"takes {len(graph.inputs)} inputs ({', '.join(graph.inputs)}); expected one")
    (shape,) = graph.inputs.values()
    source = model.spec["input"]
    channels = source["channels"]
    dims = getattr(model.backbone, "dims", 2) if source["size"] is None else len(source["size"])
    stated = source["size"] or [max(64, getattr(model.backbone, "min_size", 1))] * dims
    if shape and (len(shape) != dims + 2 or shape[1] not in (None, channels)):
        told = "×".join("any" if n is None else str(n) for n in shape)
        last = f", and the channels come last in the file: export it with {channels} as the second axis"
        hint = last if shape[-1:] == (channels,) and len(shape) == dims + 2 else ""
        raise AlignmentError(path, f"takes an input of {told}; the model takes {channels} channels{hint}")
    size = tuple(n or own for n, own in zip(shape[2:] or stated, stated, strict=True))
    refuse_large_input(max(1, shape[0] or 1 if shape else 1) * channels, size, path)
    return InputPort(shape, channels, size)
