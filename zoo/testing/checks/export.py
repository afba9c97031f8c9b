"""export: torch.export can trace it, for any batch."""

from __future__ import annotations

import torch

from zoo.testing.report import error_text, fail
from zoo.testing.subject import Subject
from zoo.testing.tensors import tensors_of


def export(subject: Subject) -> None:
    """The exported program gives what the model gives, for a batch of another length too."""
    model = subject.build().eval()
    with torch.no_grad():
        try:
            program = torch.export.export(
                model, (subject.input(),), dynamic_shapes=({0: torch.export.Dim("batch")},)
            ).module()
        except Exception as error:  # noqa: BLE001, RUF100 - it raises whatever it stumbles over
            fail(f"torch.export raises {error_text(error)}; keep control flow free of tensor values")
        x = subject.input(batch=5)
        exported, eager = tensors_of(program(x)), tensors_of(model(x))
    for name, tensor in eager.items():
        if name not in exported or not torch.allclose(exported[name], tensor, rtol=1e-4, atol=1e-5, equal_nan=True):
            fail(f"exported it gives another {name}; its forward depends on more than the input")
