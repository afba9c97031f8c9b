"""target: the graph of the model that is wanted, without a single weight in memory.

One run on the meta device tells it in milliseconds. Only where the model calls an operator that is not known here,
torch's exporter is asked, whose code alone takes seconds and 200 MB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from zoo.budget import Budget
from zoo.model import Model
from zoo.weights.alignment.graph import Attribute, Constant, Graph, Node
from zoo.weights.alignment.tracing import traced
from zoo.weights.checkpoint import Artifact, Port, input_port, output_ports

_TRIED = 2
"""On how many samples at once a model is tried."""

_AT_ONCE, _WIDEST = 3, 8  # what an operation takes, what it gives, and what it needs on the way; bytes of float64


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
        SizeBudgetError: on such an input it makes more than there is memory.
    """
    run = traced(model, size, model.spec["input"]["channels"])
    require_memory(run.largest, _TRIED, size)
    graph = exported(model, size, path) if run.graph is None else run.graph
    return Target(graph, run.activations, run.products)


def require_memory(largest: int, samples: int, size: Sequence[int]) -> None:
    """Check that there is room to run a model in float64; how large an input is, a stranger may have said.

    Args:
        largest: how many numbers the largest thing has that it makes for one sample.
        samples: how many are run at once.
        size: the length of each axis of the input but batch and channels, for errors.

    Raises:
        SizeBudgetError: there is not.
    """
    limit = Budget.of_machine().bytes
    if limit is not None:
        where = f"an input of {'×'.join(map(str, size))} for {samples} samples"
        limit.require("bytes that the model makes of it", _AT_ONCE * _WIDEST * samples * largest, where)


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
