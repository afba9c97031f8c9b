"""determinism: one seed, one model."""

from __future__ import annotations

import torch

from zoo.testing.subject import Subject
from zoo.testing.tensors import require_same, state_of, tensors_of


def determinism(subject: Subject) -> None:
    """The same seed of torch gives the same weights and, in training mode, the same outputs."""
    left, right = subject.build(seed=7).train(), subject.build(seed=7).train()
    require_same(state_of(left), state_of(right), "torch.manual_seed(7) gives different weights")
    torch.manual_seed(8)
    first = tensors_of(left(subject.input()))
    torch.manual_seed(8)
    second = tensors_of(right(subject.input()))
    require_same(first, second, "one seed gives different outputs in training mode")
