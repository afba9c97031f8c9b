"""determinism: one seed, one model."""

from __future__ import annotations

import torch

from zoo.testing.subject import Subject
from zoo.testing.tensors import require_same, state_of, tensors_of


def determinism(subject: Subject) -> None:
    """The same seed of torch gives the same weights and, in training mode, the same outputs."""
    left, right = subject.build(seed=7).train(), subject.build(seed=7).train()
    require_same(state_of(left), state_of(right), "torch.manual_seed(7) gives different weights")
    outputs = []
    for model in (left, right):
        torch.manual_seed(8)
        outputs.append(tensors_of(model(subject.input())))
    require_same(*outputs, "one seed gives different outputs in training mode")
