"""What was found out of a weights file: which models it fits, or comes near, and how to have them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from zoo.messages import printable, some
from zoo.weights.migration.report import Unwrapping


@dataclass(frozen=True)
class Fit:
    """One model that a file may be of.

    Attributes:
        model: the name of a model; empty if none has such components.
        spec: its spec, with the changes.
        changes: what is otherwise than in the named model, by part: ``{"head": {"num_classes": 10}}``.
        keymap: the library whose names the file has; empty if they are ours.
        prefixes: what is before the names.
        differences: what does not fit; none for a fit.
        call: how to have the model.
        within: which part of the file it is, where it is not all of it.
        graph: how closely the graph of the model fits that of the file, if it was told from that.
    """

    model: str
    spec: dict[str, Any]
    changes: dict[str, dict[str, Any]]
    keymap: str
    prefixes: tuple[str, ...]
    differences: tuple[str, ...]
    call: str
    within: str = ""
    graph: str = ""

    @property
    def known_by(self) -> str:
        """Whose names the file has, or that its graph told."""
        return "none: its graph fits" if self.graph else self.keymap or "zoo"

    @property
    def fits(self) -> bool:
        """Whether every tensor has its place, with its shape."""
        return not self.differences

    @property
    def changed(self) -> str:
        """The changes as text: ``head.num_classes=10``."""
        return ", ".join(f"{part}.{key}={value}" for part, own in self.changes.items() for key, value in own.items())

    def __str__(self) -> str:
        return f"{self.model or 'a model without a name'}{' with ' if self.changes else ''}{self.changed}"


@dataclass(frozen=True)
class Identification:
    """What a weights file can be.

    Attributes:
        file: the file.
        format: its format, ``"pt"``.
        tensors: how many tensors there are.
        unwrapping: where in the file they were, if it holds more.
        fits: the models that it fits, those with the fewest changes first.
        nearest: where it fits none, those that come nearest.
        parts: where it fits none, the models that parts of it fit.
        libraries: whether the models of timm and torchvision were tried.
    """

    file: str
    format: str
    tensors: int
    unwrapping: Unwrapping | None
    fits: tuple[Fit, ...]
    nearest: tuple[Fit, ...]
    parts: tuple[Fit, ...] = ()
    libraries: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    def __str__(self) -> str:
        return "\n".join(printable(line, 2000) for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.file}: {self.format}, {self.tensors} tensors"
        if self.unwrapping is not None and self.unwrapping.within:
            yield f"weights in {self.unwrapping.within!r}; beside them {some(self.unwrapping.beside) or 'nothing'}"
        if self.fits:
            rows = [(f.model or "no name", f.changed or "-", f.known_by, f.call) for f in self.fits]
            yield from _columns(("model", "changed", "names of", "to have it"), rows)
            if len(self.fits) > 1 and all(fit.graph for fit in self.fits):
                yield "they are one graph once their norms are folded"
            return
        if self.format == "onnx":
            yield "its graph is that of no model with a name"
            yield f"zoo.load({self.file!r}, spec=…) lays it beside that of any spec, and tells where they part"
            return
        if self.parts:
            yield "fits no model as a whole; parts of it do"
            parts = [(f.within, f.model or "no name", f.changed or "-", f.known_by, f.call) for f in self.parts]
            yield from _columns(("--within", "model", "changed", "names of", "to have it"), parts)
            return
        yield "fits no model that is installed" + ("; nearest are" if self.nearest else "")
        for near in self.nearest:
            names = f"in the names of {near.keymap}" if near.keymap else "in our names"
            yield f"  {near.model or 'a model without a name'} {names}: {some(near.differences, 3)}"
        if not self.libraries:
            yield f"zoo identify {self.file} --libraries tries those of timm and torchvision too"


def _columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    for row in (header, *rows):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
