"""target: the graph of the model that is wanted, without a single weight in memory.

One run on the meta device tells it in milliseconds. Only where the model calls an operator that is not known here,
torch's exporter is asked, whose code alone takes seconds and 200 MB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from zoo.model import Model
from zoo.weights.alignment.graph import Attribute, Constant, Graph, Node
from zoo.weights.alignment.tracing import traced
from zoo.weights.checkpoint import Artifact, Port, input_port, output_ports


class Target(NamedTuple):
    """What a file is laid beside.

    Attributes:
        graph: the graph of the model; every tensor of it has its name there.
        activations: how many numbers the model makes for one sample.
        products: how often it multiplies and adds for that.
    """

    graph: Graph
    activations: int
    products: int


def target(model: Model, size: Sequence[int], path: Path) -> Target:
    """Return the graph of a model.

    Args:
        model: the model, on the meta device and in evaluation mode.
        size: the length of each axis of the input but batch and channels.
        path: the file that is to be aligned, for errors.

    Raises:
        WeightsError: it has an operator that is not known here, and torch cannot export it.
    """
    run = traced(model, size, model.spec["input"]["channels"])
    graph = exported(model, size, path) if run.graph is None else run.graph
    return Target(graph, run.activations, run.products)


def exported(model: Model, size: Sequence[int], path: Path) -> Graph:
    """Export a model that is on the meta device, folded and merged nowhere, so that every tensor has its name.

    Args:
        model: the model.
        size: the length of each axis of the input but batch and channels.
        path: the file that is to be aligned, for errors.

    Raises:
        WeightsError: torch cannot export the model.
    """
    from zoo.weights.onnx.export import export

    fixed = Port(name=input_port(model).name, shape=("batch", model.spec["input"]["channels"], *size))
    artifact = Artifact(spec=model.spec, lock=model.lock, inputs=(fixed,), outputs=output_ports(model))
    made = export(model, artifact, path, opset=None, optimize=False)
    parameters = model.state_dict()
    constants = {
        name: _constant(name, value.const_value, parameters) for name, value in made.graph.initializers.items()
    }
    nodes = []
    for node in made.graph:
        if node.op_type == "Constant" and not node.domain:
            (attribute,) = node.attributes.values()
            name = node.outputs[0].name or ""
            constants[name] = _stated(name, attribute)
        else:
            nodes.append(_node(node))
    inputs = {value.name or "": () for value in made.graph.inputs}
    return Graph(tuple(nodes), constants, inputs, tuple(value.name or "" for value in made.graph.outputs))


def _constant(name: str, value: Any, parameters: Mapping[str, torch.Tensor]) -> Constant:
    shape = tuple(int(n) for n in value.shape.numpy())
    parameter = name if name in parameters else None
    raw = getattr(value, "raw", None)
    known = not (isinstance(raw, torch.Tensor) and raw.is_meta)
    values = (lambda: torch.from_numpy(value.numpy().copy())) if known and parameter is None else None
    dtype = torch.float32 if value.dtype.is_floating_point() else torch.int64  # of ours the kind is enough
    return Constant(name, shape, values, dtype, parameter)


def _stated(name: str, attribute: Any) -> Constant:
    from onnxscript import ir

    value: Any = attribute.value
    if isinstance(value, ir.TensorProtocol):
        tensor = torch.from_numpy(value.numpy().copy())
    else:
        floats = attribute.type in (ir.AttributeType.FLOAT, ir.AttributeType.FLOATS)
        tensor = torch.tensor(value, dtype=torch.float32 if floats else torch.int64)
    return Constant(name, tuple(tensor.shape), lambda: tensor, tensor.dtype)


def _node(node: Any) -> Node:
    attributes: dict[str, Attribute] = {}
    for name, attribute in node.attributes.items():
        value: Any = attribute.value
        attributes[name] = tuple(value) if isinstance(value, list | tuple) else value
    outputs = tuple(value.name or "" for value in node.outputs)
    inputs = tuple((value.name or "") if value is not None else "" for value in node.inputs)
    return Node(node.name or outputs[0], node.op_type, node.domain, inputs, outputs, attributes)
