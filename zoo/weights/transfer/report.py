"""Transfer: the account of what became of the tensors of a file in a model, held as ``model.transfer``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from zoo.messages import printable, some
from zoo.record import Record


@dataclass(frozen=True)
class TensorChange:
    """A tensor that is not the file's.

    Attributes:
        name: its name.
        file: what it is in the file, ``float32[10, 84]``; empty if it is not there.
        model: what it is in the model; empty if it is not there.
        reason: why.
    """

    name: str
    file: str
    model: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} {' → '.join(filter(None, (self.file, self.model)))}"


@dataclass(frozen=True)
class Transfer:
    """What became of the tensors of a file in a model; ``str()`` of it is a report.

    Attributes:
        path: the file.
        kept: names of tensors that are in the model as they are in the file.
        adapted: those that were computed from the file's: the first convolution, for another number of channels.
        reinitialised: those that start anew.
        dropped: those of the file that the model has no place for.
        record: what the file's weights were trained on, if it says so.
    """

    path: str
    kept: tuple[str, ...]
    adapted: tuple[TensorChange, ...] = ()
    reinitialised: tuple[TensorChange, ...] = ()
    dropped: tuple[TensorChange, ...] = ()
    record: Record | None = None

    @property
    def complete(self) -> bool:
        """Whether the model has all tensors of the file, as they are, and no others."""
        return not (self.adapted or self.reinitialised or self.dropped)

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        told = asdict(replace(self, record=None))
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in told.items()}
        return {**plain, "record": self.record.model_dump(mode="json") if self.record else None}

    def __str__(self) -> str:
        count = len(self.kept) + len(self.adapted) + len(self.reinitialised)
        lines = [f"{self.path}: {len(self.kept)} of {count} tensors are kept"]
        for title, changes in (
            ("adapted", self.adapted),
            ("re-initialised", self.reinitialised),
            ("dropped", self.dropped),
        ):
            for reason in dict.fromkeys(change.reason for change in changes):
                named = [str(change) for change in changes if change.reason == reason]
                lines.append(f"  {title} ({len(named)}), {reason}: {some(named)}")
        return printable("\n".join(lines))
