"""MigrationReport: the account of how a file from elsewhere became a model, held as ``model.migration``."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from zoo.messages import printable, some
from zoo.weights.dtypes import dtype_name

Provenance = Literal["exact", "batchnorm-folded", "identity", "ambiguous"]
"""Where the values of a tensor come from: from the file as they are; from one that a BatchNorm was folded into; from
nowhere, for the layer has to do nothing or the model makes them itself; from one of several places that cannot be told
apart."""


@dataclass(frozen=True)
class Unwrapping:
    """How the weights were found in the file.

    Attributes:
        within: where in the file they were, ``"state_dict"``; empty if the file is the state dict itself.
        writer: what writes files like this one, ``"Lightning"``; empty if nobody is known by it.
        candidates: all places in the file that hold weights.
        beside: what else the file holds and nobody used: ``"optimizer_states (list of 1)"``.
        prefixes: what was taken off the beginning of the names, the outermost first: ``("module.", "model.")``.
        left_out: tensors among the weights that belong to the wrapper, not to the model: ``"n_averaged"``.
    """

    within: str = ""
    writer: str = ""
    candidates: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Renaming:
    """What a keymap did.

    Attributes:
        keymap: the library whose names the file has.
        renamed: how many tensors only changed their names, or kept them.
        converted: how many were reshaped, permuted, cut or joined besides.
        made: names of tensors that the file lacks and the keymap fills in.
        left_out: keys of the file that have no counterpart, each with the reason.
    """

    keymap: str
    renamed: int = 0
    converted: int = 0
    made: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class TensorOrigin:
    """Where one tensor of the model comes from.

    Attributes:
        name: its name in the model.
        provenance: how its values were found.
        source: what it is in the file: the name of an initializer, of a node; empty if it is from nowhere.
        note: what else there is to know.
    """

    name: str
    provenance: Provenance
    source: str = ""
    note: str = ""


@dataclass(frozen=True)
class Alignment:
    """How the graph of the file was laid beside the graph of the model.

    Attributes:
        origins: where each tensor of the model comes from.
        producer: what wrote the graph, as it says itself: ``"pytorch 2.14.1"``.
        nodes: how many nodes of the file have a counterpart.
        notes: what was done to the graphs on the way, and what is lost.
        endings: for each output, what the file does behind the end of the model, ``"Softmax"``, or nothing.
    """

    origins: tuple[TensorOrigin, ...]
    producer: str = ""
    nodes: int = 0
    notes: tuple[str, ...] = ()
    endings: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """How many tensors have each provenance.

        >>> Alignment((TensorOrigin("a", "exact"), TensorOrigin("b", "identity"), TensorOrigin("c", "exact"))).counts
        {'exact': 2, 'identity': 1}
        """
        return dict(Counter(origin.provenance for origin in self.origins))


@dataclass(frozen=True)
class Proof:
    """One thing that was checked.

    Attributes:
        claim: what was checked, as a sentence: ``"every tensor has the shape of the model's"``.
        holds: whether it is so.
        difference: the largest difference that was seen, if it is about numbers.
        tolerance: the largest one that there may be.
    """

    claim: str
    holds: bool = True
    difference: float | None = None
    tolerance: float | None = None

    def __str__(self) -> str:
        numbers = ""
        if self.difference is not None:
            numbers = f", {self.difference:.2g} apart at most"
            numbers += "" if self.tolerance is None else f" ({self.tolerance:.2g} would do)"
        return f"{self.claim}{numbers}"


@dataclass(frozen=True)
class MigrationReport:
    """The account of a migration: what the file was, what was done, what was proven, what is uncertain.

    ``str()`` tells it in words, :meth:`to_json` in plain values.

    Attributes:
        file: the file.
        format: its format, ``"pt"``.
        tensors: how many tensors its weights have.
        target: what it became: the name of a model, or the components of one.
        unwrapping: how the weights were found in the file.
        renaming: what a keymap did; None if the names were ours.
        alignment: how graphs were aligned; None if names told all.
        proofs: what was checked.
        uncertain: what nobody could tell, or what is lost.
        precision: what its floating-point tensors are, ``"float16"``.
        changed: what was changed in the model once that was proven, ``"head.num_classes 37 → 5"``; ``model.transfer``
            names the tensors.

    >>> print(MigrationReport("a.pth", "pt", 62, "resnet18", Unwrapping(prefixes=("module.",)), uncertain=("ours?",)))
    a.pth became resnet18.
    The file is of the format pt with 62 tensors.
    Done: 'module.' was taken off the beginning of the names.
    Uncertain: ours?
    """

    file: str
    format: str
    tensors: int
    target: str
    unwrapping: Unwrapping | None = None
    renaming: Renaming | None = None
    alignment: Alignment | None = None
    proofs: tuple[Proof, ...] = ()
    uncertain: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    precision: str = ""

    @property
    def proven(self) -> bool:
        """True if something was checked, and all of it holds: of the model before it was changed, if it was."""
        return bool(self.proofs) and all(proof.holds for proof in self.proofs)

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain values; a number that JSON cannot say is text."""
        told = _plain(asdict(self))
        if self.alignment is not None:
            told["alignment"]["counts"] = self.alignment.counts
        return {**told, "proven": self.proven}

    def __str__(self) -> str:
        return "\n".join(printable(line, 2000) for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.file} became {self.target}."
        wrapping, alignment = self.unwrapping or Unwrapping(), self.alignment
        by = f", written by {alignment.producer}," if alignment is not None and alignment.producer else ""
        told = f", in {self.precision}" if self.precision not in ("", "float32") else ""
        by = f", as {wrapping.writer} writes it," if wrapping.writer else by
        yield f"The file is of the format {self.format}{by} with {self.tensors} tensors{told}."
        if wrapping.within:
            others = [each for each in wrapping.candidates if each != wrapping.within]
            chosen = f" (chosen among {', '.join(map(repr, wrapping.candidates))})" if others else ""
            yield f"Done: the weights were found in {wrapping.within!r}{chosen}."
        if wrapping.beside:
            yield f"Done: what is beside them was ignored: {some(wrapping.beside)}."
        if wrapping.prefixes:
            yield f"Done: {' and then '.join(map(repr, wrapping.prefixes))} was taken off the beginning of the names."
        if wrapping.left_out:
            yield f"Done: what is not of the model was left out: {some(wrapping.left_out)}."
        if self.renaming is not None:
            yield from _renaming_lines(self.renaming)
        if alignment is not None:
            counts = ", ".join(f"{count} {provenance}" for provenance, count in alignment.counts.items())
            yield f"Done: {alignment.nodes} nodes were aligned with those of the model; the tensors are {counts}."
            yield from (_sentence(f"Done: {note}") for note in alignment.notes)
        yield from (f"{'Proven' if proof.holds else 'FAILED'}: {proof}." for proof in self.proofs)
        if self.changed:
            yield f"Then: the model was changed, {some(self.changed)}; model.transfer names the tensors that are new."
        yield from (_sentence(f"Uncertain: {each}") for each in self.uncertain)


def precision_of(tensors: Iterable[torch.Tensor]) -> str:
    """Return what the floating-point tensors among these are, in words: ``"float16 and float32"``."""
    return " and ".join(sorted({dtype_name(tensor.dtype) for tensor in tensors if tensor.is_floating_point()}))


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _renaming_lines(renaming: Renaming) -> Iterator[str]:
    converted = f", {renaming.converted} of them reshaped or cut" if renaming.converted else ""
    count = renaming.renamed + renaming.converted
    yield f"Done: the names are those of {renaming.keymap}: {count} tensors got ours{converted}."
    if renaming.made:
        yield f"Done: what the file lacks was filled in: {some(renaming.made)}."
    if renaming.left_out:
        whys: dict[str, list[str]] = {}
        for each in renaming.left_out:
            key, _, why = each.partition(" (")
            whys.setdefault(why, []).append(key)
        for why, keys in whys.items():
            yield f"Done: what has no counterpart was left out: {some(keys)}{why and f' ({why}'}."


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
