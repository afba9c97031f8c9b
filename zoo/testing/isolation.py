"""Isolation: what is checked may be at fault in any way, and its faults end with its check."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def undisturbed() -> Iterator[None]:
    """Give torch's random numbers, default dtype and device and gradient mode back as they were; gradients are on."""
    dtype, device, grad = torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.set_grad_enabled(True)
            yield
    finally:
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(device)
        torch.set_grad_enabled(grad)
