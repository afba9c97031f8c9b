"""Operators of torch as those of ONNX, as far as the models that one can spell out here call them.

What depends on values is left out: of a window its size and steps are kept, of a reshape only that it is one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from zoo.weights.alignment.recording import Recording, UntraceableError

_Shape = tuple[int, ...]
_Operand = torch.Tensor | float | int


PASSING = frozenset({"view", "_unsafe_view", "reshape", "clone", "alias", "detach", "_to_copy", "squeeze", "unsqueeze"})
"""What gives the same numbers in the same order."""

UNARY: Mapping[str, str] = {
    "abs": "Abs", "ceil": "Ceil", "cos": "Cos", "erf": "Erf", "exp": "Exp", "expand": "Expand", "floor": "Floor",
    "hardsigmoid": "HardSigmoid", "hardswish": "HardSwish", "log": "Log", "neg": "Neg", "reciprocal": "Reciprocal",
    "relu": "Relu", "round": "Round", "select": "Gather", "sigmoid": "Sigmoid", "sin": "Sin", "slice": "Slice",
    "softplus": "Softplus", "sqrt": "Sqrt", "tanh": "Tanh", "constant_pad_nd": "Pad", "reflection_pad2d": "Pad",
    "upsample_bilinear2d": "Resize", "upsample_linear1d": "Resize", "upsample_nearest1d": "Resize",
    "upsample_nearest2d": "Resize", "upsample_nearest3d": "Resize", "upsample_trilinear3d": "Resize",
    "_safe_softmax": "Softmax", "upsample_bicubic2d": "Resize", "_softmax": "Softmax", "_log_softmax": "LogSoftmax",
    "sum": "ReduceSum", "mean": "ReduceMean", "amax": "ReduceMax", "linalg_vector_norm": "ReduceL2",
}  # fmt: skip
"""What takes one value and has no weights: a word between two layers."""

FRESH = frozenset(
    {"new_empty", "new_full", "new_ones", "new_zeros", "empty_like", "full_like", "ones_like", "zeros_like"}
)
"""What takes nothing of a value but its shape and its kind."""


def _each(value: int | Sequence[int], dims: int) -> tuple[int, ...]:
    """Return a number for each axis."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * dims if len(values) == 1 else values


def _convolution(
    graph: Recording, _: _Shape, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None,
    stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], transposed: bool,
    output_padding: Sequence[int], groups: int,
) -> str:  # fmt: skip
    dims = weight.dim() - 2
    inputs = [graph.name(each) for each in (x, weight, bias) if each is not None]
    return graph.node(
        "ConvTranspose" if transposed else "Conv",
        *inputs,
        strides=_each(stride, dims),
        pads=_each(padding, dims) * 2,
        dilations=_each(dilation, dims),
        group=groups,
        **({"output_padding": _each(output_padding, dims)} if transposed else {}),
    )


def _linear(graph: Recording, _: _Shape, *operands: torch.Tensor, beta: float = 1, alpha: float = 1) -> str:
    """Translate ``addmm`` (bias, input, matrix) and ``mm`` (input, matrix)."""
    *bias, x, matrix = (graph.name(each) for each in operands)
    return graph.node("Gemm", x, matrix, *bias, alpha=float(alpha), beta=float(beta))


def _product(graph: Recording, _: _Shape, x: torch.Tensor, y: torch.Tensor) -> str:
    return graph.node("MatMul", graph.name(x), graph.name(y))


def _batch_norm(
    graph: Recording, shape: _Shape, x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None,
    mean: torch.Tensor | None, var: torch.Tensor | None, *rest: Any,
) -> str:  # fmt: skip
    training, *_, eps = rest
    if training:
        if mean is not None or var is not None or len(x) != 1:
            raise UntraceableError("a BatchNorm in training")
        # So torch computes an instance norm: samples are laid beside each other, as channels of one.
        normed = graph.node("InstanceNormalization", graph.name(x))
        return _affine(graph, normed, weight, bias, len(shape) - 2)
    if weight is None or bias is None or mean is None or var is None:
        raise UntraceableError("a BatchNorm without weights")
    return graph.node("BatchNormalization", *(graph.name(t) for t in (x, weight, bias, mean, var)), epsilon=float(eps))


def _affine(graph: Recording, made: str, weight: torch.Tensor | None, bias: torch.Tensor | None, rank: int) -> str:
    """Multiply and add one number a channel, or one a position where those are as many axes as the weight has."""
    for op, each in (("Mul", weight), ("Add", bias)):
        if each is not None:
            name = graph.name(each)
            if rank > each.dim():
                name = graph.node("Reshape", name, shape=(-1, *(1,) * rank))
            made = graph.node(op, made, name)
    return made


def _group_norm(
    graph: Recording, shape: _Shape, x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, *_: Any
) -> str:
    normed = graph.node("InstanceNormalization", graph.name(x))
    return _affine(graph, normed, weight, bias, len(shape) - 2)


def _repeated(graph: Recording, _: _Shape, x: torch.Tensor, times: Sequence[int]) -> str:
    """Translate weights that are there once for each sample, which a graph has once."""
    if x.dim() != 1 or len(times) != 1:
        raise UntraceableError("repeat")
    return graph.name(x)


def _restrided(
    graph: Recording, _: _Shape, x: torch.Tensor, size: Sequence[int], strides: Sequence[int], *offset: int | None
) -> str:
    """Translate what changes nothing but the strides of axes of length 1: so torch makes a pooled map channels-last."""
    moved = any(n > 1 and a != b for n, a, b in zip(x.shape, strides, x.stride(), strict=False))
    if tuple(size) != tuple(x.shape) or moved or any(each is not None for each in offset):
        raise UntraceableError("as_strided")
    return graph.name(x)


def _layer_norm(
    graph: Recording, _: _Shape, x: torch.Tensor, __: Sequence[int], weight: torch.Tensor | None,
    bias: torch.Tensor | None, *___: Any,
) -> str:  # fmt: skip
    return _affine(graph, graph.node("LayerNormalization", graph.name(x)), weight, bias, 0)


def _pool(op: str) -> Callable[..., str]:
    def translate(
        graph: Recording, _: _Shape, x: torch.Tensor, kernel: Sequence[int], stride: Sequence[int] = (),
        padding: Sequence[int] | int = 0, *rest: Any,
    ) -> str:  # fmt: skip
        dims = len(kernel)
        dilation = rest[0] if op == "MaxPool" and rest else 1
        each = [_each(value, dims) for value in (kernel, stride or kernel, padding, dilation)]
        kernel, stride, padding, dilation = each
        return graph.node(op, graph.name(x), kernel_shape=kernel, strides=stride, pads=padding * 2, dilations=dilation)

    return translate


def _adaptive(kind: str) -> Callable[..., str]:
    """A pooling to a fixed size: of all, of windows of one size, or of none where the size is there already."""

    def translate(graph: Recording, shape: _Shape, x: torch.Tensor, size: Sequence[int]) -> str:
        before, after = x.shape[-len(size) :], shape[-len(size) :]
        if before == after:
            return graph.node("Identity", graph.name(x))
        if set(after) == {1}:
            return graph.node(f"Global{kind}Pool", graph.name(x))
        if any(a % b for a, b in zip(before, after, strict=True)):
            return graph.node(f"Adaptive{kind}Pool", graph.name(x))
        kernel = tuple(a // b for a, b in zip(before, after, strict=True))
        return _pool(f"{kind}Pool")(graph, shape, x, kernel)

    return translate


def _binary(op: str) -> Callable[..., str]:
    def translate(graph: Recording, _: _Shape, x: _Operand, y: _Operand, *, alpha: float = 1) -> str:
        if alpha != 1:
            raise UntraceableError(f"{op} with a factor")
        names = [_operand(graph, each) for each in (x, y)]
        return graph.node(op, *names)

    return translate


def _operand(graph: Recording, value: _Operand) -> str:
    if not isinstance(value, torch.Tensor):
        return graph.number(float(value))
    return graph.name(value) if graph.known(value) else graph.made(value)


def _turned(op: str) -> Callable[..., str]:
    def translate(graph: Recording, _: _Shape, x: torch.Tensor, *axes: Any) -> str:
        order = list(range(x.dim()))
        if op == "permute":
            order = [axis % x.dim() for axis in axes[0]]
        elif x.dim() > 1:
            one, other = (0, 1) if op == "t" else (axes[0] % x.dim(), axes[1] % x.dim())
            order[one], order[other] = order[other], order[one]
        return graph.node("Transpose", graph.name(x), perm=tuple(order))

    return translate


def _joined(graph: Recording, shape: _Shape, parts: Sequence[torch.Tensor], axis: int = 0) -> str:
    names = [graph.name(each) for each in parts]
    return graph.node("Concat", *names, axis=axis % len(shape)) if len(names) > 1 else graph.node("Identity", *names)


def _split(graph: Recording, _: _Shape, x: torch.Tensor, sizes: int | Sequence[int], axis: int = 0) -> tuple[str, ...]:
    count = -(-x.shape[axis] // sizes) if isinstance(sizes, int) else len(sizes)
    return graph.nodes_of("Split", count, graph.name(x), axis=axis % x.dim())


def _unbound(graph: Recording, _: _Shape, x: torch.Tensor, axis: int = 0) -> tuple[str, ...]:
    parts = graph.nodes_of("Split", x.shape[axis], graph.name(x), axis=axis % x.dim())
    return tuple(graph.node("Squeeze", each) for each in parts)


def _clipped(graph: Recording, _: _Shape, x: torch.Tensor, low: float | None = None, high: float | None = None) -> str:
    low, high = (float("-inf") if low is None else float(low)), (float("inf") if high is None else float(high))
    return graph.node("Clip", graph.name(x), min=low, max=high)


def _clipped_above(graph: Recording, shape: _Shape, x: torch.Tensor, low: float) -> str:
    return _clipped(graph, shape, x, low)


def _sloped(op: str, slope: float) -> Callable[..., str]:
    def translate(graph: Recording, _: _Shape, x: torch.Tensor, alpha: float = slope, *rest: Any) -> str:
        if any(each != 1 for each in rest):
            raise UntraceableError(f"{op} with a factor")
        return graph.node(op, graph.name(x), alpha=float(alpha))

    return translate


def _silu(graph: Recording, _: _Shape, x: torch.Tensor) -> str:
    name = graph.name(x)
    return graph.node("Mul", name, graph.node("Sigmoid", name))


def _gelu(graph: Recording, _: _Shape, x: torch.Tensor, **__: Any) -> str:
    return graph.node("Gelu", graph.name(x))


def _indexed(graph: Recording, _: _Shape, x: torch.Tensor, indices: Sequence[torch.Tensor | None]) -> str:
    """Translate what takes entries along one axis, as a table of relative positions is read."""
    given = [(axis, each) for axis, each in enumerate(indices) if each is not None]
    if len(given) != 1 or given[0][1].dtype == torch.bool:
        raise UntraceableError("index")
    ((axis, index),) = given
    return graph.node("Gather", graph.name(x), graph.name(index), axis=axis)


def _rolled(graph: Recording, _: _Shape, x: torch.Tensor, __: Sequence[int], axes: Sequence[int] = ()) -> str:
    """Translate what moves to the other end, axis by axis: a graph joins both parts the other way round."""
    if not axes:
        raise UntraceableError("roll")
    made = graph.name(x)
    for axis in axes:
        made = graph.node("Concat", graph.node("Slice", made), graph.node("Slice", made), axis=axis % x.dim())
    return made


OPERATORS: Mapping[str, Callable[..., str | tuple[str, ...]]] = {
    "convolution": _convolution,
    "addmm": _linear,
    "mm": _linear,
    "bmm": _product,
    "native_batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "cudnn_batch_norm": _batch_norm,
    "native_group_norm": _group_norm,
    "repeat": _repeated,
    "as_strided": _restrided,
    "native_layer_norm": _layer_norm,
    "max_pool2d_with_indices": _pool("MaxPool"),
    "max_pool3d_with_indices": _pool("MaxPool"),
    "avg_pool2d": _pool("AveragePool"),
    "avg_pool3d": _pool("AveragePool"),
    "_adaptive_avg_pool2d": _adaptive("Average"),
    "_adaptive_avg_pool3d": _adaptive("Average"),
    "adaptive_max_pool2d": _adaptive("Max"),
    "adaptive_max_pool3d": _adaptive("Max"),
    "add": _binary("Add"),
    "sub": _binary("Sub"),
    "mul": _binary("Mul"),
    "div": _binary("Div"),
    "pow": _binary("Pow"),
    "maximum": _binary("Max"),
    "minimum": _binary("Min"),
    "t": _turned("t"),
    "transpose": _turned("transpose"),
    "permute": _turned("permute"),
    "cat": _joined,
    "index": _indexed,
    "roll": _rolled,
    "split": _split,
    "split_with_sizes": _split,
    "unbind": _unbound,
    "clamp": _clipped,
    "hardtanh": _clipped,
    "clamp_min": _clipped_above,
    "leaky_relu": _sloped("LeakyRelu", 0.01),
    "elu": _sloped("Elu", 1.0),
    "silu": _silu,
    "gelu": _gelu,
}
"""What builds the operators of ONNX that one of torch is, by its name; it returns the names of what they give."""
