"""SumsInFloat32: float16 and bfloat16 on a CPU as the processors that are made for them compute.

Weights and activations have the narrow precision, and so has what every operation gives; only within a convolution or
a product, sums are kept in float32 and rounded once, at the end. So do tensor cores, and so does onnxruntime on a CPU.
torch has kernels of its own for float16, which most CPUs lack instructions for: they are many times slower, and round
no less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

from zoo.dispatch import Dispatch

NARROW = frozenset({torch.float16, torch.bfloat16})

_SUMS = frozenset({"convolution", "mm", "addmm", "bmm", "baddbmm"})


class SumsInFloat32(Dispatch):
    """While it is entered, narrow convolutions and products on the CPU keep their sums in float32.

    >>> ones = torch.ones(1, 4096, dtype=torch.float16)
    >>> small = torch.full((4096, 1), 2.0**-12, dtype=torch.float16)
    >>> with SumsInFloat32():
    ...     (ones @ small).dtype, float(ones @ small)
    (torch.float16, 1.0)
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func._schema.name.rpartition("::")[2] not in _SUMS:
            return func(*args, **kwargs)
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        kinds = {(each.dtype, each.device.type) for each in tensors}
        dtype, device = kinds.pop()
        if kinds or dtype not in NARROW or device != "cpu":  # what does not fit together is for torch to refuse
            return func(*args, **kwargs)
        return func(*tree_map(_widened, args), **tree_map(_widened, kwargs)).to(dtype)


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) else value
