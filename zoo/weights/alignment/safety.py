"""What a stranger's graph may ask of onnxruntime, checked before it is run.

No code of others, nothing quantised, no operator that makes something large of something small unless the model has it
too, and windows of a sane size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from zoo.errors import AlignmentError, ZooError
from zoo.weights.alignment.arithmetic import whole
from zoo.weights.alignment.constants import MAX_TURNS, Computed, folded
from zoo.weights.alignment.graph import Graph, Node
from zoo.weights.alignment.layers import Held
from zoo.weights.alignment.order import all_ordered
from zoo.weights.alignment.words import padding

MAX_WINDOW = 1024
"""How large a kernel, stride, padding or dilation may be."""

MAX_INPUT = 1 << 24
"""How many numbers one sample may have."""

_Numbers = tuple[int, ...] | None

_OURS = {"", "com.microsoft"}
_QUANTISED = ("QuantizeLinear", "DequantizeLinear", "QLinear", "Integer", "DynamicQuantize", "QGemm", "QAttention")
_ENLARGING = {
    "ConstantOfShape", "ConvTranspose", "DepthToSpace", "Einsum", "EyeLike", "Expand", "MaxUnpool", "OneHot", "Range",
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Resize", "Tile", "Upsample",
}  # fmt: skip
_FROM_CONSTANTS = {"ConstantOfShape", "Expand", "Range"}
_JOINING = {"Concat", "Pad"}
_WINDOWS = ("kernel_shape", "strides", "pads", "dilations", "output_padding")


@contextmanager
def following(path: Path) -> Iterator[None]:
    """Turn whatever a graph that makes no sense leads to into an error of ours.

    Raises:
        AlignmentError: something within raised what is no error of ours.
    """
    try:
        yield
    except ZooError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise AlignmentError(path, f"cannot be followed: {type(error).__name__}: {reason}") from error


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
    values: dict[str, Held | Computed] = {name: Held(each) for name, each in file.constants.items()}
    held = dict(file.constants)
    left = 2 * max(elements, 1 << 16)
    for node in file.nodes:
        refuse_unknown(node, path)
    for node in all_ordered(file, path):
        taken = node.operands
        made = bool(taken) and all(name in values for name in taken if name)
        given = [values.get(name) if name else None for name in node.inputs]
        if made:
            found = folded(node, given, held)
            turned = isinstance(found, Held) and len(found.steps) > MAX_TURNS
            values.update(dict.fromkeys(node.outputs, Computed(shape_like=False) if turned else found))
        if node.op in _ENLARGING and node.op not in known:
            if not (made and node.op in _FROM_CONSTANTS):
                raise AlignmentError(path, "has an operator that the model does not have", _told(node))
            left -= _size(node, given, path)
            if left < 0:
                raise AlignmentError(path, "makes constants that are larger than the model", _told(node))
        sizes = [abs(n) for key in _WINDOWS for n in node.ints(key)]
        if node.op == "Pad":
            sizes += [abs(int(n)) for n in padding(node, given)]
        largest = max(sizes, default=0)
        if largest > MAX_WINDOW:
            raise AlignmentError(path, f"has a window of {largest}; at most {MAX_WINDOW} are taken", _told(node))


def refuse_growing(file: Graph, model: Graph, path: Path) -> None:
    """Refuse a graph that makes more of the input than the model does, by joining it with itself or padding it.

    Raises:
        AlignmentError: it does.
    """
    few = set(file.constants)  # what is made of constants and of shapes
    joins = sum(_growth(node, model) for node in model.nodes)
    for node in all_ordered(file, path):
        if node.op in ("Shape", "Size") or (node.inputs and all(name in few for name in node.inputs if name)):
            few.update(node.outputs)
        elif growth := _growth(node, file):
            joins -= growth
            if joins < 0:
                raise AlignmentError(path, "joins or pads more than the model does", _told(node))


def _growth(node: Node, graph: Graph) -> int:
    """Return how often a node joins or pads: one that joins a single input does nothing, nor one that pads by zero."""
    if node.op == "Pad" and not any(padding(node, _constants(node, graph)) or (1,)):
        return 0
    return (len(node.inputs) - 1 if node.op == "Concat" else 1) if node.op in _JOINING else 0


def _constants(node: Node, graph: Graph) -> list[Held | None]:
    """Return what a node takes, as far as the graph holds it."""
    return [Held(graph.constants[name]) if name in graph.constants else None for name in node.inputs]


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
    if node.op == "BatchNormalization" and node.number("training_mode", 0):
        raise AlignmentError(
            path,
            "was exported while in training, so that it computes with what is in each batch; export it after "
            ".eval(), or take the weights from a checkpoint",
            _told(node),
        )
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


def _size(node: Node, given: Sequence[Held | Computed | None], path: Path) -> int:
    """Return how many numbers a node makes of nothing."""
    told = [whole(each) for each in given]
    size = None
    if node.op == "Range" and len(told) == 3:
        size = _length(*told)
    else:
        dims = told[1] if node.op == "Expand" and len(told) > 1 else told[0]
        size = None if dims is None else math.prod(max(1, n) for n in dims)
    if size is None:
        raise AlignmentError(path, "makes a constant of a size that cannot be told", _told(node))
    return size


def _length(start: _Numbers, end: _Numbers, step: _Numbers) -> int | None:
    """Return how many numbers a Range has."""
    if start is None or end is None or step is None or not len(start) == len(end) == len(step) == 1 or not step[0]:
        return None
    return max(0, -(-(end[0] - start[0]) // step[0]))


def _told(node: Node) -> str:
    return f"{node.domain}.{node.op} {node.name!r}" if node.domain else f"{node.op} {node.name!r}"
