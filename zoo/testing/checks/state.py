"""state-dict: what one model says of itself makes another one the same."""

from __future__ import annotations

import torch

from zoo.testing.subject import Subject
from zoo.testing.tensors import randomise, require_same, tensors_of


def state_dict(subject: Subject) -> None:
    """A state dict, loaded strictly into a model of another seed, comes back bit for bit and gives the same outputs."""
    model, other = subject.build(seed=1).eval(), subject.build(seed=2).eval()
    randomise(subject.part(model))
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    other.load_state_dict(state)
    require_same(state, other.state_dict(), "load_state_dict brings back something else for")
    with torch.no_grad():
        x = subject.input()
        require_same(tensors_of(model(x)), tensors_of(other(x)), "the same state dict gives other outputs")
