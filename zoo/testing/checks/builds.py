"""builds: a spec that names the component becomes a model, and the model runs."""

from __future__ import annotations

import torch

from zoo.testing.report import fail
from zoo.testing.subject import Subject
from zoo.testing.tensors import tensors_of


def builds(subject: Subject) -> None:
    """The component builds in a small model, which takes an input and returns tensors."""
    with torch.no_grad():
        output = subject.build().eval()(subject.input())
    if not tensors_of(output):
        fail(f"the model returns {type(output).__name__!r} with no tensor in it")
    if subject.kind != "head" and not isinstance(output, tuple):
        fail(f"forward returns {type(output).__name__!r}; expected a tuple, one tensor for each of 'features'")
