"""gradients: a step of training reaches every parameter of the component, and what comes before it."""

from __future__ import annotations

import torch

from zoo.testing.report import fail
from zoo.testing.subject import Subject
from zoo.testing.tensors import tensors_of


def gradients(subject: Subject) -> None:
    """Forward and backward in training mode give a finite gradient on every parameter and on the input."""
    model = subject.build().train()
    x = subject.input().requires_grad_()
    outputs = [t for t in tensors_of(model(x)).values() if t.is_floating_point()]
    if not any(t.requires_grad for t in outputs):
        fail("nothing that comes out can be differentiated")
    torch.stack([t.square().mean() for t in outputs]).sum().backward()  # type: ignore[no-untyped-call]
    trained = {name: p for name, p in subject.part(model).named_parameters() if p.requires_grad}
    for name, tensor in {**trained, "the input": x}.items():
        if tensor.grad is None:
            fail(f"no gradient reaches {name}; use it in forward, and detach nothing")
        if not tensor.grad.isfinite().all():
            fail(f"the gradient of {name} is not finite")
