"""transfer: trained weights into a model that was changed on purpose: what is as it was is kept, the rest is fresh."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from os import fspath
from pathlib import Path
from typing import Any

import torch

from zoo.budget import Budget
from zoo.builder import assemble
from zoo.errors import TensorMismatchError
from zoo.messages import printable, some
from zoo.model import Model
from zoo.record import Record
from zoo.spec import ParsedSpec
from zoo.weights.checkpoint import Checkpoint, tied
from zoo.weights.rebuilding import fits, rebuild, type_text


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


def transfer(
    parsed: ParsedSpec,
    checkpoint: Checkpoint,
    path: Path,
    *,
    changed: Mapping[str, str] | None = None,
    fresh: Mapping[str, str] | None = None,
    channels: int | None = None,
) -> Model:
    """Build the model of a checked spec around those tensors of a checkpoint that it shares.

    Args:
        parsed: the model.
        checkpoint: the tensors.
        path: the file.
        changed: parts that were changed on purpose, each with what changed: a tensor of theirs that does not fit starts
            anew, one that is left over is dropped.
        fresh: parts, or modules below them, that start anew altogether, each with the reason.
        channels: of how many input channels the weights are, where the model takes another number on purpose.

    Returns:
        The model, its ``transfer`` set: in evaluation mode, or in training mode if something started anew.

    Raises:
        TensorMismatchError: a tensor that was not changed on purpose does not fit.
        SizeBudgetError: the model would be too large.
    """
    changed, fresh = changed or {}, fresh or {}
    record = checkpoint.artifact.record if checkpoint.artifact else None
    if not (changed or fresh) and channels is None:
        model = rebuild(parsed, checkpoint, path)
        model.transfer = Transfer(fspath(path), tuple(model.state_dict()), record=record)
        return model
    planned = assemble(parsed, "meta", initialise=False, budget=Budget.of_machine())
    sorting = _Sorting(planned.state_dict(keep_vars=True), checkpoint, changed, fresh)
    if channels is not None:
        former = replace(parsed, input=replace(parsed.input, channels=channels))
        sorting.refuse(_regrouped(assemble(former, "meta", initialise=False), planned))
        sorting.adapt(channels, parsed.input.channels)
    sorting.require(path, channels is not None)
    told = sorting.told(path, record)
    model = rebuild(parsed, sorting.merged(parsed, told), path)
    model.transfer = told
    if not told.complete:
        model.record = None  # of another model, whose labels and metrics are not this one's
    return model.train() if told.reinitialised else model


def adapted(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """Return the weight of a convolution for another number of input channels.

    For one channel the weights are summed, so that a grey picture gives what it gave as a colour picture with that
    channel thrice. For more, the channels are repeated in turn and scaled, so that a constant input gives as much as
    before.

    Shape:
        ``(out, in, *kernel)`` → ``(out, channels, *kernel)``, computed in float64 and rounded once.

    >>> adapted(torch.tensor([[[1.0], [2.0], [3.0]]]), 1).flatten().tolist()
    [6.0]
    >>> adapted(torch.tensor([[[1.0], [2.0], [3.0]]]), 6).flatten().tolist()
    [0.5, 1.0, 1.5, 0.5, 1.0, 1.5]
    """
    wide, before = weight.double(), weight.shape[1]
    if channels == 1:
        return wide.sum(1, keepdim=True).to(weight.dtype)
    return (wide[:, torch.arange(channels) % before] * (before / channels)).to(weight.dtype)


class _Sorting:
    """Which tensor of the model comes from where."""

    def __init__(
        self,
        expected: Mapping[str, torch.Tensor],
        checkpoint: Checkpoint,
        changed: Mapping[str, str],
        fresh: Mapping[str, str],
    ) -> None:
        self.expected = expected
        self.checkpoint = checkpoint
        self.given = checkpoint.state_dict()
        self.changed = changed
        self.fresh = fresh
        self.kept = [
            name
            for name, tensor in expected.items()
            if not self._anew(name) and name in self.given and fits(self.given[name], tensor)
        ]
        self.adapted: dict[str, torch.Tensor] = {}
        self.reasons: dict[str, str] = {}
        self.unfit: dict[str, str] = {}

    def refuse(self, unfit: Mapping[str, str]) -> None:
        """Keep none of these tensors, though their shapes fit; for each the reason."""
        self.unfit = {name: why for name, why in unfit.items() if name in self.kept}
        self.kept = [name for name in self.kept if name not in unfit]

    def adapt(self, before: int, channels: int) -> None:
        """Adapt the one convolution of the backbone that takes the input, if there is one."""
        found = [
            name
            for name, tensor in self._others()
            if _part(name) == "backbone" and not self._anew(name) and name in self.given
            if _on_input(self.given[name], before, tensor, channels)
        ]
        if len(found) == 1:
            self.adapted[found[0]] = adapted(self.given[found[0]], channels)
            how = "summed" if channels == 1 else f"repeated and scaled by {before}/{channels}"
            self.reasons[found[0]] = f"input.channels {before} → {channels}, {how}"

    def require(self, path: Path, new_channels: bool) -> None:
        """Check that whatever does not fit is of a part that was changed on purpose."""
        misfits = [name for name, _ in self._others() if name not in self.adapted and not self._reason(name)]
        missing = [name for name in misfits if name not in self.given]
        unexpected = [name for name in self.given if name not in self.expected and not self._reason(name)]
        different = [
            f"{name} {type_text(self.given[name])} for {type_text(self.expected[name])}{self.unfit.get(name, '')}"
            for name in misfits
            if name in self.given
        ]
        if not (missing or unexpected or different):
            return
        parts = list(dict.fromkeys(_part(name) for name in (*misfits, *unexpected)))
        remedy = f"fresh={parts!r} starts {'it' if len(parts) == 1 else 'them'} anew"
        if new_channels and "backbone" in parts:
            remedy = f"no single convolution takes the input, which could be adapted to its channels; {remedy}"
        raise TensorMismatchError(path, missing, unexpected, different, remedy)

    def told(self, path: Path, record: Record | None) -> Transfer:
        """Return the report."""
        anew = [name for name, _ in self._others() if name not in self.adapted]
        left = [name for name in self.given if name not in self.expected]
        return Transfer(
            fspath(path),
            tuple(self.kept),
            tuple(self._changes(self.adapted)),
            tuple(self._changes(anew)),
            tuple(self._changes(left)),
            record,
        )

    def merged(self, parsed: ParsedSpec, told: Transfer) -> Checkpoint:
        """Return the checkpoint of the model: tensors of the file, adapted ones, and new ones for the rest."""
        state = {name: self.given[name] for name in self.kept} | self.adapted
        anew = [change.name for change in told.reinitialised]
        if anew:
            made = assemble(parsed, "cpu", only={_part(name) for name in anew}).state_dict()
            state |= {name: _cast(made[name], state.values()) for name in anew}
        for alias, first in tied(self.expected).items():
            if (alias in self.kept) != (first in self.kept):  # one tensor in the model: the file's values count
                state[alias] = state[first] = state[alias if alias in self.kept else first]
        aliases = {a: f for a, f in self.checkpoint.aliases.items() if a in self.kept and f in self.kept}
        return replace(self.checkpoint, tensors=state, aliases=aliases, order=tuple(self.expected))

    def _anew(self, name: str) -> str:
        """Return why a tensor starts anew though it may fit, or nothing if it does not."""
        return next((why for start, why in self.fresh.items() if f"{name}.".startswith(f"{start}.")), "")

    def _reason(self, name: str) -> str:
        """Return why a tensor need not fit, or nothing if it has to."""
        return self._anew(name) or self.changed.get(_part(name), "")

    def _others(self) -> list[tuple[str, torch.Tensor]]:
        kept = set(self.kept)
        return [(name, tensor) for name, tensor in self.expected.items() if name not in kept]

    def _changes(self, names: Iterable[str]) -> list[TensorChange]:
        return [
            TensorChange(
                name,
                type_text(self.given[name]) if name in self.given else "",
                type_text(self.expected[name]) if name in self.expected else "",
                self.reasons.get(name) or self._reason(name),
            )
            for name in names
        ]


def _part(name: str) -> str:
    return name.partition(".")[0]


def _regrouped(former: Model, planned: Model) -> dict[str, str]:
    """Return the weights of convolutions whose groups are others, so that the same numbers mean something else."""
    old = dict(former.named_modules())
    return {
        f"{path}.weight": f" in {module.groups} groups, not {old[path].groups}"
        for path, module in planned.named_modules()
        if getattr(module, "groups", None) != getattr(old.get(path), "groups", None) and hasattr(module, "weight")
    }


def _on_input(given: torch.Tensor, before: int, expected: torch.Tensor, channels: int) -> bool:
    """Tell whether a tensor is the weight of a convolution that takes all channels of the input, in file and model."""
    same = given.dim() == expected.dim() > 2 and given.is_floating_point() and expected.is_floating_point()
    others = given.shape[:1] + given.shape[2:] == expected.shape[:1] + expected.shape[2:]
    return same and others and (given.shape[1], expected.shape[1]) == (before, channels)


def _cast(tensor: torch.Tensor, others: Iterable[torch.Tensor]) -> torch.Tensor:
    """Return a new tensor in the precision of those around it, if they have one."""
    precisions = list({other.dtype for other in others if other.is_floating_point()})
    return tensor.to(precisions[0]) if tensor.is_floating_point() and len(precisions) == 1 else tensor
