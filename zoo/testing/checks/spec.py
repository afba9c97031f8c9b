"""spec: what a model says of itself is JSON that says it again."""

from __future__ import annotations

import json

import torch

from zoo.builder import compose
from zoo.errors import SpecError
from zoo.spec import normalise
from zoo.testing.report import fail
from zoo.testing.subject import Subject


def spec(subject: Subject) -> None:
    """The normalised spec survives JSON, is its own normal form, and builds the same tensors."""
    model = subject.build(device="meta")
    normal = model.spec
    read = json.loads(json.dumps(normal, allow_nan=False))  # the registry refuses defaults that JSON cannot say
    if read != normal:
        fail(f"JSON turns its defaults into something else: {normal[subject.kind]} into {read[subject.kind]}")
    try:
        again = normalise(read)
    except SpecError as error:
        fail(f"its own normalised spec is refused, for a default does not fit its type hint: {error}")
    if again != normal:
        fail(f"normalising twice gives something else: {normal[subject.kind]}, then {again[subject.kind]}")
    left, right = _shapes(model), _shapes(compose(again, "meta"))
    if left != right:
        fail(f"with every default stated the tensors are others: {sorted(left.items() ^ right.items())[0][0]}")


def _shapes(model: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}
