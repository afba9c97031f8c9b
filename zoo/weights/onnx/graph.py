"""The graph without its weights: cleaned of everything that says how it came about, its tensors taken out."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import onnx
import torch
from onnxscript import ir
from onnxscript.ir.passes import common

from zoo.kinds import DISTRIBUTION
from zoo.weights.checkpoint import Checkpoint
from zoo.weights.dtypes import BY_TORCH
from zoo.weights.onnx.writing import Payload
from zoo.weights.parity import bit_equal
from zoo.weights.regions import byte_view


def clean(graph: ir.Model) -> None:
    """Remove, in place, what computes nothing and what says how the exporter ran: metadata holds paths of this machine.

    Nodes, initializers and functions that nothing uses go too: onnxruntime warns of each.
    """
    for make in (common.RemoveUnusedNodesPass, common.RemoveUnusedFunctionsPass, common.RemoveUnusedOpsetsPass):
        make()(graph)
    _free_names(graph.graph)
    graph.producer_name, graph.producer_version = "zoo", version(DISTRIBUTION)
    graph.domain = graph.doc_string = None
    graph.metadata_props.clear()
    owners: list[ir.Graph | ir.Function] = [graph.graph, *graph.functions.values()]
    for owner in owners:
        _forget(owner, *owner.inputs, *owner.outputs)
        for node in ir.traversal.RecursiveGraphIterator(owner):
            _forget(node, *node.outputs)
            for attribute in node.attributes.values():
                attribute.doc_string = None
                inner = attribute.value if attribute.type == ir.AttributeType.GRAPHS else [attribute.value]
                for each in inner:
                    if isinstance(each, ir.Graph):
                        _forget(each, *each.inputs, *each.outputs, *each.initializers.values())
    for value in graph.graph.initializers.values():
        _forget(value)


def drop_zero_biases(graph: ir.Model) -> None:
    """Remove, in place, the zeros that torch's exporter adds to a convolution without a bias.

    ONNX has convolutions without; and the zeros that are added to one of three dimensions are of a wrong shape, which
    onnxruntime refuses. What made them is left over, for :func:`clean`.
    """
    for node in graph.graph.all_nodes():
        if node.op_type == "Conv" and len(node.inputs) == 3 and _expands_zero(node.inputs[2]):
            node.resize_inputs(2)


def _expands_zero(value: ir.Value | None) -> bool:
    """Tell whether a value is an Expand of the constant 0, cast or not."""
    node = None if value is None else value.producer()
    if node is None or node.op_type != "Expand":
        return False
    source = node.inputs[0].producer() if node.inputs[0] else None
    if source is not None and source.op_type == "CastLike" and source.inputs[0]:
        source = source.inputs[0].producer()
    constant = source.attributes.get("value") if source is not None and source.op_type == "Constant" else None
    return constant is not None and constant.as_tensor().size == 1 and not constant.as_tensor().numpy().any()


def _free_names(graph: ir.Graph) -> None:
    """Rename values that are called as an input, an output or a tensor is: a feature may be named as a node's result.

    The exporter gives an output the name that it is told, whatever else has it, and onnxruntime opens no such file.
    """
    outputs = {id(value) for value in graph.outputs}
    names = {value.name for value in (*graph.inputs, *graph.outputs, *graph.initializers.values())}
    results = [v for node in ir.traversal.RecursiveGraphIterator(graph) for v in node.outputs if id(v) not in outputs]
    taken = names | {value.name for value in results}
    for value in results:
        if value.name in names:
            value.name = next(n for n in (f"{value.name}_{i}" for i in range(1, len(taken) + 2)) if n not in taken)
            taken.add(value.name)


def held_by(graph: ir.Model, checkpoint: Checkpoint) -> dict[str, str]:
    """Return, for each tensor of a checkpoint that is an initializer of the graph bit for bit, the initializer's name.

    An initializer is called as the tensor, or by another name of the same tensor.
    """
    others: dict[str, list[str]] = {}
    for alias, first in checkpoint.aliases.items():
        others.setdefault(first, []).append(alias)
    held = {}
    for name, tensor in checkpoint.tensors.items():
        for spelling in (name, *others.get(name, ())):
            value = graph.graph.initializers.get(spelling)
            if value is not None and _same(_torch_tensor(value), tensor):
                held[name] = spelling
                break
    return held


def payload_of(name: str, tensor: torch.Tensor) -> Payload:
    """Return the initializer of a tensor of the model."""
    return Payload(name, BY_TORCH[tensor.dtype].onnx, tuple(tensor.shape), tensor.nbytes, partial(byte_view, tensor))


def payloads_of(graph: ir.Model) -> list[Payload]:
    """Return the initializers of floating point, which folding has made of the weights."""
    payloads = []
    for name, value in graph.graph.initializers.items():
        constant = value.const_value
        if constant is not None and constant.dtype.is_floating_point():
            dims = tuple(int(n) for n in constant.shape.numpy())
            view = partial(_bytes_of, constant)
            payloads.append(Payload(name, int(constant.dtype), dims, constant.nbytes, view))
    return payloads


def without(graph: ir.Model, names: Iterable[str]) -> onnx.ModelProto:
    """Take initializers out of a graph and return what is left; what was taken out is no longer whole."""
    for name in names:
        value = graph.graph.initializers.pop(name)
        value.const_value = value.shape = value.type = None  # the initializer will say all that
    proto: onnx.ModelProto = ir.to_proto(graph)
    return proto


def _forget(*values: Any) -> None:
    for value in values:
        value.metadata_props.clear()
        value.doc_string = None


def _bytes_of(constant: Any) -> memoryview:
    tensor = getattr(constant, "raw", None)
    if isinstance(tensor, torch.Tensor):
        return byte_view(tensor)
    array = np.ascontiguousarray(constant.numpy())
    return array.reshape(-1).view(np.uint8).data


def _torch_tensor(value: ir.Value) -> torch.Tensor | None:
    raw = getattr(value.const_value, "raw", None)
    return raw if isinstance(raw, torch.Tensor) else None


def _same(found: torch.Tensor | None, tensor: torch.Tensor) -> bool:
    if found is None:
        return False
    one = (
        found.dtype == tensor.dtype
        and found.shape == tensor.shape
        and found.stride() == tensor.stride()
        and found.data_ptr() == tensor.data_ptr()
        and (found.is_conj(), found.is_neg()) == (tensor.is_conj(), tensor.is_neg())
    )
    return (one and found.device == tensor.device) or bit_equal(found, tensor)
