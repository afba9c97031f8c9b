"""sized: a graph without its questions of how large something is, answered for the input that it is run on.

The legacy exporter writes down how a model asks for the size of a map, of which a Swin makes its masks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import torch

from zoo.weights.alignment.arithmetic import places, whole
from zoo.weights.alignment.constants import MAX_TURNS, Computed, folded, turned
from zoo.weights.alignment.graph import Constant, Graph, Node
from zoo.weights.alignment.layers import Held
from zoo.weights.alignment.order import ordered

_KNOWN = ("", "com.microsoft")
_MOST_AXES, _MOST = 16, 1 << 40

_Dims = tuple[int, ...]
_Value = Held | Computed | None


def sized(graph: Graph, shape: Sequence[int], path: Path) -> Graph:
    """Return a graph in which the shape of what depends on the input is a constant, as far as it can be told.

    Args:
        graph: the graph, of one input.
        shape: the shape of that, the batch too.
        path: the file, for errors.

    Raises:
        AlignmentError: it is not in order.
    """
    constants = dict(graph.constants)
    values: dict[str, _Value] = {name: Held(each) for name, each in constants.items()}
    shapes: dict[str, _Dims] = dict.fromkeys(graph.inputs, tuple(shape))
    answered = set()
    for node in ordered(graph, path):
        taken = node.operands
        if node.op == "Shape" and taken[0] in shapes:
            constant = _told(node, shapes[taken[0]])
            constants[constant.name], values[constant.name] = constant, Held(constant)
            answered.add(constant.name)
            continue
        if taken and all(name in values for name in taken if name):
            found = folded(node, [values[name] if name else None for name in taken], constants)
            turns = len(found.steps) if isinstance(found, Held) else 0
            values.update(dict.fromkeys(node.outputs, found if turns <= MAX_TURNS else Computed(shape_like=False)))
        if node.domain in _KNOWN:
            given = [values.get(name) for name in taken]
            dims = [
                each.shape if isinstance(each, Held) else shapes.get(name)
                for name, each in zip(taken, given, strict=True)
            ]
            shapes.update(zip(node.outputs, _made(node, dims, given), strict=False))
    nodes = tuple(node for node in graph.nodes if not answered.intersection(node.outputs))
    return replace(graph, nodes=nodes, constants=constants)


def _told(node: Node, shape: _Dims) -> Constant:
    start, end = int(node.number("start", 0)), int(node.number("end", len(shape)))
    numbers = torch.tensor(shape[start:end], dtype=torch.int64)
    return Constant(node.outputs[0], tuple(numbers.shape), lambda: numbers, numbers.dtype)


def _made(node: Node, dims: Sequence[_Dims | None], given: Sequence[_Value]) -> list[_Dims]:
    """Return the shapes of what a node gives; nothing where they are not known."""
    known = [each for each in takewhile(lambda each: each is not None, dims) if each is not None]
    compute = _SHAPES.get(node.op)
    if compute is None or not known or (node.op in _OF_ALL and len(known) < len(dims)):
        return []
    try:
        made = compute(node, known, given)
    except (ArithmeticError, IndexError, RuntimeError, TypeError, ValueError):  # they do not go together
        return []
    sane = all(len(each) <= _MOST_AXES and math.prod(each) <= _MOST for each in made)
    return made if sane else []  # each might be larger than the one before it


def _axis(axis: int, shape: _Dims) -> int:
    return range(len(shape))[axis]


def _same(_: Node, dims: Sequence[_Dims], __: Sequence[_Value]) -> list[_Dims]:
    return [dims[0]]


def _broadcast(_: Node, dims: Sequence[_Dims], __: Sequence[_Value]) -> list[_Dims]:
    return [tuple(torch.broadcast_shapes(*dims))]  # type: ignore[no-untyped-call] # torch has none


def _turned(node: Node, dims: Sequence[_Dims], given: Sequence[_Value]) -> list[_Dims]:
    if node.number("allowzero", 0) and 0 in (whole(given[1]) or (0,)):
        return []
    step = turned(node, Held(Constant("", dims[0], None)), given)
    return [] if step is None else [step.shape(dims[0])]


def _joined(node: Node, dims: Sequence[_Dims], _: Sequence[_Value]) -> list[_Dims]:
    axis = _axis(int(node.number("axis", 0)), dims[0])
    return [(*dims[0][:axis], sum(each[axis] for each in dims), *dims[0][axis + 1 :])]


def _cut(_: Node, dims: Sequence[_Dims], given: Sequence[_Value]) -> list[_Dims]:
    made = list(dims[0])
    told = [whole(each) for each in given[1:]]
    for axis, left in places(dims[0], *(each for each in told if each is not None)):
        made[axis] = len(left)
    return [tuple(made)] if None not in told else []


def _split(node: Node, dims: Sequence[_Dims], given: Sequence[_Value]) -> list[_Dims]:
    axis = _axis(int(node.number("axis", 0)), dims[0])
    sizes = node.ints("split") or (whole(given[1]) if len(given) > 1 else None)
    length, count = dims[0][axis], len(node.outputs)
    each = -(-length // count)
    sizes = sizes or tuple(max(0, min(each, length - each * place)) for place in range(count))
    return [(*dims[0][:axis], size, *dims[0][axis + 1 :]) for size in sizes]


def _gathered(node: Node, dims: Sequence[_Dims], given: Sequence[_Value]) -> list[_Dims]:
    axis = _axis(int(node.number("axis", 0)), dims[0])
    return [(*dims[0][:axis], *dims[1], *dims[0][axis + 1 :])] if isinstance(given[1], Held) else []


def _padded(node: Node, dims: Sequence[_Dims], given: Sequence[_Value]) -> list[_Dims]:
    pads = node.ints("pads") or whole(given[1])
    if pads is None or len(given) > 3 or len(pads) != 2 * len(dims[0]):
        return []
    before, after = pads[: len(dims[0])], pads[len(dims[0]) :]
    return [tuple(n + a + b for n, a, b in zip(dims[0], before, after, strict=True))]


def _filled(_: Node, __: Sequence[_Dims], given: Sequence[_Value]) -> list[_Dims]:
    wanted = whole(given[0])
    return [] if wanted is None else [wanted]


def _expanded(node: Node, dims: Sequence[_Dims], given: Sequence[_Value]) -> list[_Dims]:
    wanted = whole(given[1])
    return [] if wanted is None else _broadcast(node, (dims[0], wanted), given)


def _counted(_: Node, __: Sequence[_Dims], given: Sequence[_Value]) -> list[_Dims]:
    (start,), (end,), (step,) = (whole(each) or () for each in given)
    return [(len(range(start, end, step)),)]


def _product(node: Node, dims: Sequence[_Dims], _: Sequence[_Value]) -> list[_Dims]:
    if any(node.number(key, 0) for key in ("transBatchA", "transBatchB")):
        return []
    left, right = (
        (*each[:-2], each[-1], each[-2]) if node.number(key, 0) else each
        for each, key in zip(dims[:2], ("transA", "transB"), strict=True)
    )
    if left[-1] != right[-2]:
        return []
    both = tuple(torch.broadcast_shapes(left[:-2], right[:-2]))  # type: ignore[no-untyped-call] # torch has none
    return [(*both, left[-2], right[-1])]


def _windowed(node: Node, dims: Sequence[_Dims], _: Sequence[_Value]) -> list[_Dims]:
    """Return the shape behind a convolution or a pooling."""
    conv = node.op in ("Conv", "FusedConv")
    kernel = dims[1][2:] if conv else node.ints("kernel_shape")
    count = len(kernel)
    ones, zeros = (1,) * count, (0,) * 2 * count
    strides, dilations = node.ints("strides", ones), node.ints("dilations", ones)
    pads = node.ints("pads", zeros)
    if node.text("auto_pad", "NOTSET") != "NOTSET" or node.number("ceil_mode", 0) or len(dims[0]) != count + 2:
        return []
    size = [
        (n + pads[axis] + pads[axis + count] - dilations[axis] * (kernel[axis] - 1) - 1) // strides[axis] + 1
        for axis, n in enumerate(dims[0][2:])
    ]
    return [(dims[0][0], dims[1][0] if conv else dims[0][1], *size)] if min(size) > 0 else []


def _reduced(node: Node, dims: Sequence[_Dims], given: Sequence[_Value]) -> list[_Dims]:
    axes = node.ints("axes") or (whole(given[1]) if len(given) > 1 else None)
    if not axes:
        return []
    gone = {_axis(axis, dims[0]) for axis in axes}
    kept = bool(node.number("keepdims", 1))
    return [tuple(1 if axis in gone else n for axis, n in enumerate(dims[0]) if kept or axis not in gone)]


_SHAPES: Mapping[str, Callable[[Node, Sequence[_Dims], Sequence[_Value]], list[_Dims]]] = {
    **dict.fromkeys(
        (
            "Identity", "Cast", "CastLike", "Dropout", "Relu", "LeakyRelu", "Gelu", "Erf", "Sigmoid", "HardSigmoid",
            "HardSwish", "Tanh", "Softmax", "Sqrt", "Exp", "Neg", "Clip", "LayerNormalization", "BatchNormalization",
            "InstanceNormalization", "ScatterND", "Not", "SkipLayerNormalization", "FastGelu", "QuickGelu",
        ),
        _same,
    ),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow", "Equal", "Where", "BiasGelu"), _broadcast),
    **dict.fromkeys(("Transpose", "Reshape", "Unsqueeze", "Squeeze", "Flatten"), _turned),
    **dict.fromkeys(("MatMul", "Gemm", "FusedMatMul", "FusedGemm"), _product),
    **dict.fromkeys(("Conv", "FusedConv", "MaxPool", "AveragePool"), _windowed),
    "Concat": _joined,
    "ConstantOfShape": _filled,
    "Expand": _expanded,
    "Gather": _gathered,
    "Pad": _padded,
    "Range": _counted,
    "ReduceMean": _reduced,
    "Slice": _cut,
    "Split": _split,
}  # fmt: skip
_OF_ALL = {"Add", "Sub", "Mul", "Div", "Pow", "Equal", "Where", "BiasGelu", "Concat"}
"""What has the shape of all that it takes."""
