"""global-state: building and running it leaves the process, and every other model, as they were."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy
import torch

from zoo.testing.report import fail
from zoo.testing.subject import Subject
from zoo.testing.tensors import require_same, state_of, tensors_of


def global_state(subject: Subject) -> None:
    """No default and no mode of torch changes, random numbers are drawn from torch alone, instances share nothing."""
    before = _settings()
    first = subject.build(seed=1)
    after_one = torch.get_rng_state()
    _compare(before, "building")
    second = subject.build(seed=2)
    if torch.equal(after_one, torch.get_rng_state()):
        fail("building sets the seed of torch: after seeds 1 and 2 the generator is in one state")
    x = subject.input()
    with torch.no_grad():
        kept, outputs = state_of(first), tensors_of(first.eval()(x))
        drawn = torch.get_rng_state()
        second.eval()(x)
        if not torch.equal(drawn, torch.get_rng_state()):
            fail("running in evaluation mode draws random numbers")
        torch.manual_seed(3)
        second.train()(x)
    second(x)
    _compare(before, "running")
    require_same(kept, state_of(first), "running one instance changes another")
    with torch.no_grad():
        require_same(outputs, tensors_of(first(x)), "running one instance changes what another returns")
    memory = {t.data_ptr() for t in first.state_dict().values() if t.numel()}
    shared = [name for name, t in second.state_dict().items() if t.data_ptr() in memory]
    if shared:
        fail(f"two instances share the memory of {shared[0]}")


def _settings() -> Mapping[str, Any]:
    return {
        "torch's default dtype": torch.get_default_dtype(),
        "torch's default device": torch.get_default_device(),
        "whether gradients are on": torch.is_grad_enabled(),
        "whether deterministic algorithms are on": torch.are_deterministic_algorithms_enabled(),
        "torch's number of threads": torch.get_num_threads(),
        "cuDNN's benchmark setting": torch.backends.cudnn.benchmark,
        "the state of Python's random": random.getstate(),
        "the state of numpy's random": str(numpy.random.get_state()),  # noqa: NPY002, RUF100 - the global one is meant
    }


def _compare(before: Mapping[str, Any], what: str) -> None:
    for name, value in _settings().items():
        if value != before[name]:
            told = f" from {before[name]} to {value}" if len(str(value)) < 40 else ""
            fail(f"{what} it changes {name}{told}")
