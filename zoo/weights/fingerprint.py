"""The fingerprint: one short text for all tensors of a model, the same in memory and in every format."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import torch

from zoo.weights.dtypes import dtype_name
from zoo.weights.regions import byte_view

_WORTH_THREADS = 8  # tensors


def fingerprint_of(tensors: Mapping[str, torch.Tensor], aliases: Mapping[str, str]) -> str:
    """Return the SHA-256 over the sorted names, dtypes, shapes and bytes of tensors and over which names are one.

    Args:
        tensors: tensors by name; read one after the other, so that mapped ones take no memory.
        aliases: for each other name of a tensor, a name in ``tensors``.

    Returns:
        ``"sha256:"`` and 64 hexadecimal digits.

    >>> fingerprint_of({"a": torch.ones(2)}, {}) == fingerprint_of({"a": torch.ones(2, 1)}, {})
    False
    """
    names: dict[str, list[str]] = {name: [name] for name in tensors}
    for alias, name in aliases.items():
        names[name].append(alias)

    def line(name: str) -> str:
        tensor = tensors[name]  # here, not before: a mapping may make a tensor only when it is asked for
        return json.dumps([sorted(names[name]), dtype_name(tensor.dtype), list(tensor.shape), _digest(tensor)])

    if len(tensors) < _WORTH_THREADS:
        lines = sorted(map(line, tensors))
    else:
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # hashing leaves the interpreter to others
            lines = sorted(pool.map(line, tensors))
    return f"sha256:{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()}"


def _digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(byte_view(tensor)).hexdigest()
