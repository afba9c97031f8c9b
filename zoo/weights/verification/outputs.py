"""Whether two ways to compute a model give the same, within a tolerance that is measured, not guessed.

What a model computes in float32 is wrong by some rounding errors, and how much depends on the model. So the model is
run once more in float64, and what it computes in its own precision differs from that by an error of its own. Another
way to compute the same, another order of the same sums, makes errors of the same kind and size: it may be wrong by a
small multiple of that (:data:`FACTOR`) and a few units in the last place (:data:`ULPS`), not more.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from zoo.model import evaluating
from zoo.weights.verification.narrow import NARROW, SumsInFloat32

FACTOR = 4
"""How many times the error of the reference another way may be wrong.

Both errors are the worst of some hundred sums of roundings, drawn from distributions of one shape. Two such worst
values are seldom a factor of two apart; kernels that add in one long chain where others add in blocks, and BatchNorm
folded into the convolution before, are another factor of two. Measured: 3.2 at most, on trained and fresh models.
"""

ULPS = 8
"""How many units in the last place it may be wrong besides: the reference may happen to be right by chance."""

PART = 0.1
"""How wrong one channel may be, over its own largest number: a large one beside it would hide that it is another."""

_NOISE = 32
"""How many times its own rounding error a channel has to be wrong for that to count: it may be all rounding."""

Run = Callable[[torch.Tensor], Sequence[torch.Tensor]]
"""A way to compute a model: a batch in float64 to its outputs."""


@dataclass(frozen=True)
class OutputParity:
    """How far one way to compute an output is from the float64 run.

    Attributes:
        output: which output.
        inputs: on which inputs.
        run: which way to compute it.
        error: the largest error of a sample, over the largest number of the sample; numbers near zero weigh no more,
            but where all numbers of a channel are something else and channels count, it is that of the channel.
        limit: what it may be.
        own: the error of the reference in its own precision.
    """

    output: str
    inputs: str
    run: str
    error: float
    limit: float
    own: float

    @property
    def holds(self) -> bool:
        """True if the error is within the limit; NaN never is."""
        return self.error <= self.limit


class RunError(Exception):
    """A way to compute a model does not work; the message says which and why."""


def compare_outputs(
    reference: nn.Module,
    runs: Mapping[str, Run],
    inputs: Mapping[str, Sequence[torch.Tensor]],
    names: Sequence[str],
    *,
    copied: bool = True,
    channels: bool = False,
) -> list[OutputParity]:
    """Compare ways to compute a model with its run in float64.

    Args:
        reference: the model; it stays as it is.
        runs: the ways by name.
        inputs: batches by kind, in float64.
        names: of the outputs, as far as they are known.
        copied: whether the reference is copied to be run in float64; False converts one layer of it after the other,
            while each runs, as long as the model calls its layers.
        channels: whether each channel of an output counts by itself, however small it is beside another.

    Raises:
        RunError: one cannot be run, or gives outputs of other shapes.
    """
    dtype = _precision(reference)
    exact = in_torch(_copied(reference, torch.float64), torch.float64) if copied else in_float64(reference)
    # Of a model that is in float64 itself nothing better is at hand: its error is that of float32, scaled.
    coarse = torch.float32 if dtype == torch.float64 else dtype
    own_run = in_torch(_copied(reference, coarse) if copied or dtype != coarse else reference, coarse)
    scale = torch.finfo(dtype).eps / torch.finfo(coarse).eps
    found = []
    for kind, batches in inputs.items():
        try:
            truth = [run_on(exact, x, "the model in float64") for x in batches]
        except RunError:  # it computes with tensors of modules that it does not call
            if copied:
                raise
            exact = in_torch(_copied(reference, torch.float64), torch.float64)
            truth = [run_on(exact, x, "the model in float64") for x in batches]
        rounded = [run_on(own_run, x, "the model") for x in batches]
        own = [error * scale for error in _errors(rounded, truth, "the model")]
        for label, run in runs.items():
            made = [run_on(run, x, label) for x in batches]
            errors = _errors(made, truth, label)
            if channels:
                errors = list(map(_larger, errors, _hidden(made, truth, rounded)))
            for index, error in enumerate(errors):
                name = names[index] if index < len(names) else f"output {index}"
                limit = FACTOR * own[index] + ULPS * torch.finfo(dtype).eps
                found.append(OutputParity(name, kind, label, error, limit, own[index]))
    return found


def in_torch(model: nn.Module, dtype: torch.dtype | None = None) -> Run:
    """Return the run of a model by torch, in evaluation mode; the model stays as it is.

    In float16 and bfloat16 a CPU keeps sums in float32 (:class:`~zoo.weights.verification.narrow.SumsInFloat32`).
    """
    parameter = next(model.parameters(), torch.empty(0))
    dtype = dtype or _precision(model)

    def run(x: torch.Tensor) -> Sequence[torch.Tensor]:
        with evaluating(model), torch.no_grad(), SumsInFloat32() if dtype in NARROW else nullcontext():
            leaves = torch.utils._pytree.tree_leaves(model(x.to(device=parameter.device, dtype=dtype)))
        return [leaf.detach().cpu() for leaf in leaves if isinstance(leaf, torch.Tensor)]

    return run


def in_float64(model: nn.Module) -> Run:
    """Return the run of a model in float64, of which no more than one module's own tensors are there at a time.

    The model has to call its modules, rather than compute with their tensors itself.
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    wide = copy.deepcopy(model, shared)  # the modules are copied, their tensors are not

    def widen(module: nn.Module, _: Any) -> None:
        for slots in (module._parameters, module._buffers):
            module.__dict__.setdefault("_narrow", []).append(dict(slots))
            for name, tensor in slots.items():
                if tensor is not None and tensor.is_floating_point():
                    slots[name] = tensor.detach().double()  # type: ignore[assignment] # nothing is trained here

    def narrow(module: nn.Module, *_: Any) -> None:
        parameters, buffers = module.__dict__.pop("_narrow")
        module._parameters.update(parameters)
        module._buffers.update(buffers)

    for module in wide.modules():
        if module._parameters or module._buffers:
            module.register_forward_pre_hook(widen)
            module.register_forward_hook(narrow, always_call=True)
    return in_torch(wide, torch.float64)


def run_on(run: Run, batch: torch.Tensor, label: str) -> Sequence[torch.Tensor]:
    """Run a model on a batch.

    Args:
        run: the way to compute it.
        batch: the input, in float64.
        label: how to call that way.

    Raises:
        RunError: it fails.
    """
    try:
        return run(batch)
    except Exception as error:  # whatever a model raises, it is told which run it was
        raise RunError(f"{label} does not run on an input of {tuple(batch.shape)}: {_first_line(error)}") from error


def _precision(model: nn.Module) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def _copied(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    return copy.deepcopy(model).cpu().to(dtype)


def _errors(found: list[Sequence[torch.Tensor]], truth: list[Sequence[torch.Tensor]], label: str) -> list[float]:
    """Return, for each output, the largest error of a sample over the largest number of that sample."""
    worst: list[float] = []
    for outputs, exact in zip(found, truth, strict=True):
        shapes, wanted = ([tuple(t.shape) for t in each] for each in (outputs, exact))
        if shapes != wanted:
            raise RunError(f"{label} gives outputs of {shapes}; the model in float64 gives {wanted}")
        errors = [_error(y, r) for y, r in zip(outputs, exact, strict=True)]
        worst = [_larger(a, b) for a, b in zip(worst or [0.0] * len(errors), errors, strict=True)]
    return worst


def _error(found: torch.Tensor, exact: torch.Tensor) -> float:
    y, r = found.double(), exact.double()
    if not r.numel():
        return 0.0
    y, r = (t.reshape(t.shape[0], -1) if t.dim() else t.reshape(1, 1) for t in (y, r))
    difference = torch.where((y == r) | (y.isnan() & r.isnan()), torch.zeros_like(r), (y - r).abs())
    scale = r.abs().nan_to_num(0.0, 0.0, 0.0).amax(1)
    error = difference.amax(1) / scale
    return float(torch.where(difference.amax(1) == 0, torch.zeros_like(error), error).max())


def _hidden(
    found: list[Sequence[torch.Tensor]], truth: list[Sequence[torch.Tensor]], own: list[Sequence[torch.Tensor]]
) -> list[float]:
    """Return, for each output, the largest error of a channel over the largest number of it, if that is beyond doubt.

    What the channels are, an output does not say: the second axis, or the last.
    """
    worst = [0.0] * len(found[0]) if found else []
    for index in range(len(worst)):
        if len({each[index].shape[1:] for each in truth}) > 1 or truth[0][index].dim() < 2:
            continue
        y, r, o = (torch.cat([each[index].double() for each in side]) for side in (found, truth, own))
        for axis in {1, r.dim() - 1} if r.numel() else ():
            others = [each for each in range(r.dim()) if each != axis]
            scale, wrong, rounding = (each.abs().nan_to_num(0.0).amax(others) for each in (r, y - r, o - r))
            counts = (scale > 0) & (wrong > PART * scale) & (wrong > _NOISE * rounding)
            part = torch.where(counts, wrong / scale, torch.zeros_like(wrong))
            worst[index] = _larger(worst[index], float(part.max()))
    return worst


def _larger(a: float, b: float) -> float:
    return a if a != a or a >= b else b  # noqa: PLR0124 - NaN is the largest


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def as_reported(value: Any) -> Any:
    """Return a float as JSON can hold it."""
    return value if not isinstance(value, float) or abs(value) < float("inf") else str(value)
