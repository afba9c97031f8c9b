"""modes: train() and eval() reach every part, and in evaluation mode nothing is random and nothing is learnt."""

from __future__ import annotations

import torch

from zoo.testing.report import fail
from zoo.testing.subject import Subject
from zoo.testing.tensors import require_same, state_of, tensors_of


def modes(subject: Subject) -> None:
    """Evaluation gives the same twice and changes no tensor; both modes can be entered and run."""
    model = subject.build()
    x = subject.input()
    with torch.no_grad():
        model.train()(x)
        if not subject.part(model).training:
            fail("train() leaves it in evaluation mode")
        training = [name or "itself" for name, m in subject.part(model.eval()).named_modules() if m.training]
        if training:
            fail(f"eval() leaves {training[0]} in training mode")
        before = state_of(model)
        first, second = tensors_of(model(x)), tensors_of(model(x))
    require_same(first, second, "in evaluation mode the same input gives different outputs")
    require_same(before, state_of(model), "running in evaluation mode changes")
