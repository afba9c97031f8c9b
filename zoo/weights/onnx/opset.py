"""Operator sets: which a graph may be asked for, and how it gets below the lowest that torch knows."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import onnx
from onnx import helper
from onnxscript import ir, optimizer

from zoo.errors import WeightsError

TORCH_LOWEST = 18
"""What torch's exporter is written in: asked for less, it answers with this one."""

_LOWEST = 7
"""Below it onnxruntime runs nothing."""


def check_opset(opset: object, path: Path) -> None:
    """Refuse, before anything is exported, what is no version of the operator set.

    Raises:
        WeightsError: it is no number, or one that onnx or onnxruntime does not know.
    """
    if type(opset) is not int:
        raise WeightsError(path, f"found opset {opset!r}; expected a whole number, {_range()}")
    if not _LOWEST <= opset <= onnx.defs.onnx_opset_version() or not _onnxruntime_takes(opset):
        raise WeightsError(path, f"found opset {opset}; {_range()}")


def convert(graph: ir.Model, opset: int, path: Path) -> None:
    """Bring a graph to an operator set that torch does not write, in place; the numbers in it stay as they are.

    What computes with constants alone is folded first, for older operators take as attributes what newer ones take as
    inputs. Initializers of floating point, and so all weights, are kept out of the way meanwhile.

    Args:
        graph: a graph in any operator set.
        opset: the one to bring it to.
        path: the file that is to be written, for errors.

    Raises:
        WeightsError: it cannot be brought there.
    """
    torch_gave = graph.opset_imports[""]
    if torch_gave == opset:
        return
    weights = {
        name: value
        for name, value in graph.graph.initializers.items()
        if value.dtype is not None and value.dtype.is_floating_point()
    }
    tensors = {name: value.const_value for name, value in weights.items()}
    ports = len(graph.graph.inputs)
    for name, value in weights.items():
        del graph.graph.initializers[name]
        value.const_value = None
        graph.graph.inputs.append(value)
    optimizer.optimize_ir(graph)
    for node in ir.traversal.RecursiveGraphIterator(graph.graph):
        zero = node.attributes.get("noop_with_empty_axes")
        if zero is not None and zero.value == 0 and opset < TORCH_LOWEST:  # what older operators do without being told
            del node.attributes["noop_with_empty_axes"]
    try:
        proto = onnx.version_converter.convert_version(ir.to_proto(graph), opset)
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:  # onnx raises RuntimeError and classes of its own, with no common base
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(
            path,
            f"asked for opset {opset}, torch gave {torch_gave}, which onnx cannot convert ({reason}); {_range()}",
        ) from error
    graph.graph = ir.from_proto(proto).graph
    found = graph.graph.inputs[ports:]
    if graph.opset_imports.get("") != opset or [value.name for value in found] != list(weights):
        raise WeightsError(
            path, f"asked for opset {opset}, got {graph.opset_imports.get('')} or other weights; {_range()}"
        )
    del graph.graph.inputs[ports:]
    for value in found:
        value.const_value = tensors[value.name or ""]
        graph.graph.register_initializer(value)


def _range() -> str:
    highest = max(n for n in range(TORCH_LOWEST, onnx.defs.onnx_opset_version() + 1) if _onnxruntime_takes(n))
    return f"{TORCH_LOWEST} to {highest} work, and some graphs from 15 on"


@lru_cache
def _onnxruntime_takes(opset: int) -> bool:
    import onnxruntime

    port = helper.make_tensor_value_info
    node = helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph([node], "probe", [port("x", 1, [1])], [port("y", 1, [1])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception:  # onnxruntime has a class for each of its error codes, with no common base
        return False
    return True
