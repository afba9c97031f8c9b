"""Which sizes of input a graph takes: what the spec and the caller say, and the proof that it is so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from zoo.errors import WeightsError
from zoo.features import AXES
from zoo.model import Model
from zoo.weights.checkpoint import Artifact, Port
from zoo.weights.onnx.export import example_input
from zoo.weights.onnx.standin import standin
from zoo.weights.onnx.writing import Payload


def sized(artifact: Artifact, dynamic_size: bool | None, path: Path) -> Artifact:
    """Return the artifact with ports whose axes are named where they may vary.

    Args:
        artifact: as the spec has it: axes without a stated size are named.
        dynamic_size: True lets all sizes vary, False none; None leaves them as they are.
        path: the file that is to be written, for errors.

    Raises:
        WeightsError: no size may vary and none is stated, or ``dynamic_size`` is something else.
    """
    if dynamic_size is not None and type(dynamic_size) is not bool:
        raise WeightsError(path, f"found dynamic_size {dynamic_size!r}; expected True, False or None")
    varies = varying(artifact)
    if dynamic_size is False and varies:
        raise WeightsError(
            path, "dynamic_size=False fixes the size of the input, and the spec states none; state input.size in it"
        )
    if not dynamic_size or varies:
        return artifact
    ports = {"inputs": tuple(map(_named, artifact.inputs)), "outputs": tuple(map(_named, artifact.outputs))}
    return artifact.model_copy(update=ports)


def varying(artifact: Artifact) -> bool:
    """Tell whether a spatial axis of the input may vary."""
    return any(isinstance(n, str) for n in artifact.inputs[0].shape[2:])


@dataclass(frozen=True)
class Elsewhere:
    """What a model computes at another size than it is traced at, in float32.

    Attributes:
        model: the model, its tensors in float32.
        native: whether they are the model's own.
        traced: the size it is traced at.
        size: the other one.
        input: an input of that size.
        outputs: what comes out.
        remedy: what the caller can do if it is wrong.
    """

    model: Model
    native: bool
    traced: str
    size: str
    input: torch.Tensor
    outputs: tuple[torch.Tensor, ...]
    remedy: str


def run_elsewhere(model: Model, artifact: Artifact, path: Path) -> Elsewhere:
    """Run a model at another size than it is going to be traced at.

    Raises:
        WeightsError: it does not take inputs of another size.
    """
    plain = standin(model, _float32)
    example = example_input(plain, artifact.inputs[0])
    sizes = [n + 32 * (axis + 1) for axis, n in enumerate(example.shape[2:])]
    shape = (1, example.shape[1], *sizes)
    other = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(example)  # no random number is drawn
    traced, size = ("×".join(map(str, each)) for each in (example.shape[2:], sizes))
    stated = model.spec["input"]["size"] is not None
    remedy = "leave dynamic_size out" if stated else "state input.size in the spec"
    try:
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(other.device.type, enabled=False):
            found = plain(other)
    except Exception as error:  # components raise anything on an input that they were not made for
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(
            path, f"the model is tied to an input of {traced}, at {size} it fails ({reason}); {remedy}"
        ) from error
    outputs = tuple(each.cpu() for each in torch.utils._pytree.tree_leaves(found) if isinstance(each, torch.Tensor))
    native = all(mine is own for mine, own in zip(plain.parameters(), model.parameters(), strict=True))
    return Elsewhere(plain, native, traced, size, other.cpu(), outputs, remedy)


def refuse_frozen_size(
    skeleton: onnx.ModelProto, payloads: Sequence[Payload], elsewhere: Elsewhere, path: Path
) -> None:
    """Run a graph at the other size in onnxruntime: some operators are exported for one size alone.

    The weights stay where they are: onnxruntime is handed their memory.

    Raises:
        WeightsError: it computes something else than the model there, or fails.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    proto = onnx.ModelProto()
    proto.CopyFrom(skeleton)
    arrays = {}
    for payload in payloads:
        tensor = proto.graph.initializer.add(name=payload.name, data_type=payload.data_type, dims=payload.dims)
        if payload.nbytes:
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="memory")
            dtype = onnx.helper.tensor_dtype_to_np_dtype(payload.data_type)
            arrays[payload.name] = np.frombuffer(payload.view(), dtype=dtype).reshape(payload.dims)
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in arrays.values()]
    options.add_external_initializers(list(arrays), values)
    try:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        ran = session.run(None, {proto.graph.input[0].name: elsewhere.input.numpy()})
    except Exception as error:  # onnxruntime has a class for each of its error codes, with no common base
        fault = str(error).strip().partition("\n")[0]
    else:
        finite = [each[each.isfinite()].abs() for each in elsewhere.outputs]
        tolerance = 1e-3 * max([1.0, *(each.max().item() for each in finite if each.numel())])
        same = all(  # NaN where NaN is expected: weights that went astray in training are weights all the same
            tuple(e.shape) == r.shape and torch.allclose(e, torch.from_numpy(r), 0, tolerance, equal_nan=True)
            for e, r in zip(elsewhere.outputs, ran, strict=True)
        )
        fault = "" if same else "onnxruntime computes something else there"
    if fault:
        raise WeightsError(
            path,
            "exported for an input of any size, it would only be right at "
            f"{elsewhere.traced}, not at {elsewhere.size} ({fault}); {elsewhere.remedy}",
        )


def _named(port: Port) -> Port:
    dims = len(port.shape) - 2
    if dims < 1:
        return port
    names = AXES.get(dims) or tuple(f"size{n}" for n in range(dims))
    return Port(name=port.name, shape=(*port.shape[:2], *names))


def _float32(tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.is_floating_point() or tensor.dtype == torch.float32:
        return tensor
    single = tensor.detach().float()
    return nn.Parameter(single, requires_grad=False) if isinstance(tensor, nn.Parameter) else single
