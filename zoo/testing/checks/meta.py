"""meta-device: built without memory it has the names, shapes and dtypes that it has for real."""

from __future__ import annotations

import torch

from zoo.testing.report import fail
from zoo.testing.subject import Subject


def meta_device(subject: Subject) -> None:
    """On the meta device every tensor is there, is a meta tensor and is like the real one, which is finite."""
    meta, real = subject.build(device="meta").state_dict(), subject.build().state_dict()
    elsewhere = [name for name, tensor in meta.items() if not tensor.is_meta]
    if elsewhere:
        fail(f"built on the meta device, {elsewhere[0]!r} is on {meta[elsewhere[0]].device}; name no device yourself")
    for name in dict.fromkeys([*real, *meta]):
        if name not in meta or name not in real:
            fail(f"{name!r} is there only when built {'for real' if name in real else 'on the meta device'}")
        if _kind(meta[name]) != _kind(real[name]):
            fail(f"{name!r} is {_kind(meta[name])} on the meta device and {_kind(real[name])} for real")
    infinite = [name for name, tensor in real.items() if not tensor.isfinite().all()]
    if infinite:
        fail(f"fresh {infinite[0]!r} is not finite; initialise every tensor")


def _kind(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
