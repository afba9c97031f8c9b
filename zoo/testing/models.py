"""The checks of a named model; its parts have checks of their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import torch

from zoo.builder import compose
from zoo.spec import named, normalise
from zoo.testing.report import fail


def builds(name: str) -> None:
    """Its spec is valid, and its parts fit (on the meta device, for it may be large)."""
    model = compose(named(name), "meta").eval()
    source = model.spec["input"]
    if source["size"] is not None:
        with torch.no_grad():
            model(torch.empty(2, source["channels"], *source["size"], device="meta"))


def spec(name: str) -> None:
    """Its normalised spec survives JSON and is its own normal form."""
    normal = normalise(named(name))
    if json.loads(json.dumps(normal)) != normal:
        fail("JSON turns its normalised spec into something else")
    if normalise(normal) != normal:
        fail("normalising its spec twice gives something else")


MODEL_CHECKS: Mapping[str, Callable[[str], None]] = {"builds": builds, "spec": spec}
"""Every check of a named model by name."""
