"""What a stranger's graph may ask of onnxruntime, checked before it is run.

No code of others, nothing quantised, no operator that makes something large of something small unless the model has it
too, and windows of a sane size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from zoo.errors import AlignmentError
from zoo.weights.alignment.graph import Graph, Node

MAX_WINDOW = 1024
"""How large a kernel, stride, padding or dilation may be."""

MAX_INPUT = 1 << 24
"""How many numbers one sample may have."""

_OURS = {"", "com.microsoft"}
_QUANTISED = ("QuantizeLinear", "DequantizeLinear", "QLinear", "Integer", "DynamicQuantize", "QGemm", "QAttention")
_ENLARGING = {
    "ConstantOfShape", "ConvTranspose", "DepthToSpace", "Einsum", "EyeLike", "Expand", "MaxUnpool", "OneHot", "Range",
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Resize", "Tile", "Upsample",
}  # fmt: skip
_FROM_CONSTANTS = {"ConstantOfShape", "Expand", "Range"}
_JOINING = {"Concat", "Pad"}
_WINDOWS = ("kernel_shape", "strides", "pads", "dilations", "output_padding")


def refuse_unsafe(file: Graph, model: Graph, elements: int, path: Path) -> None:
    """Refuse a graph that should not be run here.

    Args:
        file: the stranger's graph.
        model: that of the model which it is said to be.
        elements: how many numbers the model has, and so how many the file may make of nothing.
        path: the file, for errors.

    Raises:
        AlignmentError: it has an operator of others, is quantised, or could grow beyond bounds.
    """
    known = {node.op for node in model.nodes}
    constants = set(file.constants)
    makers = {name: each for each in file.nodes for name in each.outputs}
    left = 2 * max(elements, 1 << 16)
    for node in file.nodes:
        refuse_unknown(node, path)
        taken = node.inputs[:1] if node.op == "CastLike" else node.inputs  # of the other it takes the dtype alone
        made = bool(taken) and all(name in constants for name in taken if name)
        if made:
            constants.update(node.outputs)
        if node.op in _ENLARGING and node.op not in known:
            if not (made and node.op in _FROM_CONSTANTS):
                raise AlignmentError(path, "has an operator that the model does not have", _told(node))
            left -= _size(node, file, makers, path)
            if left < 0:
                raise AlignmentError(path, "makes constants that are larger than the model", _told(node))
        around = file.constants.get(node.inputs[1]) if node.op == "Pad" and len(node.inputs) > 1 else None
        sizes = [abs(n) for key in _WINDOWS for n in node.ints(key)]
        if around is not None and around.values is not None and math.prod(around.shape) <= 64:
            sizes += [abs(int(n)) for n in around.values().reshape(-1).tolist()]
        largest = max(sizes, default=0)
        if largest > MAX_WINDOW:
            raise AlignmentError(path, f"has a window of {largest}; at most {MAX_WINDOW} are taken", _told(node))


def refuse_growing(file: Graph, model: Graph, path: Path) -> None:
    """Refuse a graph that makes more of the input than the model does, by joining it with itself or padding it.

    Raises:
        AlignmentError: it does.
    """
    few = set(file.constants)  # what is made of constants and of shapes
    joins = sum(_growth(node) for node in model.nodes)
    for node in file.nodes:
        if node.op in ("Shape", "Size") or (node.inputs and all(name in few for name in node.inputs if name)):
            few.update(node.outputs)
        elif growth := _growth(node):
            joins -= growth
            if joins < 0:
                raise AlignmentError(path, "joins or pads more than the model does", _told(node))


def _growth(node: Node) -> int:
    """Return how often a node joins or pads: one that joins a single input does nothing."""
    return (len(node.inputs) - 1 if node.op == "Concat" else 1) if node.op in _JOINING else 0


def refuse_unknown(node: Node, path: Path) -> None:
    """Refuse an operator that is not ONNX's or onnxruntime's own, or computes with whole numbers.

    Raises:
        AlignmentError: it is one.
    """
    if node.domain == "com.microsoft.nchwc":
        raise AlignmentError(
            path, "was laid out for one machine by onnxruntime; save it with ORT_ENABLE_EXTENDED at most", _told(node)
        )
    if node.domain == "com.ms.internal.nhwc" or node.domain not in _OURS:
        raise AlignmentError(path, f"has an operator of {node.domain!r}, which is unknown here", _told(node))
    if any(each in node.op for each in _QUANTISED):
        raise AlignmentError(
            path, "is quantised, and what its weights were before is lost; take the file it was made from", _told(node)
        )


def refuse_large_input(channels: int, size: tuple[int, ...], path: Path) -> None:
    """Refuse an input that would take too much memory.

    Raises:
        AlignmentError: it would.
    """
    if channels * math.prod(size) > MAX_INPUT:
        raise AlignmentError(path, f"takes an input of {'×'.join(map(str, size))}, more than is tried here")


def _size(node: Node, graph: Graph, makers: Mapping[str, Node], path: Path) -> int:
    """Return how many numbers a node makes of nothing."""
    wanted = node.inputs[1] if node.op == "Expand" and len(node.inputs) > 1 else node.inputs[0]
    dims = None if node.op == "Range" else _numbers(wanted, graph, makers)
    if dims is None:
        raise AlignmentError(path, "makes a constant of a size that cannot be told", _told(node))
    return math.prod(max(1, n) for n in dims)


def _numbers(name: str, graph: Graph, makers: Mapping[str, Node], depth: int = 8) -> tuple[int, ...] | None:
    """Return a few whole numbers that a graph states, or takes from the shape of what it holds."""
    held, maker = graph.constants.get(name), makers.get(name)
    if held is not None:
        few = held.values is not None and math.prod(held.shape) <= 64
        return tuple(int(n) for n in held.values().reshape(-1).tolist()) if few and held.values is not None else None
    if maker is None or not depth:
        return None
    if maker.op == "Shape" and maker.inputs[0] in graph.constants:
        shape = graph.constants[maker.inputs[0]].shape
        return shape[int(maker.number("start", 0)) : int(maker.number("end", len(shape)))]
    if maker.op == "Expand" and len(maker.inputs) == 2:
        found = [_numbers(each, graph, makers, depth - 1) for each in maker.inputs]
        if found[0] is not None and found[1] is not None and len(found[0]) == 1 and math.prod(found[1]) <= 64:
            return found[0] * math.prod(found[1])
    return None


def _told(node: Node) -> str:
    return f"{node.domain}.{node.op} {node.name!r}" if node.domain else f"{node.op} {node.name!r}"
