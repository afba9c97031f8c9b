"""inspect: what is in a weights file, told without building a model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from os import PathLike
from typing import Any

from zoo.record import Record
from zoo.weights.checkpoint import CastRecord
from zoo.weights.migration.report import Unwrapping
from zoo.weights.reading import path_of, read
from zoo.weights.safetensors.shards import files_of


@dataclass(frozen=True)
class TensorFact:
    """One tensor in a file: its name, its dtype (``"float32"``), its shape, its size in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True)
class Inspection:
    """What is in a weights file.

    Attributes:
        file: its path.
        size: its size in bytes; of an index, with its shards.
        spec: the spec of the model, None in a file from elsewhere.
        lock: the distributions that the model needs.
        aliases: names that stand for a tensor of another name.
        record: what the weights were trained on, if the file says so.
        tensors: every tensor.
        casts: each change of precision that the weights went through, as far as it is known.
        unwrapping: where in the file the weights are, if it holds more.
    """

    file: str
    size: int
    spec: dict[str, Any] | None
    lock: dict[str, str]
    aliases: dict[str, str]
    record: Record | None
    tensors: tuple[TensorFact, ...]
    casts: tuple[CastRecord, ...] = ()
    unwrapping: Unwrapping | None = None

    @property
    def parameters(self) -> int:
        """How many numbers the tensors hold."""
        return sum(math.prod(t.shape) for t in self.tensors)


def inspect(path: str | PathLike[str], *, within: str | None = None) -> Inspection:
    """Tell what is in a weights file; no model is built.

    Args:
        path: the file.
        within: which weights, where it holds several, as for :func:`zoo.load`.

    Raises:
        SeveralWeightsError: it holds several sets of weights.
        FileFormatError: the file is missing, damaged or of another kind.
        UnsafeFileError: it is a pickle that holds more than tensors.
    """
    path = path_of(path)
    checkpoint = read(path, within=within)
    artifact = checkpoint.artifact
    facts = (
        TensorFact(name, str(t.dtype).removeprefix("torch."), tuple(t.shape), t.nbytes)
        for name, t in checkpoint.tensors.items()
    )
    return Inspection(
        file=str(path),
        size=sum(file.stat().st_size for file in files_of(path)),
        spec=artifact.spec if artifact else None,
        lock=artifact.lock if artifact else {},
        aliases=dict(checkpoint.aliases),
        record=artifact.record if artifact else None,
        tensors=tuple(facts),
        casts=artifact.casts if artifact else (),
        unwrapping=checkpoint.unwrapping,
    )
