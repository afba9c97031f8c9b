"""verify: whether two files or models are the same, tensor for tensor and output for output."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo.builder import assemble
from zoo.errors import TensorMismatchError, ZooError
from zoo.model import Model
from zoo.spec import Source, parse
from zoo.weights.alignment.safety import MAX_INPUT
from zoo.weights.alignment.target import require_memory
from zoo.weights.alignment.tracing import traced
from zoo.weights.checkpoint import Checkpoint, tied
from zoo.weights.dtypes import dtype_name
from zoo.weights.files import model_of
from zoo.weights.onnx.ports import read_input_shapes
from zoo.weights.parity import bit_equal
from zoo.weights.reading import path_of, read
from zoo.weights.regions import bytes_of
from zoo.weights.verification.apart import in_onnx
from zoo.weights.verification.bounds import work_of
from zoo.weights.verification.outputs import (
    OutputParity,
    Run,
    RunError,
    compare_outputs,
    in_torch,
)
from zoo.weights.verification.probes import BATCHES, probes
from zoo.weights.verification.report import FingerprintParity, TensorDifference, VerifyReport

Subject = nn.Module | str | PathLike[str]
"""What can be verified: a model, or the path of a weights file."""


@dataclass(frozen=True)
class _Side:
    label: str
    path: Path | None
    checkpoint: Checkpoint | None
    state: Mapping[str, torch.Tensor]
    model: nn.Module | None

    @property
    def graph(self) -> Path | None:
        return self.path if self.path is not None and self.path.suffix.lower() == ".onnx" else None

    @property
    def is_foreign(self) -> bool:
        return self.checkpoint is not None and self.checkpoint.artifact is None


def verify(
    a: Subject,
    b: Subject | None = None,
    *,
    spec: Source | None = None,
    keymap: str | None = None,
    inputs: Sequence[torch.Tensor] | None = None,
    seed: int = 0,
) -> VerifyReport:
    """Tell whether two files or models are the same: every tensor bit for bit, and what they compute.

    Files are read whole into memory of our own, and their fingerprints checked. Outputs are computed in torch, and for
    an ``.onnx`` file in onnxruntime too, which has no convolution in float64 nor bfloat16: those are run by the
    reference implementation of onnx. Inputs are random numbers and images made by code, in batches of 1, 2 and 5. All
    are compared with a run in float64: no way may be further from it than a small multiple of what the model in its
    own precision is (:mod:`zoo.weights.verification.outputs`). No model is changed.

    An ``.onnx`` file is run in a process of its own, which may take what such a model can need: what a file does to
    onnxruntime, whoever wrote it, it cannot do to this process.

    Args:
        a: a model or a weights file.
        b: another one; None checks the fingerprint of the file ``a`` alone.
        spec: what a file holds, where neither file says so.
        keymap: the library whose names a file from elsewhere has; all are tried unless given. Its tensors are then
            compared by ours.
        inputs: batches to compute the outputs of instead.
        seed: of the random inputs.

    Returns:
        What was compared and how far it is the same; ``ok`` tells whether all is.

    Raises:
        ZooError: a model is to be verified alone.
        FileFormatError: a file is missing, damaged or of another kind.
        UnsafeFileError: it is a pickle that holds more than tensors.
        SpecError: a spec is wrong.
        RunawayGraphError: an ONNX file makes onnxruntime crash, or take far more memory or time than its model.
        SizeBudgetError: on inputs of the size that a file says, its model makes more than there is memory.
        KeymapError: a file has the names of another library, and not the tensors of such a model.

    >>> import zoo
    >>> model = zoo.build("lenet", weights="digits")
    >>> verify(model, zoo.save(model, "lenet.safetensors")).ok
    True
    """
    if b is None and isinstance(a, nn.Module):
        raise ZooError("found one model to verify; expected a file, or two of either to compare")
    sides = [_side(each, label) for each, label in ((a, "a"), (b, "b")) if each is not None]
    fingerprints = tuple(
        FingerprintParity(side.label, claimed.fingerprint if claimed else None, side.checkpoint.fingerprint)
        for side in sides
        if side.checkpoint is not None
        for claimed in (side.checkpoint.artifact,)
    )
    if b is None:
        return VerifyReport(sides[0].label, None, fingerprints)
    notes: list[str] = []
    failures: list[str] = []
    modelled = True
    try:
        sides = [_in_our_names(side, notes) for side in _with_models(sides, spec, keymap)]
    except TensorMismatchError as error:
        modelled = False
        failures.append(f"outputs: {error}")
    names = dict.fromkeys([*sides[0].state, *sides[1].state])
    differences = tuple(d for n in names if (d := _difference(n, sides[0].state, sides[1].state)) is not None)
    compared = True
    foreign_graph = any(side.graph is not None and side.is_foreign for side in sides)
    if foreign_graph and sides[0].state.keys() != sides[1].state.keys():
        compared, differences = False, ()
        notes.append("tensors: not compared, for those of an ONNX file from elsewhere have names of their own")
    outputs: list[OutputParity] = []
    given: Mapping[str, Sequence[torch.Tensor]] = {}
    try:
        given = _given(sides, inputs, seed, notes) if modelled else {}
        outputs = _outputs(sides, given, failures) if given else []
    except RunError as error:
        failures.append(f"outputs: {error}")
    return VerifyReport(
        sides[0].label,
        sides[1].label,
        fingerprints,
        len(names) - len(differences) if compared else None,
        len(names) if compared else 0,
        differences,
        tuple(outputs),
        tuple(failures),
        tuple(notes),
        tuple(dict.fromkeys(len(x) for batches in given.values() for x in batches)),
    )


def _side(subject: Subject, label: str) -> _Side:
    if isinstance(subject, nn.Module):
        model: nn.Module = getattr(subject, "_orig_mod", subject)  # what torch.compile wraps
        state = model.state_dict(keep_vars=True)
        aliases = tied(state)
        return _Side(label, None, None, {name: state[aliases.get(name, name)].detach() for name in state}, model)
    path = path_of(subject, "a model or the path of a weights file", label)
    checkpoint = read(path, mapped=False)
    return _Side(fspath(path), path, checkpoint, checkpoint.state_dict(), None)


def _difference(
    name: str, left: Mapping[str, torch.Tensor], right: Mapping[str, torch.Tensor]
) -> TensorDifference | None:
    a, b = left.get(name), right.get(name)
    if a is None or b is None:
        return TensorDifference(name, "missing", _text(a), _text(b))
    if a.dtype != b.dtype or a.shape != b.shape:
        return TensorDifference(name, "dtype" if a.dtype != b.dtype else "shape", _text(a), _text(b))
    if bit_equal(a, b):
        return None
    rows = [bytes_of(t).reshape(-1, t.dtype.itemsize) for t in (a, b)]
    differ = (rows[0] != rows[1]).any(1)
    wide = torch.complex128 if a.is_complex() else torch.float64
    x, y = (t.detach().cpu().reshape(-1)[differ].to(wide) for t in (a, b))
    return TensorDifference(
        name,
        "values",
        elements=int(differ.sum()),
        total=a.numel(),
        largest=float((x - y).abs().nan_to_num(float("inf")).max()),
    )


def _text(tensor: torch.Tensor | None) -> str:
    return "nothing" if tensor is None else f"{dtype_name(tensor.dtype)}{list(tensor.shape)}"


def _in_our_names(side: _Side, notes: list[str]) -> _Side:
    """Return a side whose file was recognised with the names that its model has for the tensors, and say so."""
    told = side.model.migration if side.path is not None and isinstance(side.model, Model) else None
    if told is not None and told.alignment is not None:
        notes.append(f"{side.label}: gave the model that the outputs are compared with; {told}")
    if told is None or side.model is None or not (told.renaming or told.unwrapping):
        return side
    notes.append(f"{side.label}: compared by our names; {told}")
    return replace(side, state=side.model.state_dict())


def _with_models(sides: Sequence[_Side], spec: Source | None, keymap: str | None) -> list[_Side]:
    """Give each side that is a file its model: by its own spec, or by that of the other side."""
    known: Any = spec
    for side in sides:
        if known is None and side.checkpoint is not None and side.checkpoint.artifact is not None:
            known = side.checkpoint.artifact.spec
        elif known is None and isinstance(side.model, Model):
            known = side.model.spec
    found = []
    for side in sides:
        model = side.model
        if side.path is not None and side.checkpoint is not None:
            if not side.is_foreign:
                model = model_of(side.checkpoint, side.path)
            elif known is not None and side.graph is None:
                model = model_of(side.checkpoint, side.path, known, keymap=keymap)
        found.append(_Side(side.label, side.path, side.checkpoint, side.state, model))
    graph = found[0]
    unmodelled = all(side.model is None for side in found)  # two graphs from elsewhere: one of them gives the model
    if known is not None and unmodelled and graph.path is not None and graph.checkpoint is not None:
        found[0] = replace(graph, model=_ending_alike(model_of(graph.checkpoint, graph.path, known, keymap=keymap)))
    return found


_FINISHES: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "Softmax": lambda x: x.softmax(1),
    "LogSoftmax": lambda x: x.log_softmax(1),
    "Sigmoid": torch.sigmoid,
}
"""What the model of a graph is made to do behind its end where the graph does."""


def _ending_alike(model: Model) -> Model:
    """Make a model of a graph end as that does, so that others are compared with the graph, not with logits."""
    alignment = model.migration.alignment if model.migration is not None else None
    for word in alignment.endings if alignment is not None else ():
        if word in _FINISHES:

            def end(_module: nn.Module, _inputs: object, output: Any, finish: Any = _FINISHES[word]) -> Any:
                return finish(output) if isinstance(output, torch.Tensor) else output

            model.register_forward_hook(end)
    return model


def _given(
    sides: Sequence[_Side], inputs: Sequence[torch.Tensor] | None, seed: int, notes: list[str]
) -> Mapping[str, Sequence[torch.Tensor]]:
    """Return the batches to compute outputs of, by kind; none if there is no model to compute them with."""
    models = [side.model for side in sides if side.model is not None]
    described = next((m for m in models if isinstance(m, Model)), None)
    if models and inputs is not None:
        return {"given": [x.double() for x in inputs]}
    if described is not None:
        return _probes(described, sides, seed, notes)
    notes.append("outputs: not compared, for nothing says of which model these are; say so: spec=, --spec")
    return {}


def _outputs(
    sides: Sequence[_Side], given: Mapping[str, Sequence[torch.Tensor]], failures: list[str]
) -> list[OutputParity]:
    models = [side.model for side in sides if side.model is not None]
    runs: dict[str, Run] = {}
    batches = [x for each in given.values() for x in each]
    for side in sides:
        if side.model is not None:
            runs[f"{side.label} in torch"] = in_torch(side.model)
        if side.graph is not None:
            held = (sum(tensor.nbytes for tensor in each.values()) for each in (side.state, models[0].state_dict()))
            weights = max(side.graph.stat().st_size, *held)
            work = work_of(models[0], batches[0])
            try:
                run, by = in_onnx(side.graph, batches, work, weights, {each.dtype for each in side.state.values()})
                runs[f"{side.label} in {by}"] = run
            except RunError as error:
                failures.append(f"outputs: {error}")
    ports = next((s.checkpoint.artifact.outputs for s in sides if s.checkpoint and s.checkpoint.artifact), ())
    return compare_outputs(models[0], runs, given, [port.name for port in ports])


def _probes(model: Model, sides: Sequence[_Side], seed: int, notes: list[str]) -> dict[str, list[torch.Tensor]]:
    source = model.spec["input"]
    size = source["size"]
    if size is None:
        size = [max(64, getattr(model.backbone, "min_size", 1))] * getattr(model.backbone, "dims", 2)
    batches: tuple[int, ...] = BATCHES
    for side in sides:
        if side.graph is None:
            continue
        shape = next(iter(read_input_shapes(side.graph).values()), ())
        if len(shape) == len(size) + 2:  # what a graph fixes, nothing else can be tried on
            size = [n or own for n, own in zip(shape[2:], size, strict=True)]
            batches = (shape[0],) if shape[0] else batches
    _refuse_vast(model, size, max(batches))
    if list(size) != source["size"]:
        why = "the spec gives no size of the input" if source["size"] is None else "a graph fixes the size of the input"
        notes.append(f"{why}: {'×'.join(map(str, size))} was taken")
    if batches != BATCHES:
        notes.append(f"a graph takes batches of {batches[0]} alone")
    return probes(source["channels"], size, model.record.preprocessing if model.record else None, seed, batches)


def _refuse_vast(model: Model, size: Sequence[int], samples: int) -> None:
    """Refuse inputs that a file asks for, and that would take all memory, or the model on them.

    Raises:
        RunError: they are too large, or the model does not take them.
        SizeBudgetError: the model makes more of them than there is memory.
    """
    channels = model.spec["input"]["channels"]
    told = "×".join(map(str, (samples, channels, *size)))
    if samples * channels * math.prod(size) > MAX_INPUT * max(BATCHES):
        raise RunError(f"an input of {told} is more than is tried; say on what to compare them: inputs=")
    try:
        skeleton = assemble(parse(model.spec), "meta", initialise=False).eval()
        run = traced(skeleton, size, channels)
    except Exception as error:  # models raise anything on an input that they were not made for
        reason = str(error).strip().partition("\n")[0]
        raise RunError(f"the model does not run on an input of {told}: {type(error).__name__}: {reason}") from error
    require_memory(run.largest, samples, size)
