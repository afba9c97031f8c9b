"""outputs_apart: what an ONNX file computes, run in a process of its own that alone a bad file can harm."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch

from zoo.errors import RunawayGraphError
from zoo.weights.verification import onnxrun
from zoo.weights.verification.bounds import Bounds, Work, bounds_for
from zoo.weights.verification.outputs import Run, RunError

MAX_SECONDS = 600
"""How long it may take, however little it is to compute: files that are worth a proof take some seconds."""

_CRASHED = 1 << 30  # Windows ends a process that crashes with a status beyond it


def in_onnxruntime(path: Path, batches: Sequence[torch.Tensor], work: Work, weights: int) -> Run:
    """Return the run of an ONNX file by onnxruntime, optimised as it does by itself, in another process.

    It is run once, on all batches.

    Args:
        path: the file.
        batches: inputs, in float64; the run gives the outputs of these alone.
        work: what the model does that it is said to be.
        weights: how many bytes its weights have.

    Raises:
        RunError: onnxruntime does not run it.
        RunawayGraphError: it makes onnxruntime crash, or take more than such a model can need.
    """
    within = bounds_for(work, weights, batches, optimised=True)
    outputs = outputs_apart(path, batches, within, optimised=True)
    found = {id(batch): made for batch, made in zip(batches, outputs, strict=True)}
    return lambda batch: found[id(batch)]


def outputs_apart(
    path: Path,
    batches: Sequence[torch.Tensor],
    within: Bounds,
    *,
    names: Sequence[str] = (),
    added: Sequence[str] = (),
    optimised: bool = False,
) -> list[list[torch.Tensor]]:
    """Run an ONNX file by onnxruntime on the CPU in another process.

    Its weights are never in the memory of this one, and neither a crash nor a graph that wants all memory there is
    reaches it.

    Args:
        path: the file.
        batches: inputs.
        within: what the process may take.
        names: what it is to give, by name; its own outputs unless given.
        added: those of them that are no outputs of the file, but values within its graph.
        optimised: whether onnxruntime optimises the graph before, or runs it as it is written.

    Returns:
        For each batch the outputs, in the order of ``names``.

    Raises:
        RunError: onnxruntime does not open or not run it.
        RunawayGraphError: it makes onnxruntime crash, or is not done within the bounds.
    """
    if not sys.executable or getattr(sys, "frozen", False):
        raise RunError("onnxruntime needs a process of its own, and there is no Python interpreter here to start one")
    target = str(path.absolute())
    if target.encode(errors="replace").decode() != target:
        raise RunError(f"onnxruntime opens no file whose path is not UTF-8: {ascii(target)[1:-1]}")
    request = {
        "path": target,
        # Not the folder that one happens to be in, from which an interactive session imports: files lie there.
        "sys_path": [each for each in sys.path if isinstance(each, str) and each],
        **within._asdict(),
        "optimised": optimised,
        "batches": len(batches),
        "names": list(names),
        "added": list(added),
    }
    stream = BytesIO()
    stream.write(json.dumps(request).encode() + b"\n")
    for each in batches:
        np.lib.format.write_array(stream, each.numpy(), allow_pickle=False)
    command = [sys.executable, "-I", str(Path(onnxrun.__file__))]
    longest = max(MAX_SECONDS, within.seconds)
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter and a file of ours
            command, input=stream.getvalue(), capture_output=True, timeout=longest, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise RunawayGraphError(path, f"takes longer for it than {longest} s") from error
    except OSError as error:
        raise RunError(f"no process could be started for onnxruntime: {error}") from error
    head, _, rest = done.stdout.partition(b"\n")
    if done.returncode or not head:
        if -done.returncode == getattr(signal, "SIGXCPU", 0):
            raise RunawayGraphError(path, f"computes far longer than the model takes, more than {within.seconds} s")
        if done.returncode < 0 or done.returncode > _CRASHED:
            raise RunawayGraphError(path, f"crashed on it ({_ending(done)})")
        raise RunError(f"onnxruntime ended without an answer on {path}: {_ending(done)}")
    told = json.loads(head)
    if "runaway" in told:
        raise RunawayGraphError(path, told["runaway"])
    if "error" in told:
        raise RunError(f"onnxruntime does not run {path}: {told['error']}")
    arrays = BytesIO(rest)
    found = [torch.from_numpy(np.lib.format.read_array(arrays, allow_pickle=False)) for _ in range(told["outputs"])]
    count = len(found) // len(batches)
    return [found[start : start + count] for start in range(0, len(found), count)]


def _ending(done: subprocess.CompletedProcess[bytes]) -> str:
    """Return how a process ended."""
    if done.returncode < 0:
        return f"killed by {signal.Signals(-done.returncode).name}"
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit status {done.returncode}"
