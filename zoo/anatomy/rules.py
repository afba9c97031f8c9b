"""Rules: how reach passes through each of torch's operations.

An operation without a rule, that torch does not call pointwise, makes what depends on it unknown; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from math import lcm

import torch

from zoo.anatomy import reach as r
from zoo.anatomy.call import Call, Results, Rule, named
from zoo.anatomy.layout import LAYOUT
from zoo.anatomy.reach import Reach


def results_of(call: Call) -> Results:
    """Return the reach of what an operation made.

    Args:
        call: the operation; at least one of its tensors depends on the input.
    """
    first = next(iter(call.reaches.values()))
    rule = _RULES.get(call.name)
    if rule is not None:
        return rule(call, first)
    if is_pointwise(call.name):
        return r.union(list(call.reaches.values()), call.shape)
    return r.union([r.unknown(each, call.shape) for each in call.reaches.values()], call.shape)


@cache
def is_pointwise(name: str) -> bool:
    """Tell whether an operation works position by position: torch says so of most that do, if not of every variant.

    >>> is_pointwise("relu_"), is_pointwise("hardswish_"), is_pointwise("mm")
    (True, True, False)
    """
    plain = name.removesuffix("_")
    packets = [getattr(torch.ops.aten, each) for each in {name, plain} if hasattr(torch.ops.aten, each)]
    overloads = [getattr(packet, overload) for packet in packets for overload in packet.overloads()]
    return plain in _POINTWISE or any(torch.Tag.pointwise in overload.tags for overload in overloads)


def _convolution(call: Call, x: Reach) -> Results:
    weight, transposed = call.args[1], call.args[6]
    if id(call.args[0]) not in call.reaches or id(weight) in call.reaches:
        return r.unknown(x, call.shape)  # the weights depend on the input
    dims = weight.dim() - 2
    stride, padding, dilation = (call.axes(n, dims) for n in (3, 4, 5))
    for axis in range(dims):
        dim, last = len(x.dims) - dims + axis, dilation[axis] * (weight.shape[2 + axis] - 1)
        if transposed:  # the output o gets from the input i = (o + padding − dilation·tap) / stride
            step = Fraction(1, stride[axis])
            x = r.window(x, dim, call.shape[dim], step, (padding[axis] - last) * step, padding[axis] * step)
        else:
            x = r.window(x, dim, call.shape[dim], stride[axis], -padding[axis], last - padding[axis])
    return r.summed(x, len(x.dims) - dims - 1, call.shape[-dims - 1])


def _pool(dims: int) -> Rule:
    def rule(call: Call, x: Reach) -> Results:
        kernel = call.axes(1, dims)
        stride = call.axes(2, dims) if call.arg(2) else kernel
        padding = call.axes(3, dims, 0)
        dilation = call.axes(4, dims) if call.name.startswith("max") else (1,) * dims
        for axis in range(dims):
            dim = len(x.dims) - dims + axis
            last = dilation[axis] * (kernel[axis] - 1) - padding[axis]
            x = r.window(x, dim, call.shape[dim], stride[axis], -padding[axis], last)
        return x

    return rule


def _adaptive_pool(dims: int) -> Rule:
    def rule(call: Call, x: Reach) -> Results:
        for dim in range(len(x.dims) - dims, len(x.dims)):
            size = call.shape[dim]
            if size == 1:
                x = r.summed(x, dim, 1)
            else:  # it reads from floor(o·step) to ceil((o + 1)·step) − 1
                step = Fraction(x.shape[dim], size)
                slack = Fraction(step.denominator - 1, step.denominator)
                x = r.window(x, dim, size, step, -slack, step - 1 + slack)
        return x

    return rule


def _interpolation(dims: int, taps: int) -> Rule:
    """``taps``: how many positions are read on either side of the place that is looked at; 0 for the nearest one."""

    def rule(call: Call, x: Reach) -> Results:
        exact = "exact" in call.name
        corners = taps > 0 and bool(call.arg(2, False))
        for dim in range(len(x.dims) - dims, len(x.dims)):
            before, size = x.shape[dim], call.shape[dim]
            step = Fraction(before, size) if not corners else Fraction(before - 1, max(size - 1, 1))
            start = Fraction(0)
            if (taps or exact) and not corners:
                start = (step - 1) / 2 if taps else step / 2
            parts = lcm(step.denominator, start.denominator)
            slack = Fraction(parts - 1, parts)  # how much rounding to whole positions may move it
            if taps:
                x = r.window(x, dim, size, step, start - slack - (taps - 1), start + slack + (taps - 1))
            else:
                x = r.window(x, dim, size, step, start - slack, start)
        return x

    return rule


def _reduction(number: int) -> Rule:
    """``number``: which argument says along which dimensions."""

    def rule(call: Call, x: Reach) -> Results:
        given = call.arg(number)
        listed = [given] if isinstance(given, int) else list(given or range(len(x.dims)))
        gone = {dim % len(x.dims) for dim in listed}
        for dim in gone:
            x = r.summed(x, dim, 1)
        if len(call.shape) == len(x.dims):
            return x
        return r.permute(x, [dim for dim in range(len(x.dims)) if dim not in gone])

    return rule


def _along(call: Call, x: Reach) -> Results:
    """Softmax and the like: each position along one dimension depends on all of them."""
    return r.spread(x, call.arg(1, -1) % len(x.dims))


def _product(call: Call, _: Reach) -> Results:
    """Matrix products, ``(…, n, k) @ (…, k, m)``, of whatever stands left and right, and what is added to them."""
    *added, left, right = (a for a in call.args if isinstance(a, torch.Tensor))
    found = [call.reaches[id(a)] for a in added if id(a) in call.reaches]
    if (reach := call.reaches.get(id(left))) is not None:
        found.append(r.summed(reach, len(reach.dims) - 1, 1))
    if (reach := call.reaches.get(id(right))) is not None:
        found.append(r.summed(reach, len(reach.dims) - 2, 1))
    return r.union(found, call.shape)


def _attention(call: Call, _: Reach) -> Results:
    """``softmax(query @ key) @ value``, each ``(…, positions, width)``."""
    found = []
    for number, tensor in enumerate(call.args[:3]):
        if (reach := call.reaches.get(id(tensor))) is not None:
            if number < 2:
                reach = r.summed(reach, len(reach.dims) - 1, 1)
            found.append(reach if number == 0 else r.summed(reach, len(reach.dims) - 2, 1))
    return r.union(found, call.shape)


def _norm(_call: Call, x: Reach) -> Results:
    """Norms count as pointwise, by convention: the statistics that they take from all positions are not followed."""
    return x


def _gated(call: Call, x: Reach) -> Results:
    """One half of a dimension times a function of the other."""
    dim = call.arg(1, -1) % len(x.dims)
    half = x.shape[dim] // 2
    return r.union([r.window(x, dim, half, 1, start, start) for start in (0, half)], call.shape)


_POINTWISE = frozenset({"hardswish", "_prelu_kernel", "rrelu_with_noise", "log_sigmoid_forward"})
"""Those of which torch does not say so."""

_RULES: Mapping[str, Rule] = {
    **named(_convolution, "convolution", "convolution_overrideable"),
    **named(_pool(1), "avg_pool1d", "max_pool1d"),
    **named(_pool(2), "avg_pool2d", "max_pool2d", "max_pool2d_with_indices"),
    **named(_pool(3), "avg_pool3d", "max_pool3d", "max_pool3d_with_indices"),
    **{
        name: _adaptive_pool(dims)
        for dims in (1, 2, 3)
        for name in (f"_adaptive_avg_pool{dims}d", f"adaptive_avg_pool{dims}d", f"adaptive_max_pool{dims}d")
    },
    **named(_interpolation(1, 0), "upsample_nearest1d", "_upsample_nearest_exact1d"),
    **named(_interpolation(2, 0), "upsample_nearest2d", "_upsample_nearest_exact2d"),
    **named(_interpolation(3, 0), "upsample_nearest3d", "_upsample_nearest_exact3d"),
    **named(_interpolation(1, 1), "upsample_linear1d"),
    **named(_interpolation(2, 1), "upsample_bilinear2d"),
    **named(_interpolation(3, 1), "upsample_trilinear3d"),
    **named(_interpolation(2, 2), "upsample_bicubic2d"),
    **named(_reduction(1), "mean", "sum", "amax", "amin", "var", "std", "var_mean", "std_mean", "prod", "logsumexp"),
    **named(_reduction(1), "argmax", "argmin", "any", "all", "max", "min"),
    **named(_reduction(2), "norm", "linalg_vector_norm"),
    **named(_along, "_softmax", "_safe_softmax", "_log_softmax", "cumsum", "cumprod", "logcumsumexp", "sort"),
    **named(_product, "mm", "addmm", "bmm", "baddbmm", "addbmm"),
    **named(
        _attention,
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_fused_attention_overrideable",
    ),
    **named(_norm, "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training"),
    **named(_norm, "_native_batch_norm_legit_functional", "_batch_norm_with_update", "cudnn_batch_norm"),
    **named(_norm, "native_layer_norm", "native_group_norm", "_fused_rms_norm", "native_dropout"),
    **named(_norm, "clone", "alias", "detach", "detach_", "_to_copy", "contiguous", "lift_fresh"),
    **named(_gated, "glu"),
    **LAYOUT,
}
