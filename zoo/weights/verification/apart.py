"""outputs_apart: what an ONNX file computes, run in a process of its own that alone a bad file can harm."""

from __future__ import annotations

import json
import math
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from zoo.errors import RunawayGraphError
from zoo.weights.onnx.skeleton import skeleton
from zoo.weights.verification import onnxrun
from zoo.weights.verification.bounds import Bounds, Work, bounds_for
from zoo.weights.verification.outputs import Run, RunError
from zoo.weights.verification.process import Process, started

MAX_SECONDS = 600
"""How long it may take, however little it is to compute: files that are worth a proof take some seconds."""

ONNXRUNTIME = "onnxruntime"
REFERENCE = "the reference implementation of onnx"
"""What runs a file in float64 or bfloat16, where onnxruntime cannot."""

_LACKED = frozenset({torch.float64, torch.bfloat16})
"""Precisions in which onnxruntime has few operators, and no convolution."""

_LACKING = ("NOT_IMPLEMENTED", "'tensor(bfloat16)' of input parameter")
"""How onnxruntime says that it lacks an operator in some precision."""

_CRASHED = 1 << 30  # Windows ends a process that crashes with a status beyond it


def in_onnx(
    path: Path, batches: Sequence[torch.Tensor], work: Work, weights: int, dtypes: Collection[torch.dtype]
) -> tuple[Run, str]:
    """Return the run of an ONNX file in another process, and what runs it.

    That is onnxruntime, which optimises it as it does by itself. It has no convolution in float64 nor bfloat16: a file
    that needs what it lacks is run by the reference implementation of onnx. The file is run once, on all batches.

    Args:
        path: the file.
        batches: inputs, in float64; the run gives the outputs of these alone.
        work: what the model does that it is said to be.
        weights: how many bytes its weights have.
        dtypes: the precisions of those.

    Raises:
        RunError: it does not run.
        RunawayGraphError: it makes what runs it crash, or take more than such a model can need.
    """

    def run(*, reference: bool) -> list[list[torch.Tensor]]:
        within = bounds_for(work, weights, batches, optimised=True, reference=reference)
        return outputs_apart(path, batches, within, optimised=True, reference=reference)

    outputs, by = by_either(run, dtypes)
    found = {id(batch): made for batch, made in zip(batches, outputs, strict=True)}
    return (lambda batch: found[id(batch)]), by


class _Runs(Protocol):
    def __call__(self, *, reference: bool) -> list[list[torch.Tensor]]: ...


def by_either(run: _Runs, dtypes: Collection[torch.dtype]) -> tuple[list[list[torch.Tensor]], str]:
    """Return what a file gives by onnxruntime or, where that lacks operators, by the reference; and which it was.

    Args:
        run: runs it.
        dtypes: the precisions of its weights.

    Raises:
        RunError: it is not run.
        RunawayGraphError: it crashes, or takes too much.
    """
    try:
        return run(reference=False), ONNXRUNTIME
    except RunError as error:
        if _LACKED.isdisjoint(dtypes) or not any(mark in str(error) for mark in _LACKING):
            raise
        return run(reference=True), REFERENCE


def outputs_apart(
    path: Path,
    batches: Sequence[torch.Tensor],
    within: Bounds,
    *,
    names: Sequence[str] = (),
    added: Sequence[str] = (),
    optimised: bool = False,
    reference: bool = False,
) -> list[list[torch.Tensor]]:
    """Run an ONNX file on the CPU in another process.

    Its weights are never in the memory of this one, and onnxruntime takes them where they lie in the file. Neither a
    crash nor a graph that wants all memory there is reaches this one, and the other ends with it, whatever ends it.

    Args:
        path: the file.
        batches: inputs.
        within: what the process may take.
        names: what it is to give, by name; its own outputs unless given.
        added: those of them that are no outputs of the file, but values within its graph.
        optimised: whether onnxruntime optimises the graph before, or runs it as it is written.
        reference: whether the reference implementation of onnx runs it rather than onnxruntime: slower, but it has
            every operator in float64 as well.

    Returns:
        For each batch the outputs, in the order of ``names``.

    Raises:
        RunError: it is not opened or not run.
        RunawayGraphError: it crashes, or is not done within the bounds.
        FileFormatError: it is damaged.
    """
    if not sys.executable or getattr(sys, "frozen", False):
        raise RunError("onnxruntime needs a process of its own, and there is no Python interpreter here to start one")
    for target in (str(path.absolute()), str(path.resolve())):
        if target.encode(errors="replace").decode() != target:
            raise RunError(f"onnxruntime opens no file whose path is not UTF-8: {ascii(target)[1:-1]}")
    graph, folder = skeleton(path, added)
    arrays = [np.ascontiguousarray(each.numpy()) for each in batches]
    request = {
        "path": str(path.absolute()),
        "folder": str(folder),
        "graph": len(graph),
        # Not the folder that one happens to be in, from which an interactive session imports: files lie there.
        "sys_path": [each for each in sys.path if isinstance(each, str) and each],
        **within._asdict(),
        "optimised": optimised,
        "batches": [[each.dtype.name, each.shape] for each in arrays],
        "names": list(names),
        "reference": reference,
    }
    runner = REFERENCE if reference else ONNXRUNTIME
    longest = max(MAX_SECONDS, within.seconds)
    with ExitStack() as stack:
        try:
            process = stack.enter_context(started(Path(onnxrun.__file__), longest))
        except OSError as error:
            raise RunError(f"no process could be started for onnxruntime: {error}") from error
        process.send(json.dumps(request).encode() + b"\n", graph, *(each.data for each in arrays))
        told = json.loads(process.line() or "{}")
        if "runaway" in told:
            raise RunawayGraphError(path, told["runaway"], runner)
        if "error" in told:
            raise RunError(f"{runner} does not run {path}: {told['error']}")
        outputs = [_read(process, np.dtype(name), shape) for name, shape in _bounded(told, within.output, path, runner)]
        if not outputs or any(each is None for each in outputs):
            raise _ended(process, path, within.seconds, longest, runner)
    found = [torch.from_numpy(each) for each in outputs]
    count = len(found) // len(batches)
    return [found[start : start + count] for start in range(0, len(found), count)]


def _bounded(told: Mapping[str, Any], most: int, path: Path, runner: str) -> Sequence[tuple[str, Sequence[int]]]:
    """Return the dtypes and shapes of what a process is going to give, if it is not too much.

    Raises:
        RunawayGraphError: it is.
    """
    outputs: Sequence[tuple[str, Sequence[int]]] = told.get("outputs", ())
    if sum(np.dtype(name).itemsize * math.prod(shape) for name, shape in outputs) > most:
        raise RunawayGraphError(path, "gives far more than the model does", runner)
    return outputs


def _read(process: Process, dtype: np.dtype[Any], shape: Sequence[int]) -> npt.NDArray[Any] | None:
    """Return an array that a process gives, or nothing if it ends before."""
    count = math.prod(shape)
    held = process.read(dtype.itemsize * count)
    return np.frombuffer(held, dtype).reshape(shape) if len(held) == dtype.itemsize * count else None


def _ended(process: Process, path: Path, seconds: int, longest: int, runner: str) -> Exception:
    """Return the error for a process that ended without an answer."""
    status, ending = process.ending()
    if process.late:
        return RunawayGraphError(path, f"takes longer for it than {longest} s", runner)
    if -status == getattr(signal, "SIGXCPU", 0):
        return RunawayGraphError(path, f"computes far longer than the model takes, more than {seconds} s", runner)
    if status < 0 or status > _CRASHED:
        return RunawayGraphError(path, f"crashed on it ({ending})", runner)
    return RunError(f"{runner} ended without an answer on {path}: {ending}")
