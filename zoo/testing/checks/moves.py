"""float64 and device-moves: all of the component goes where the model goes."""

from __future__ import annotations

import torch

from zoo.testing.report import fail
from zoo.testing.subject import Subject
from zoo.testing.tensors import tensors_of

_HINT = "keep tensors as parameters or buffers, and make new ones with the dtype and device of the input"


def float64(subject: Subject) -> None:
    """After ``model.double()`` a float64 input gives float64 outputs."""
    model = subject.build().eval().double()
    try:
        with torch.no_grad():
            outputs = tensors_of(model(subject.input().double()))
    except (RuntimeError, TypeError) as error:
        fail(f"after model.double(), forward raises {type(error).__name__}: {error}; {_HINT}")
    for name, tensor in outputs.items():
        if tensor.is_floating_point() and tensor.dtype != torch.float64:
            fail(f"after model.double(), {name} is {tensor.dtype}; {_HINT}")


def device_moves(subject: Subject) -> None:
    """After ``model.to("meta")`` every tensor is there, and the model gives the same shapes there as here."""
    model = subject.build().eval()
    with torch.no_grad():
        here = tensors_of(model(subject.input()))
        model.to("meta")
        try:
            there = tensors_of(model(subject.input().to("meta")))
        except (RuntimeError, NotImplementedError, TypeError) as error:
            fail(f"after model.to('meta'), forward raises {type(error).__name__}: {error}; {_HINT}")
    for name, tensor in here.items():
        if name not in there or not there[name].is_meta or there[name].shape != tensor.shape:
            found = f"{list(there[name].shape)} on {there[name].device}" if name in there else "missing"
            fail(f"after model.to('meta'), {name} is {found}; expected {list(tensor.shape)} on meta; {_HINT}")
