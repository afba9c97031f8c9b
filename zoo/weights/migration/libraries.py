"""The models of timm and torchvision that a file can be of, found by composing theirs on the meta device."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from threading import get_ident
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from zoo.errors import ZooError
from zoo.ghost import parameters_on_meta, still
from zoo.held import is_lazy
from zoo.spec import parse
from zoo.weights.keymaps.library import library_table, library_tables
from zoo.weights.keymaps.rules import NoCounterpart
from zoo.weights.migration.parameters import is_kernel
from zoo.weights.migration.unwrapping import Peeled
from zoo.weights.migration.ways import same_shapes

_USUAL_CLASSES = 1000
_ALLOWED = 8  # parameters of a model that may have other shapes than any in a file
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
    folded = [
        (each, frozenset(_folded(n) for name in each[1] for n in (name, name.partition(".")[2]))) for each in variants
    ]
    for candidates in (list(_timm()), list(_torchvision())):
        likely = [(each, *variant) for each in candidates for variant in variants if each.marked(variant[1])]
        headless = [(each, *variant) for each in candidates for variant in variants if each.trunk_marked(variant[1])]
        features = [
            (each.of_features(), *variant)
            for variant, names in folded
            for each in candidates
            if each.makes_features and each.features_marked(names)
        ]
        yield from list(_fitting(likely)) or list(_fitting(headless)) or _fitting(features)


def _fitting(tried: Iterable[tuple[_Candidate, Peeled, Given]]) -> Iterator[Theirs]:
    fits = (
        Theirs(candidate.name, changes, peeled, candidate.call(changes), candidate.spec(given, changes))
        for candidate, peeled, given in tried
        if (changes := candidate.fitting(given)) is not None
    )
    return islice(fits, _ENOUGH)


@dataclass(frozen=True)
class _Candidate:
    name: str
    function: str
    make: Callable[..., nn.Module]
    first: tuple[str, ...] = ()  # names that are known without composing it: of the first layer
    last: tuple[str, ...] = ()  # and of the classifier
    classes: int | None = None  # how many the model has by itself, where that is known
    makes_features: bool = False  # whether it can be made to give maps alone
    features: bool = False  # whether it is made so

    def of_features(self) -> _Candidate:
        """Return the model that gives maps alone, whose modules may have other names."""
        make = partial(self.make, features_only=True)
        return replace(self, make=make, first=(), last=(), classes=0, features=True)

    def features_marked(self, names: frozenset[str]) -> bool:
        """Tell whether a file can be of the model that gives maps alone, which may join its words or put one before.

        Args:
            names: the names in the file with and without their first word, each as if it were one word.
        """
        return bool(self.first) and all(_folded(mark) in names for mark in self.first)

    def marked(self, given: Given) -> bool:
        """Tell whether a file can be of the model as it is by itself, or with other classes."""
        return all(mark in given for mark in (*self.first, *(self.last if self.classes != 0 else ())))

    def trunk_marked(self, given: Given) -> bool:
        """Tell whether a file can be of the model without its classifier."""
        return self.classes != 0 and bool(self.last) and not self.marked(given) and all(m in given for m in self.first)

    def made(self, given: Given, **changes: Any) -> Given | None:
        """Return the tensors of the model; None if it cannot be made, or is soon seen to be another one."""
        try:
            with warnings.catch_warnings(), _giving_up(given):
                warnings.simplefilter("ignore")  # of initialisers, which do nothing here
                try:
                    with torch.device("meta"), still():
                        return self.make(**changes).state_dict()
                except NotImplementedError:  # RegNet computes its widths with tensors, which need values
                    with parameters_on_meta(), still():
                        return self.make(**changes).state_dict()
        except Exception:  # what constructors raise on the meta device, or for such numbers, is any kind of error
            return None

    def call(self, changes: Mapping[str, Any]) -> str:
        changes = {**({"features_only": True} if self.features else {}), **changes}
        told = "".join(f", {key}={value}" for key, value in changes.items())
        return f"{self.function}({self.name.partition(':')[2]!r}{told})"

    def spec(self, given: Given, changes: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the spec of the model here, or of its backbone alone, that takes most of a file; None if none does."""
        channels = {"input": {"channels": changes["in_chans"]}} if "in_chans" in changes else {}
        maps: dict[str, Any] = {**channels, "backbone": self.name}
        if self.features:
            with suppress(ZooError):
                return maps if library_tables(parse(maps)) else None
            return None
        pooled: dict[str, Any] = {**channels, "backbone": {"type": self.name, "pooled": True}}
        head = {"type": "linear", "num_classes": changes.get("num_classes", self.classes) or _USUAL_CLASSES}
        wholes = [{**maps, "neck": "gap", "head": head}, {**pooled, "head": head}]
        wholes.append({**pooled, "head": {**head, "bias": False}})
        best, most = None, 0
        for spec in [*(wholes if changes.get("num_classes") != 0 else []), maps, pooled]:
            placed = _placed(spec, given)
            if placed > most:
                best, most = spec, placed
            if placed == len(given):
                break
        return best

    def fitting(self, given: Given) -> dict[str, Any] | None:
        """Return what the model is to be made with to have these tensors, or None if it cannot be."""
        tensors = self.made(given)
        changes: dict[str, Any] = {}
        if tensors is not None and tensors.keys() != given.keys() and self.last:
            classifier = next((given[mark] for mark in self.last if mark in given), None)
            changes["num_classes"] = 0 if classifier is None else len(classifier)
            tensors = self.made(given, **changes)
        if tensors is not None and not self.last and not self.features and _is_trunk(given, tensors):
            trunk = {"num_classes": 0}
            return trunk if self.spec(given, trunk) is not None else None
        if tensors is None or tensors.keys() != given.keys():
            return None
        other = [name for name, tensor in tensors.items() if given[name].shape != tensor.shape]
        if not other:
            return changes
        first = next((name for name, tensor in tensors.items() if tensor.dim() > 2 and is_kernel(name)), "")
        if first in other:
            changes["in_chans"] = given[first].shape[1]
        if other[-1] != first and given[other[-1]].dim() and not self.features:
            changes["num_classes"] = given[other[-1]].shape[0]
        adapted = self.made(given, **changes)
        return changes if adapted is not None and same_shapes(given, adapted) else None


def _placed(spec: Mapping[str, Any], given: Given) -> int:
    """Return how many tensors of a file a model of some spec takes; 0 if its head gets none."""
    with suppress(ZooError):
        parsed = parse(spec)
        found = library_table(parsed)
        if found is not None:
            rules = [rule for rule in found[1].rules if not isinstance(rule, NoCounterpart)]
            placed = {name for name in given if any(rule.match("theirs", name) for rule in rules)}
            behind = [rule for rule in rules if any(p.text.startswith("head.") for p in rule.patterns("ours"))]
            fed = any(rule.match("theirs", name) for rule in behind for name in placed)
            return len(placed) if fed or parsed.parts[-1].kind != "head" else 0
    return 0


def _is_trunk(given: Given, tensors: Given) -> bool:
    """Tell whether a file has all tensors of a model but those of modules that it has nothing of."""
    rest = tensors.keys() - given.keys()
    apart = {name.partition(".")[0] for name in rest}.isdisjoint(name.partition(".")[0] for name in given)
    return bool(rest) and apart and all(n in tensors and tensors[n].shape == t.shape for n, t in given.items())


@contextmanager
def _giving_up(given: Given) -> Iterator[None]:
    """Stop the composing of a model once several of its parameters have shapes that no tensor of a file has.

    The first layer and the classifier may have others, and what is made on the way may be replaced.
    """
    shapes = {tuple(tensor.shape) for tensor in given.values()}
    thread, other = get_ident(), 0

    def look(_: nn.Module, __: str, parameter: nn.Parameter) -> None:
        nonlocal other
        if get_ident() == thread and not is_lazy(parameter) and tuple(parameter.shape) not in shapes:
            other += 1
            if other > _ALLOWED:
                raise LookupError(f"no tensor of the file has the shape {tuple(parameter.shape)}")

    handle = register_module_parameter_registration_hook(look)
    try:
        yield
    finally:
        handle.remove()


def _folded(name: str) -> str:
    return name.replace(".", "_")


def _names(library: Any) -> Sequence[str]:
    """Return the names of all models of timm, or of ``torchvision.models``."""
    names: Sequence[str] = library.list_models()
    return names


def _timm() -> Iterator[_Candidate]:
    import timm

    for name in _names(timm):
        config = timm.get_pretrained_cfg(name)
        first, last = (_weights(config, mark) for mark in ("first_conv", "classifier"))
        make = partial(timm.create_model, name, pretrained=False)
        classes = config.num_classes if config is not None else None
        yield _Candidate(f"timm:{name}", "timm.create_model", make, first, last, classes, makes_features=True)


def _weights(config: Any, mark: str) -> tuple[str, ...]:
    """Return the names of the weights of a layer that timm describes; none if it does not."""
    stated = getattr(config, mark, None) or ()
    return tuple(f"{each}.weight" for each in ((stated,) if isinstance(stated, str) else stated) if each)


def _torchvision() -> Iterator[_Candidate]:
    from torchvision import models

    for name in _names(models):
        taken = inspect.signature(models.get_model_builder(name)).parameters
        bare = {key: None for key in ("weights", "weights_backbone") if key in taken}
        yield _Candidate(f"torchvision:{name}", "torchvision.models.get_model", partial(models.get_model, name, **bare))
