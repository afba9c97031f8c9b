"""rebuild: the model of a spec around the tensors of a checkpoint, nothing initialised and nothing copied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from zoo.budget import Budget
from zoo.builder import assemble
from zoo.errors import TensorMismatchError
from zoo.held import is_lazy, unsaved
from zoo.model import Model
from zoo.spec import ParsedSpec
from zoo.weights.checkpoint import Checkpoint, tied
from zoo.weights.dtypes import dtype_name
from zoo.weights.parity import bit_equal


@dataclass(frozen=True)
class Composed:
    """The model of a spec on the meta device, composed within what the tensors of a file justify."""

    model: Model
    budget: Budget

    @classmethod
    def within(cls, parsed: ParsedSpec, checkpoint: Checkpoint, path: Path) -> Composed:
        """Compose it.

        Raises:
            SizeBudgetError: the spec describes a far larger model than the tensors are of.
        """
        tensors = checkpoint_tensors(checkpoint.state_dict())
        sizes = [(t.numel(), t.numel() * t.element_size()) for t in tensors]
        budget = Budget.of_file(path, len(sizes), sum(n for n, _ in sizes), sum(n for _, n in sizes))
        return cls(assemble(parsed, "meta", initialise=False, budget=budget), budget)


def rebuild(parsed: ParsedSpec, checkpoint: Checkpoint, path: Path, composed: Composed | None = None) -> Model:
    """Build the model of a checked spec around the tensors of a checkpoint, in evaluation mode.

    The model is composed on the meta device. Only if it holds tensors that no state dict has, or if something beside
    its modules holds its parameters, is it built once more for real, so that its constructor computes them.

    Args:
        parsed: the spec.
        checkpoint: the tensors.
        path: their file, for errors.
        composed: the model, where it is composed already; it becomes the result.

    Raises:
        TensorMismatchError: the tensors are not those of the model.
        SizeBudgetError: the spec describes a far larger model than the tensors are of.
    """
    given = checkpoint.state_dict()
    composed = composed or Composed.within(parsed, checkpoint, path)
    model, budget = composed.model, composed.budget
    ties = _require_fit(model, given, checkpoint.aliases, path)
    others = {id(tensor): tensor for tensor in unsaved(model) if tensor.is_meta}
    if others or any(_is_watched(tensor) for tensor in model.parameters()):
        if budget.elements is not None:
            budget.elements.require("elements", sum(t.numel() for t in others.values()), "what no state dict holds")
        with torch.random.fork_rng(devices=[]):
            model = assemble(parsed, "cpu", initialise=False)
        _fill(model, given)
    else:
        _assign(model, given)
    for alias, first in ties.items():
        _tie(model, alias, first)
    model.record = checkpoint.artifact.record if checkpoint.artifact else None
    return model.eval()


def checkpoint_tensors(given: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    """Return each tensor of a state dict once, however many names it has."""
    return list({id(tensor): tensor for tensor in given.values()}.values())


def fits(given: torch.Tensor, expected: torch.Tensor) -> bool:
    """Tell whether a tensor can take the place of another: a plain one of the same shape and kind of number."""
    # The precision is the file's to choose, a model may have been halved; what kind of number it is, is not.
    plain = given.layout == torch.strided and not (given.is_meta or given.is_nested or given.is_quantized)
    same_kind = expected.is_floating_point() if given.is_floating_point() else given.dtype == expected.dtype
    return plain and same_kind and (is_lazy(expected) or given.shape == expected.shape)


def type_text(tensor: torch.Tensor) -> str:
    """Return what a tensor is as a short text: ``float32[10, 84]``."""
    kind = "" if tensor.layout == torch.strided else f"{tensor.layout} ".replace("torch.", "")
    shape = "[…]" if tensor.is_nested or is_lazy(tensor) else str(list(tensor.shape))
    return f"{kind}{dtype_name(tensor.dtype)}{shape}"


def _require_fit(
    model: Model, given: Mapping[str, torch.Tensor], aliases: Mapping[str, str], path: Path
) -> dict[str, str]:
    """Return what is to be tied, once it is clear that the tensors are those of the model."""
    expected = model.state_dict(keep_vars=True)
    # What was tied in the model that was saved is tied again, though a fresh model may not have it so.
    ties = {**tied(expected), **{a: f for a, f in aliases.items() if a in expected and f in expected}}
    missing = [name for name in expected if name not in given]
    unexpected = [name for name in given if name not in expected]
    different = [
        f"{name} {'meta ' if given[name].is_meta else ''}{type_text(given[name])} for {type_text(tensor)}"
        for name, tensor in expected.items()
        if name in given and not fits(given[name], tensor)
    ]
    different += [
        f"{alias} and {first} differ but are one tensor in the model"
        for alias, first in ties.items()
        if alias in given and first in given and not bit_equal(given[alias], given[first])
    ]
    if missing or unexpected or different:
        shared = expected.keys() & given.keys()
        remedy = "" if shared else f"none of the names are the model's; zoo identify {path} tells what it can be of"
        raise TensorMismatchError(path, missing, unexpected, different, remedy)
    return ties


def _assign(model: Model, given: Mapping[str, torch.Tensor]) -> None:
    """Put tensors into a model on the meta device in place of its own; what was noted on those stays."""
    before = dict(model.named_parameters(remove_duplicate=False))
    model.load_state_dict(given, strict=True, assign=True)
    for name, after in model.named_parameters(remove_duplicate=False):
        after.__dict__.update(before[name].__dict__)


def _fill(model: Model, given: Mapping[str, torch.Tensor]) -> None:
    """Put tensors into a real model, whose parameters and buffers stay the same objects."""
    precisions: dict[torch.dtype, set[torch.dtype]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if is_lazy(tensor):
            tensor.materialize(given[name].shape)
        precisions.setdefault(tensor.dtype, set()).add(given[name].dtype)
        tensor.data = given[name]
    for module in model.modules():
        for name in module._non_persistent_buffers_set:
            buffer = module._buffers[name]
            # A model that was halved had these halved too.
            if buffer is not None and buffer.is_floating_point() and len(precisions.get(buffer.dtype, ())) == 1:
                (precision,) = precisions[buffer.dtype]
                buffer.data = buffer.data.to(precision)


def _is_watched(tensor: torch.Tensor) -> bool:
    """Tell whether a parameter has hooks of its own, which no other tensor could take over."""
    return bool(tensor._backward_hooks) or bool(getattr(tensor, "_post_accumulate_grad_hooks", None))


def _tie(model: Model, alias: str, first: str) -> None:
    owner, _, attribute = alias.rpartition(".")
    module = model.get_submodule(owner)
    home, _, name = first.rpartition(".")
    slots = module._parameters if attribute in module._parameters else module._buffers
    slots[attribute] = getattr(model.get_submodule(home), name)
