"""Rules of operations that move positions about: views, slices, pads, shuffles; they compute nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from zoo.anatomy import reach as r
from zoo.anatomy.call import Call, Results, Rule, named
from zoo.anatomy.reach import Reach


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


def _reshape(call: Call, x: Reach) -> Results:
    return r.reshape(x, call.shape)


def _broadcast(call: Call, _x: Reach) -> Results:
    return r.union(list(call.reaches.values()), call.shape)


def _nothing(_call: Call, _x: Reach) -> Results:
    return None


LAYOUT: Mapping[str, Rule] = {
    **named(_cat, "cat"),
    **named(_stack, "stack"),
    **named(_pad, "constant_pad_nd"),
    **{f"{kind}_pad{dims}d": _pad for kind in ("reflection", "replication") for dims in (1, 2, 3)},
    **named(_slice, "slice"),
    **named(_select, "select"),
    **named(_split, "split", "split_with_sizes"),
    **named(_unbind, "unbind"),
    **named(lambda call, x: r.permute(x, [d % len(x.dims) for d in call.args[1]]), "permute"),
    **named(_transpose, "transpose", "t"),
    **named(lambda call, x: _inserted(x, call.args[1] % (len(x.dims) + 1)), "unsqueeze"),
    **named(_reshape, "view", "_unsafe_view", "reshape", "_reshape_alias", "squeeze"),
    **named(_broadcast, "expand"),
    **named(_copied, "copy", "copy_"),
    **named(_flip, "flip"),
    **named(_roll, "roll"),
    **named(_unfold, "unfold"),
    **named(_pixel_shuffle, "pixel_shuffle"),
    **named(_pixel_unshuffle, "pixel_unshuffle"),
    **named(_shuffle_channels, "channel_shuffle", "native_channel_shuffle"),
    **named(_indexed, "index", "index_select", "gather", "take", "topk", "embedding", "repeat"),
    **named(_nothing, "zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "new_zeros"),
    **named(_nothing, "new_ones", "new_empty", "new_full", "new_empty_strided", "bernoulli", "bernoulli_", "zero_"),
    **named(_nothing, "fill_", "uniform_", "normal_", "_batch_norm_impl_index", "sym_size", "is_same_size"),
}
"""The rule of each operation, by its name without the overload."""
