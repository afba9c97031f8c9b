"""export: from a model to an ONNX graph through torch's exporter; nothing is folded, merged, said or left behind.

The graph's initializers are the model's own tensors: torch.export traces with stand-ins that have no memory.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from onnxscript import ir, optimizer

from zoo.errors import WeightsError
from zoo.kinds import output_features
from zoo.model import Model
from zoo.weights.checkpoint import Artifact, Port
from zoo.weights.onnx.graph import clean, drop_zero_biases
from zoo.weights.onnx.opset import TORCH_LOWEST, convert
from zoo.weights.onnx.standin import standin
from zoo.weights.onnx.translations import TRANSLATIONS

_COLOURS = re.compile("\x1b\\[[0-9;]*m")
_INSIDERS = r"(torch|onnx|onnxscript|onnx_ir|copyreg)(\.|$)"
_TALKERS = ("torch", "onnxscript", "onnx_ir")
_NAMELESS = {
    torch.float8_e8m0fnu
}  # dtypes that torch's exporter cannot translate, even where nothing is computed of them


def export(model: Model, artifact: Artifact, path: Path, *, opset: int | None, optimize: bool) -> ir.Model:
    """Trace a model and translate it.

    Hooks that were added to the model after it was built are neither run nor traced; those that its components
    install themselves are part of what it computes.

    Args:
        model: the model; it is not touched, only its tensors are shared.
        artifact: its ports: axes that have a name may vary in the graph.
        path: the file that is to be written, for errors.
        opset: the version of the operator set; torch's choice if None.
        optimize: whether the graph is folded for inference.

    Returns:
        The graph, with nothing in it that says how it came about.

    Raises:
        WeightsError: torch cannot export it, or not for this operator set.
    """
    port = artifact.inputs[0]
    traced = standin(model, _exportable)
    example = example_input(traced, port)
    dynamic = {axis: torch.export.Dim(n) for axis, n in enumerate(port.shape) if isinstance(n, str)}
    with _shielded("cpu" if example.is_meta else example.device.type):
        try:
            program: Any = torch.onnx.export(
                traced,
                (example,),
                dynamo=True,
                optimize=False,  # the optimizer folds BatchNorm and merges equal tensors
                verbose=False,  # it prints on stdout
                external_data=False,
                opset_version=None if opset is None else max(opset, TORCH_LOWEST),
                input_names=[port.name],
                output_names=[p.name for p in artifact.outputs],
                dynamic_shapes=(dynamic,),
                custom_translation_table=dict(TRANSLATIONS),
            )
        except torch.onnx.OnnxExporterError as error:
            cause = error.__cause__ or error
            reason = _COLOURS.sub("", str(cause)).strip().partition("\n")[0]
            raise WeightsError(
                path, f"torch cannot export this model to ONNX: {type(cause).__name__}: {reason}"
            ) from error
        graph: ir.Model = program.model
        drop_zero_biases(graph)
        if opset is not None:
            convert(graph, opset, path)
        _refuse_nameless(model, graph, path)
        if optimize:
            optimizer.optimize_ir(graph)
        clean(graph)
    return graph


def example_input(model: Model, port: Port) -> torch.Tensor:
    """Return an input to trace a model with: two samples, for the exporter takes a dimension of one for a constant."""
    features = (*model.features, *(output_features(model.backbone) or ()))  # a map of a fixed size has no stride
    strides = [2 * n for f in features for n in f.strides]
    stated = model.spec["input"]["size"] or [max(64, getattr(model.backbone, "min_size", 1))] * (len(port.shape) - 2)
    # A map of one position would be taken for one that always has one.
    sizes = [
        max(n, *strides, 1) if isinstance(axis, str) else n for n, axis in zip(stated, port.shape[2:], strict=True)
    ]
    weight = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    return torch.zeros([2, int(port.shape[1]), *sizes], dtype=weight.dtype, device=weight.device)


def _exportable(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor, or what stands for it where it would stop the exporter: bytes for a dtype, values for a view."""
    if tensor.dtype in _NAMELESS:
        return torch.zeros(tensor.shape, dtype=torch.uint8)
    if tensor.is_conj() or tensor.is_neg():
        return tensor.detach().resolve_conj().resolve_neg()
    return tensor


def _refuse_nameless(model: Model, graph: ir.Model, path: Path) -> None:
    """Drop the bytes that stand for tensors of another dtype, and refuse a graph that computes with them."""
    for name, tensor in model.state_dict().items():
        value = graph.graph.initializers.get(name)
        if tensor.dtype not in _NAMELESS or value is None:
            continue
        if value.uses():
            raise WeightsError(
                path, f"the graph computes with {name!r}, whose dtype {tensor.dtype} torch cannot export"
            )
        del graph.graph.initializers[name]


@contextmanager
def _shielded(device: str) -> Iterator[None]:
    """Keep the caller's modes out of the export, and its talk and its random numbers in."""
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(warnings.catch_warnings())
        for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            # They tell the exporter's authors what to change; what is about the model is a UserWarning.
            warnings.filterwarnings("ignore", category=category, module=_INSIDERS)
        stack.enter_context(_silenced())
        yield


@contextmanager
def _silenced() -> Iterator[None]:
    """Let torch and the libraries of its exporter log nothing for a while, whatever handlers their loggers have."""
    known = [name for name in logging.root.manager.loggerDict if name.startswith(tuple(f"{n}." for n in _TALKERS))]
    loggers = [logging.getLogger(name) for name in (*_TALKERS, *known)]
    loggers = [logger for logger in loggers if logger.handlers or logger.name in _TALKERS]
    before = [(logger, logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [logging.NullHandler()], False
    try:
        yield
    finally:
        for logger, handlers, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate
