"""VerifyReport: what was compared of two files or models, and how far it is the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from zoo.weights.verification.outputs import OutputParity, as_reported


@dataclass(frozen=True)
class FingerprintParity:
    """What a file says of its tensors, and what they are.

    Attributes:
        file: the file.
        claimed: the fingerprint that it carries, or None.
        found: the fingerprint of its tensors.
    """

    file: str
    claimed: str | None
    found: str

    def __str__(self) -> str:
        if self.claimed is None:
            return f"{self.file} carries no fingerprint; it would be {self.found}"
        if self.claimed == self.found:
            return f"{self.file} is as it was saved, {self.found}"
        return f"{self.file} was changed: its tensors have {self.found}; it carries {self.claimed}"


@dataclass(frozen=True)
class TensorDifference:
    """One tensor that is not the same on both sides.

    Attributes:
        name: its name.
        what: ``"missing"``, ``"dtype"``, ``"shape"`` or ``"values"``.
        a: what there is on the first side: a dtype, a shape, ``"nothing"``, or for values nothing.
        b: what there is on the second side.
        elements: how many elements differ.
        total: how many there are.
        largest: the largest absolute difference; NaN where one side alone has NaN.
    """

    name: str
    what: str
    a: str = ""
    b: str = ""
    elements: int = 0
    total: int = 0
    largest: float = 0.0

    def __str__(self) -> str:
        if self.what == "values":
            return f"{self.name}: {self.elements:,} of {self.total:,} elements differ, by {self.largest:.3g} at most"
        return f"{self.name}: {self.a} ↔ {self.b}"


@dataclass(frozen=True)
class VerifyReport:
    """Whether two files or models are the same.

    Attributes:
        a: the first one.
        b: the second one, or None if a file was verified alone.
        fingerprints: of each that is a file.
        equal: how many tensors are the same bit for bit; None if they were not compared.
        total: how many names there are on either side.
        differences: the tensors that are not the same.
        outputs: how far each way to compute each output is from the float64 run.
        failures: what could not be compared, though it should have been.
        notes: what else there is to know.
        batches: how many samples the inputs had.
    """

    a: str
    b: str | None
    fingerprints: tuple[FingerprintParity, ...]
    equal: int | None = None
    total: int = 0
    differences: tuple[TensorDifference, ...] = ()
    outputs: tuple[OutputParity, ...] = ()
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    batches: tuple[int, ...] = ()

    @property
    def compared(self) -> bool:
        """True if tensors or outputs were compared, so that ``ok`` tells of more than fingerprints."""
        return bool(self.total or self.outputs)

    @property
    def ok(self) -> bool:
        """True if something was compared and all of it is the same."""
        if self.b is None:
            return self._intact and all(f.claimed is not None for f in self.fingerprints)
        same = not (self.differences or self.failures) and all(o.holds for o in self.outputs)
        return self.compared and self._intact and same

    @property
    def _intact(self) -> bool:
        return all(f.claimed in (f.found, None) for f in self.fingerprints)

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {
            "ok": self.ok,
            "compared": self.compared,
            "a": self.a,
            "b": self.b,
            "fingerprints": [vars(f) for f in self.fingerprints],
            "tensors": {
                "equal": self.equal,
                "total": self.total,
                "differences": [{k: as_reported(v) for k, v in vars(d).items()} for d in self.differences],
            },
            "outputs": [{**{k: as_reported(v) for k, v in vars(o).items()}, "holds": o.holds} for o in self.outputs],
            "batches": list(self.batches),
            "failures": list(self.failures),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield from (str(f) for f in self.fingerprints)
        if self.b is None:
            return
        if self.equal is not None:
            yield f"tensors: {self.equal} of {self.total} are the same bit for bit"
            yield from (f"  {d}" for d in self.differences[:20])
            if len(self.differences) > 20:
                yield f"  and {len(self.differences) - 20} more"
        if self.outputs:
            yield f"outputs, batches of {', '.join(map(str, self.batches))}: the error against a run in float64"
            header = ("output", "inputs", "computed by", "error", "may be", "")
            rows = [
                (o.output, o.inputs, o.run, f"{o.error:.1e}", f"{o.limit:.1e}", "ok" if o.holds else "DIFFERS")
                for o in self.outputs
            ]
            widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
            for row in (header, *rows):
                yield "  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        yield from self.failures
        yield from self.notes
        if self._intact and not self.compared:
            yield f"nothing tells whether {self.a} and {self.b} are the same: nothing of them was compared"
        else:
            yield f"{self.a} and {self.b} are {'the same' if self.ok else 'NOT the same'}"
