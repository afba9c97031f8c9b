"""Multiply-adds: of convolutions and matrix products, which is where they are; nothing else is counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch


def multiply_adds(name: str, args: Sequence[Any], shape: Sequence[int]) -> int:
    """Return how many multiply-adds an operation makes; 0 of one that is not counted.

    Args:
        name: its name without the overload.
        args: its positional arguments.
        shape: the shape of its first result.

    >>> multiply_adds("mm", (torch.empty(2, 3), torch.empty(3, 5)), (2, 5))
    30
    """
    counter = _COUNTERS.get(name)
    return 0 if counter is None else counter(args, shape)


def backward_multiply_adds(name: str, args: Sequence[Any], forward: int) -> int:
    """Return how many the gradients of an operation take: as many as it took, for each operand that has one.

    Args:
        name: its name without the overload.
        args: its positional arguments.
        forward: how many it took itself.
    """
    if not forward:
        return 0
    if name in _ATTENTION:  # the scores are made again, and each of its two products has two operands
        return forward * 5 // 2 if any(t.requires_grad for t in args[:3]) else 0
    tensors = [a for a in args if isinstance(a, torch.Tensor)]
    operands = tensors[:2] if name == "convolution" else tensors[-2:]
    return forward * sum(bool(operand.requires_grad) for operand in operands)


def _convolution(args: Sequence[Any], shape: Sequence[int]) -> int:
    x, weight, transposed = args[0], args[1], args[6]
    slides = x.shape if transposed else shape  # over the input, or over the output
    dims = weight.dim() - 2
    samples, positions = prod(slides[: -dims - 1]), prod(slides[-dims:])
    return int(samples * positions * prod(weight.shape))


def _product(args: Sequence[Any], shape: Sequence[int]) -> int:
    left = [a for a in args if isinstance(a, torch.Tensor)][-2]
    return prod(shape) * int(left.shape[-1])


def _attention(args: Sequence[Any], _shape: Sequence[int]) -> int:
    query, key, value = args[:3]
    return int(prod(query.shape) * key.shape[-2] + prod(query.shape[:-1]) * prod(value.shape[-2:]))


_ATTENTION = (
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_fused_attention_overrideable",
)

_COUNTERS: Mapping[str, Callable[[Sequence[Any], Sequence[int]], int]] = {
    "convolution": _convolution,
    **dict.fromkeys(("mm", "addmm", "bmm", "baddbmm"), _product),
    **dict.fromkeys(_ATTENTION, _attention),
}
