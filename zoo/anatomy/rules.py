"""Rules: how reach passes through each of torch's operations.

An operation without a rule, that torch does not call pointwise, makes what depends on it unknown; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache
from math import lcm
from typing import Any

import torch

from zoo.anatomy import reach as r
from zoo.anatomy.reach import Reach

Results = Reach | list[Reach] | None
"""The reach of the one result that matters, of each of several, or None where no result depends on the input."""

Rule = Callable[["Call", Reach], Results]
"""An operation and the reach of its first tensor that has one → that of its results."""


class Call:
    """One operation: its name, what it was given, and what it made.

    Args:
        name: the name without its overload, ``"convolution"``.
        args: its positional arguments.
        kwargs: the others.
        shape: the shape of its first result.
        reaches: of each of its tensors that depends on the input, under its ``id``.
    """

    def __init__(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        shape: tuple[int, ...],
        reaches: Mapping[int, Reach],
    ) -> None:
        self.name = name
        self.args = args
        self.kwargs = kwargs
        self.shape = shape
        self.reaches = reaches

    def arg(self, number: int, otherwise: Any = None) -> Any:
        """Return a positional argument, or what it is where it was left out."""
        return self.args[number] if len(self.args) > number else otherwise

    def axes(self, number: int, dims: int, otherwise: int = 1) -> tuple[int, ...]:
        """Return an argument with one number for each spatial axis, or one for all."""
        given = self.arg(number, ())
        numbers = tuple(given) if isinstance(given, list | tuple) else (given,)
        return numbers * dims if len(numbers) == 1 else numbers or (otherwise,) * dims


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


def _cat(call: Call, _x: Reach) -> Results:
    tensors = call.args[0]
    dim = call.arg(1, 0) % len(call.shape)
    parts = [call.reaches[id(t)] for t in tensors if id(t) in call.reaches]
    joined = r.union([r.summed(part, dim, call.shape[dim]) for part in parts], call.shape)
    if not any(any(f.jumps) for part in parts for f in part.dims[dim]):
        return joined
    widths = tuple(max(part.width(axis) for part in parts) for axis in range(len(joined.low)))
    return replace(joined, widths=widths)  # maps one after the other: no position sees more than it did


def _stack(call: Call, _x: Reach) -> Results:
    dim = call.arg(1, 0) % len(call.shape)
    return r.union([_inserted(call.reaches[id(t)], dim) for t in call.args[0] if id(t) in call.reaches], call.shape)


def _pad(call: Call, x: Reach) -> Results:
    before = call.args[1][::2]
    for number, amount in enumerate(before):
        dim = len(x.dims) - 1 - number
        x = r.window(x, dim, call.shape[dim], 1, -amount, -amount)
    return x


def _slice(call: Call, x: Reach) -> Results:
    dim = call.arg(1, 0) % len(x.dims)
    size, start, step = x.shape[dim], call.arg(2) or 0, call.arg(4, 1)
    if call.shape == x.shape:
        return x
    start = min(max(start + size if start < 0 else start, 0), size)
    return r.window(x, dim, call.shape[dim], step, start, start)


def _select(call: Call, x: Reach) -> Results:
    dim = call.args[1] % len(x.dims)
    return r.select(x, dim, call.args[2] % x.shape[dim])


def _split(call: Call, x: Reach) -> Results:
    sizes, dim = call.args[1], call.arg(2, 0) % len(x.dims)
    whole = x.shape[dim]
    listed = [min(sizes, whole - at) for at in range(0, whole, sizes)] if isinstance(sizes, int) else list(sizes)
    starts = [sum(listed[:number]) for number in range(len(listed))]
    return [r.window(x, dim, size, 1, start, start) for size, start in zip(listed, starts, strict=True)]


def _unbind(call: Call, x: Reach) -> Results:
    dim = call.arg(1, 0) % len(x.dims)
    return [r.select(x, dim, index) for index in range(x.shape[dim])]


def _transpose(call: Call, x: Reach) -> Results:
    order = list(range(len(x.dims)))
    one, other = (call.arg(n) % len(order) for n in (1, 2)) if call.name == "transpose" else (0, len(order) - 1)
    order[one], order[other] = order[other], order[one]
    return r.permute(x, order)


def _inserted(x: Reach, dim: int) -> Reach:
    one = (r.Factor(1, x.still),)
    return Reach((*x.dims[:dim], one, *x.dims[dim:]), x.low, x.high, x.known)


def _flip(call: Call, x: Reach) -> Results:
    for dim in call.args[1]:
        last = x.shape[dim] - 1
        x = r.window(x, dim % len(x.dims), last + 1, -1, last, last)
    return x


def _roll(call: Call, x: Reach) -> Results:
    for dim in call.arg(2) or range(len(x.dims)):  # positions come in again on the other side
        x = r.spread(x, dim % len(x.dims))
    return x


def _unfold(call: Call, x: Reach) -> Results:
    dim, size, step = call.args[1] % len(x.dims), call.args[2], call.args[3]
    within = x.dims[dim][0].jumps if len(x.dims[dim]) == 1 else x.still
    x = r.window(x, dim, call.shape[dim], step, 0, 0)
    return Reach((*x.dims, (r.Factor(size, within),)), x.low, x.high, x.known)


def _pixel_shuffle(call: Call, x: Reach) -> Results:
    n, (*lead, c, h, w) = call.args[1], x.shape
    lead_order = list(range(len(lead)))
    at = len(lead)
    split = r.reshape(x, (*lead, c // n**2, n, n, h, w))
    order = [*lead_order, at, at + 3, at + 1, at + 4, at + 2]
    return r.reshape(r.permute(split, order), call.shape)


def _pixel_unshuffle(call: Call, x: Reach) -> Results:
    n, (*lead, c, h, w) = call.args[1], x.shape
    at = len(lead)
    split = r.reshape(x, (*lead, c, h // n, n, w // n, n))
    return r.reshape(r.permute(split, [*range(at), at, at + 2, at + 4, at + 1, at + 3]), call.shape)


def _shuffle_channels(call: Call, x: Reach) -> Results:
    return r.summed(x, 1, call.shape[1])


def _indexed(call: Call, _x: Reach) -> Results:
    """Positions that are picked, whatever by: they may be any, so each result depends on all."""
    return r.union([r.constant(each, call.shape) for each in call.reaches.values()], call.shape)


def _copied(call: Call, _x: Reach) -> Results:
    source = call.reaches.get(id(call.args[1]))
    return None if source is None else r.union([source], call.shape)


def _gated(call: Call, x: Reach) -> Results:
    """One half of a dimension times a function of the other."""
    dim = call.arg(1, -1) % len(x.dims)
    half = x.shape[dim] // 2
    return r.union([r.window(x, dim, half, 1, start, start) for start in (0, half)], call.shape)


def _reshape(call: Call, x: Reach) -> Results:
    return r.reshape(x, call.shape)


def _broadcast(call: Call, _x: Reach) -> Results:
    return r.union(list(call.reaches.values()), call.shape)


def _nothing(_call: Call, _x: Reach) -> Results:
    return None


def _named(rule: Rule, *names: str) -> dict[str, Rule]:
    return dict.fromkeys(names, rule)


_POINTWISE = frozenset({"hardswish", "_prelu_kernel", "rrelu_with_noise", "log_sigmoid_forward"})
"""Those of which torch does not say so."""

_RULES: Mapping[str, Rule] = {
    **_named(_convolution, "convolution", "convolution_overrideable"),
    **_named(_pool(1), "avg_pool1d", "max_pool1d"),
    **_named(_pool(2), "avg_pool2d", "max_pool2d", "max_pool2d_with_indices"),
    **_named(_pool(3), "avg_pool3d", "max_pool3d", "max_pool3d_with_indices"),
    **{
        name: _adaptive_pool(dims)
        for dims in (1, 2, 3)
        for name in (f"_adaptive_avg_pool{dims}d", f"adaptive_avg_pool{dims}d", f"adaptive_max_pool{dims}d")
    },
    **_named(_interpolation(1, 0), "upsample_nearest1d", "_upsample_nearest_exact1d"),
    **_named(_interpolation(2, 0), "upsample_nearest2d", "_upsample_nearest_exact2d"),
    **_named(_interpolation(3, 0), "upsample_nearest3d", "_upsample_nearest_exact3d"),
    **_named(_interpolation(1, 1), "upsample_linear1d"),
    **_named(_interpolation(2, 1), "upsample_bilinear2d"),
    **_named(_interpolation(3, 1), "upsample_trilinear3d"),
    **_named(_interpolation(2, 2), "upsample_bicubic2d"),
    **_named(_reduction(1), "mean", "sum", "amax", "amin", "var", "std", "var_mean", "std_mean", "prod", "logsumexp"),
    **_named(_reduction(1), "argmax", "argmin", "any", "all", "max", "min"),
    **_named(_reduction(2), "norm", "linalg_vector_norm"),
    **_named(_along, "_softmax", "_safe_softmax", "_log_softmax", "cumsum", "cumprod", "logcumsumexp", "sort"),
    **_named(_product, "mm", "addmm", "bmm", "baddbmm", "addbmm"),
    **_named(
        _attention,
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_fused_attention_overrideable",
    ),
    **_named(_norm, "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training"),
    **_named(_norm, "_native_batch_norm_legit_functional", "_batch_norm_with_update", "cudnn_batch_norm"),
    **_named(_norm, "native_layer_norm", "native_group_norm", "_fused_rms_norm", "native_dropout"),
    **_named(_norm, "clone", "alias", "detach", "detach_", "_to_copy", "contiguous", "lift_fresh"),
    **_named(_cat, "cat"),
    **_named(_stack, "stack"),
    **_named(_pad, "constant_pad_nd"),
    **{f"{kind}_pad{dims}d": _pad for kind in ("reflection", "replication") for dims in (1, 2, 3)},
    **_named(_slice, "slice"),
    **_named(_select, "select"),
    **_named(_split, "split", "split_with_sizes"),
    **_named(_unbind, "unbind"),
    **_named(lambda call, x: r.permute(x, [d % len(x.dims) for d in call.args[1]]), "permute"),
    **_named(_transpose, "transpose", "t"),
    **_named(lambda call, x: _inserted(x, call.args[1] % (len(x.dims) + 1)), "unsqueeze"),
    **_named(_reshape, "view", "_unsafe_view", "reshape", "_reshape_alias", "squeeze"),
    **_named(_broadcast, "expand"),
    **_named(_copied, "copy", "copy_"),
    **_named(_gated, "glu"),
    **_named(_flip, "flip"),
    **_named(_roll, "roll"),
    **_named(_unfold, "unfold"),
    **_named(_pixel_shuffle, "pixel_shuffle"),
    **_named(_pixel_unshuffle, "pixel_unshuffle"),
    **_named(_shuffle_channels, "channel_shuffle", "native_channel_shuffle"),
    **_named(_indexed, "index", "index_select", "gather", "take", "topk", "embedding", "repeat"),
    **_named(_nothing, "zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "new_zeros"),
    **_named(_nothing, "new_ones", "new_empty", "new_full", "new_empty_strided", "bernoulli", "bernoulli_", "zero_"),
    **_named(_nothing, "fill_", "uniform_", "normal_", "_batch_norm_impl_index", "sym_size", "is_same_size"),
}
