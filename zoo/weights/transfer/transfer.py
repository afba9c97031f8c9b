"""transfer: the model of a checked spec around those tensors of a checkpoint that it shares."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from os import fspath
from pathlib import Path

import torch

from zoo import kinds
from zoo.budget import Budget
from zoo.builder import assemble
from zoo.errors import TensorMismatchError
from zoo.model import Model
from zoo.record import Record
from zoo.spec import ParsedSpec
from zoo.weights.checkpoint import Checkpoint, tied
from zoo.weights.rebuilding import fits, rebuild, type_text
from zoo.weights.transfer.changes import Changes
from zoo.weights.transfer.channels import adapted, computing, regrouped, takes_input
from zoo.weights.transfer.report import TensorChange, Transfer


def transfer(parsed: ParsedSpec, checkpoint: Checkpoint, path: Path, changes: Changes) -> Model:
    """Build the model of a checked spec around those tensors of a checkpoint that it shares.

    Args:
        parsed: the model.
        checkpoint: the tensors.
        path: the file.
        changes: how the model was changed on purpose.

    Returns:
        The model, its ``transfer`` set: in evaluation mode, or in training mode if something started anew.

    Raises:
        TensorMismatchError: a tensor that was not changed on purpose does not fit.
        SizeBudgetError: the model would be too large.
    """
    record = checkpoint.artifact.record if checkpoint.artifact else None
    if not changes:
        model = rebuild(parsed, checkpoint, path)
        model.transfer = Transfer(fspath(path), tuple(model.state_dict()), record=record)
        return model
    planned = assemble(parsed, "meta", initialise=False, budget=Budget.of_machine())
    sorting = _Sorting(planned.state_dict(keep_vars=True), checkpoint, changes)
    if changes.channels is not None:
        former = replace(parsed, input=replace(parsed.input, channels=changes.channels))
        sorting.refuse(regrouped(assemble(former, "meta", initialise=False), planned))
        sorting.adapt(changes.channels, parsed.input.channels, computing(planned))
    sorting.require(path)
    told = sorting.told(path, record)
    model = rebuild(parsed, sorting.merged(parsed, told), path)
    model.transfer = told
    if not told.complete:
        model.record = None  # of another model, whose labels and metrics are not this one's
    return model.train() if told.reinitialised else model


class _Sorting:
    """Which tensor of the model comes from where."""

    def __init__(
        self,
        expected: Mapping[str, torch.Tensor],
        checkpoint: Checkpoint,
        changes: Changes,
    ) -> None:
        self.expected = expected
        self.checkpoint = checkpoint
        self.given = checkpoint.state_dict()
        self.changes = changes
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

    def adapt(self, before: int, channels: int, computing: Collection[str]) -> None:
        """Adapt the one convolution of the backbone that takes the input, if there is one and it uses its weight as is.

        Args:
            before: of how many input channels the weights are.
            channels: how many there are now.
            computing: tensors that weights are computed from; a sum of those does not make a sum of weights.
        """
        found = [
            name
            for name, tensor in self._others()
            if part_of(name) == "backbone" and not self._anew(name) and name in self.given and name not in computing
            if takes_input(self.given[name], before, tensor, channels)
        ]
        if len(found) == 1:
            self.adapted[found[0]] = adapted(self.given[found[0]], channels)
            how = "summed" if channels == 1 else f"repeated and scaled by {before}/{channels}"
            self.reasons[found[0]] = f"input.channels {before} → {channels}, {how}"

    def require(self, path: Path) -> None:
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
        parts = list(dict.fromkeys(part_of(name) for name in (*misfits, *unexpected)))
        remedy = f"fresh={parts!r} starts {'it' if len(parts) == 1 else 'them'} anew"
        if not set(parts) <= set(kinds.SECTIONS):
            remedy = f"zoo identify {path} tells what it can be of"
        if self.changes.channels is not None and "backbone" in parts:
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
            made = assemble(parsed, "cpu", only={part_of(name) for name in anew}).state_dict()
            state |= {name: _cast(made[name], state.values()) for name in anew}
        for alias, first in tied(self.expected).items():
            if (alias in self.kept) != (first in self.kept):  # one tensor in the model: the file's values count
                state[alias] = state[first] = state[alias if alias in self.kept else first]
        aliases = {a: f for a, f in self.checkpoint.aliases.items() if a in self.kept and f in self.kept}
        return replace(self.checkpoint, tensors=state, aliases=aliases, order=tuple(self.expected))

    def _anew(self, name: str) -> str:
        """Return why a tensor starts anew though it may fit, or nothing if it does not."""
        return next((why for start, why in self.changes.fresh.items() if f"{name}.".startswith(f"{start}.")), "")

    def _reason(self, name: str) -> str:
        """Return why a tensor need not fit, or nothing if it has to."""
        return self._anew(name) or self.changes.changed.get(part_of(name), "")

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


def part_of(name: str) -> str:
    """Return the part of a model that a tensor is of: what its name begins with."""
    return name.partition(".")[0]


def _cast(tensor: torch.Tensor, others: Iterable[torch.Tensor]) -> torch.Tensor:
    """Return a new tensor in the precision of those around it, if they have one."""
    precisions = list({other.dtype for other in others if other.is_floating_point()})
    return tensor.to(precisions[0]) if tensor.is_floating_point() and len(precisions) == 1 else tensor
