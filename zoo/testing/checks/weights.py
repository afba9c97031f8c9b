"""weights-pt, -safetensors and -onnx: a model goes into a file and comes back the same."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from zoo.errors import RunawayGraphError
from zoo.model import Model
from zoo.testing.report import fail
from zoo.testing.subject import Subject
from zoo.testing.tensors import randomise, require_same, state_of, tensors_of
from zoo.weights.files import load, save
from zoo.weights.verification.apart import in_onnx
from zoo.weights.verification.bounds import work_of
from zoo.weights.verification.outputs import RunError, compare_outputs

_BATCH = 3


def weights_pt(subject: Subject) -> None:
    """A ``.pt`` file rebuilds the model."""
    _round_trip(subject, "pt")


def weights_safetensors(subject: Subject) -> None:
    """A ``.safetensors`` file rebuilds the model."""
    _round_trip(subject, "safetensors")


def weights_onnx(subject: Subject) -> None:
    """An ``.onnx`` file rebuilds the model, and onnxruntime computes from it what the model does, for any batch."""
    _round_trip(subject, "onnx")


def _round_trip(subject: Subject, suffix: str) -> None:
    model = subject.build().eval()
    randomise(subject.part(model))
    with tempfile.TemporaryDirectory() as folder:
        file = save(model, Path(folder) / f"model.{suffix}")
        again = load(file)
        require_same(state_of(model), state_of(again), f"a .{suffix} file brings back something else for")
        if model.spec != again.spec:
            fail(f"a .{suffix} file brings back another spec: {again.spec}")
        x = subject.input()
        with torch.no_grad():
            before = tensors_of(model(x))
            try:
                after = tensors_of(again(x))
            except RuntimeError as error:
                fail(f"out of a .{suffix} file, forward raises: {error}; keep tensors as parameters or buffers")
        require_same(before, after, f"out of a .{suffix} file it gives other outputs")
        if suffix == "onnx":
            _require_same_in_onnxruntime(subject, model, file)


def _require_same_in_onnxruntime(subject: Subject, model: Model, file: Path) -> None:
    batches = [subject.input(batch=number).double() for number in (_BATCH, _BATCH + 2)]
    try:
        dtypes = {each.dtype for each in model.state_dict().values()}
        run, by = in_onnx(file, batches, work_of(model, batches[0]), file.stat().st_size, dtypes)
        found = compare_outputs(model, {by: run}, {"inputs": batches}, ())
    except (RunError, RunawayGraphError) as error:
        fail(f"out of an .onnx file, {error}")
    for output in found:
        if not output.holds:
            fail(
                f"out of an .onnx file, {output.run} gives another {output.output}: its relative error is "
                f"{output.error:.1e} where {output.limit:.1e} is allowed and torch has {output.own:.1e}"
            )
