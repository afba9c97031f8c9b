"""deep-copy and pickle: a copy is the same model, and a model of its own."""

from __future__ import annotations

import copy
import pickle

import torch

from zoo.model import Model
from zoo.testing.report import fail
from zoo.testing.subject import Subject
from zoo.testing.tensors import randomise, require_same, state_of, tensors_of
from zoo.weights.checkpoint import tied


def deep_copy(subject: Subject) -> None:
    """``copy.deepcopy`` gives an equal model that shares no memory and keeps its ties."""
    model = subject.build().eval()
    _compare(subject, model, copy.deepcopy(model), "a deep copy")


def pickling(subject: Subject) -> None:
    """A pickle, as a DataLoader worker or a spawned process gets it, gives an equal model."""
    model = subject.build().eval()
    try:
        again = pickle.loads(pickle.dumps(model))  # noqa: S301 - of our own making, a line above
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        fail(f"it cannot be pickled: {error}; keep no lambda and no local class in the module")
    _compare(subject, model, again, "an unpickled copy")


def _compare(subject: Subject, model: Model, again: Model, what: str) -> None:
    before = state_of(model)
    require_same(before, state_of(again), f"{what} differs in")
    if tied(model.state_dict(keep_vars=True)) != tied(again.state_dict(keep_vars=True)):
        fail(f"{what} has lost a tie between parameters")
    with torch.no_grad():
        outputs = tensors_of(model(subject.input()))
        require_same(outputs, tensors_of(again(subject.input())), f"{what} gives other outputs")
        randomise(again)
        require_same(before, state_of(model), f"changing {what} changes the original")
        require_same(outputs, tensors_of(model(subject.input())), f"changing {what} changes what the original returns")
