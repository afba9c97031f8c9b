"""The models of timm and torchvision that a file can be of, found by composing theirs on the meta device."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import nn

from zoo.errors import ZooError
from zoo.spec import parse
from zoo.weights.keymaps.library import library_table
from zoo.weights.migration.unwrapping import Peeled
from zoo.weights.migration.ways import same_shapes

_ENOUGH = 5  # models of a library that fit: many are one network, trained otherwise

Given = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Theirs:
    """A model of a library that a file can be of.

    Attributes:
        name: ``"timm:convnext_tiny"``.
        changes: what it is made with otherwise than by itself: ``{"num_classes": 10}``.
        peeled: what was taken off the names.
        call: how to have it from its library.
        spec: that of its backbone here; None if it is none.
    """

    name: str
    changes: dict[str, Any]
    peeled: Peeled
    call: str
    spec: dict[str, Any] | None = None


def in_libraries(variants: Iterable[tuple[Peeled, Given]]) -> Iterator[Theirs]:
    """Give the models of timm and torchvision whose tensors these are, a few of each.

    Args:
        variants: the names in a file with less and less before them, each with the tensors by those names.
    """
    variants = list(variants)
    for candidates in (_timm(), _torchvision()):
        found = 0
        for candidate in candidates:
            for peeled, given in variants:
                changes = candidate.fitting(given) if found < _ENOUGH else None
                if changes is not None:
                    found += 1
                    yield Theirs(candidate.name, changes, peeled, candidate.call(changes), candidate.spec(changes))


@dataclass(frozen=True)
class _Candidate:
    name: str
    function: str
    make: Callable[..., nn.Module]
    marks: tuple[str, ...] = ()  # names that are known without composing it

    @cached_property
    def tensors(self) -> Given | None:
        return self.made()

    def made(self, **changes: Any) -> Given | None:
        try:
            with torch.device("meta"), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of initialisers, which do nothing here
                return self.make(**changes).state_dict()
        except Exception:  # what constructors raise on the meta device, or for such numbers, is any kind of error
            return None

    def call(self, changes: Mapping[str, Any]) -> str:
        told = "".join(f", {key}={value}" for key, value in changes.items())
        return f"{self.function}({self.name.partition(':')[2]!r}{told})"

    def spec(self, changes: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the spec of its backbone, if that takes its tensors by the names of the library."""
        channels = {"input": {"channels": changes["in_chans"]}} if "in_chans" in changes else {}
        try:
            spec = {**channels, "backbone": self.name}
            return spec if library_table(parse(spec)) is not None else None
        except ZooError:
            return None

    def fitting(self, given: Given) -> dict[str, Any] | None:
        """Return what the model is to be made with to have these tensors, or None if it cannot be."""
        if not all(mark in given for mark in self.marks) or self.tensors is None:
            return None
        if self.tensors.keys() != given.keys():
            return None
        other = [name for name, tensor in self.tensors.items() if given[name].shape != tensor.shape]
        if not other:
            return {}
        changes: dict[str, Any] = {}
        first = next((name for name, tensor in self.tensors.items() if tensor.dim() > 2), "")
        if first in other:
            changes["in_chans"] = given[first].shape[1]
        if other[-1] != first and given[other[-1]].dim():
            changes["num_classes"] = given[other[-1]].shape[0]
        adapted = self.made(**changes)
        return changes if adapted is not None and same_shapes(given, adapted) else None


def _timm() -> Iterator[_Candidate]:
    import timm

    for name in timm.list_models():
        config = timm.get_pretrained_cfg(name)
        stated = [config.first_conv, config.classifier] if config is not None else []
        marks = [each for mark in stated for each in (mark if isinstance(mark, tuple | list) else (mark,)) if each]
        make = partial(timm.create_model, name, pretrained=False)
        yield _Candidate(f"timm:{name}", "timm.create_model", make, tuple(f"{mark}.weight" for mark in marks))


def _torchvision() -> Iterator[_Candidate]:
    from torchvision import models

    for name in models.list_models():
        taken = inspect.signature(models.get_model_builder(name)).parameters
        bare = {key: None for key in ("weights", "weights_backbone") if key in taken}
        yield _Candidate(f"torchvision:{name}", "torchvision.models.get_model", partial(models.get_model, name, **bare))
