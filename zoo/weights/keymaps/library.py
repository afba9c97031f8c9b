"""library_table: between a library's own names and ours, for its models as backbones; read off its model and ours."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from registry import RegistryError
from zoo import kinds
from zoo.builder import assemble
from zoo.errors import ZooError
from zoo.spec import ParsedSpec, merge, of_classes, parse
from zoo.weights.alignment.likeness import alike
from zoo.weights.keymaps.rules import NoCounterpart, Rename, Rule
from zoo.weights.keymaps.table import Table

_DEEPEST = 3  # modules that a backbone may have around the network of its library

_FAULTS = (RegistryError, ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError)
"""What a library raises when it is asked for a model that it cannot make."""

_USUAL = (224, 224)

_WHY = "the backbone ends before it"


def library_table(parsed: ParsedSpec) -> tuple[str, Table] | None:
    """Return the table for a model whose backbone is one of a library with many models of its own.

    What the backbone has is renamed. The library's classifier becomes our head if the two models compute the same with
    it, which a run of each without weights tells; otherwise it is left out, with all else that the backbone lacks. A
    library that runs one child of a module after the other may call the two by one word, ``stages_0`` for ``stages.0``.

    Args:
        parsed: the checked spec of the model.

    Returns:
        The namespace and the table; None if the backbone is of no namespace, or its library does not tell of whole
        models, or they have other tensors than the backbone.
    """
    backbone = parsed.parts[0]
    namespace = backbone.entry.namespace
    library = kinds.providers.get(namespace) if namespace else None
    if library is None or not callable(getattr(library, "whole", None)):
        return None
    rules = _rules(json.dumps(parsed.dump(), sort_keys=True), namespace, backbone.entry.name.partition(":")[2])
    if not rules:
        return None
    others: dict[str, Any] = {part.kind: part.type for part in parsed.parts[1:]}
    return namespace, Table(backbone=backbone.entry.name, rules=rules, **others)


@lru_cache(maxsize=32)
def _rules(spec: str, namespace: str, name: str) -> tuple[Rule, ...]:
    ours = assemble(parse(json.loads(spec)), "meta", initialise=False)
    try:
        with torch.device("meta"):
            forms = kinds.providers.get(namespace).whole("backbone", name)
    except _FAULTS:
        return ()
    keys = [list(form.state_dict()) for form in forms]
    theirs = list(dict.fromkeys(key for form in keys for key in form))
    mine = list(ours.state_dict())
    trunk = [each for each in mine if each.startswith("backbone.")]
    renamed = _renamed(theirs, trunk)
    if renamed is None:
        return ()
    whole = renamed | _classifier(forms[0], renamed, json.loads(spec), [each for each in mine if each not in trunk])
    optional = {key for key in theirs if key not in whole and not all(key in form for form in keys)}
    return tuple(_covering("", {key: whole.get(key) for key in sorted(theirs)}, optional))


def _renamed(theirs: Sequence[str], ours: Sequence[str]) -> dict[str, str] | None:
    """Return our name for each of theirs that has one; None if not every tensor of ours is one of theirs."""
    known: dict[str, list[str]] = {}
    for key in theirs:
        known.setdefault(_folded(key), []).append(key)
    for depth in range(1, _DEEPEST + 2):  # the first word is "backbone"
        found = {}
        for name in ours:
            candidates = known.get(_folded(name.split(".", depth)[-1]), []) if name.count(".") >= depth else []
            if len(candidates) != 1:
                break
            found[candidates[0]] = name
        if len(found) == len(ours):
            return found
    return None


def _folded(name: str) -> str:
    return name.replace(".", "_")


def _classifier(
    whole: nn.Module, renamed: Mapping[str, str], spec: Mapping[str, Any], ours: Sequence[str]
) -> dict[str, str]:
    """Return our names for the tensors of their classifier; none unless both models then compute the same."""
    state = whole.state_dict()
    left = [key for key in state if key not in renamed]
    found = {key: name for key in left for name in ours if key.rpartition(".")[2] == name.rpartition(".")[2]}
    if not ours or len(found) != len(left) or sorted(found.values()) != sorted(ours):
        return {}
    size = tuple((spec.get("input") or {}).get("size") or _USUAL)
    channels = next(tensor.shape[1] for tensor in state.values() if tensor.dim() > 2)
    other = merge(spec, {**of_classes(spec, len(state[left[0]])), "input": {"channels": channels}})
    try:
        model = assemble(parse(other), "meta", initialise=False)
    except ZooError:
        return {}
    return found if alike(model.eval(), whole.eval(), {**renamed, **found}, channels, size) else {}


def _covering(start: str, names: Mapping[str, str | None], optional: set[str]) -> Iterator[Rule]:
    """Give the fewest rules that say what becomes of each name that begins so."""
    inner = {key: name for key, name in names.items() if key.startswith(start)}
    rest = f"{start}{{rest...}}"
    if all(name is None for name in inner.values()) and len({key in optional for key in inner}) == 1:
        yield NoCounterpart(rest, why=_WHY, optional=next(iter(inner)) in optional)
        return
    key, name = next(iter(inner.items()))
    begin = name.removesuffix(key.removeprefix(start)) if name is not None else ""
    if begin.endswith(".") and all(name == f"{begin}{key.removeprefix(start)}" for key, name in inner.items()):
        yield Rename(rest, f"{begin}{{rest...}}")
        return
    for key in dict.fromkeys(key.removeprefix(start).partition(".")[0] for key in inner):
        whole = f"{start}{key}"
        if whole not in inner:
            yield from _covering(f"{whole}.", inner, optional)
        elif (name := inner[whole]) is not None:
            yield Rename(whole, name)
        else:
            yield NoCounterpart(whole, why=_WHY, optional=whole in optional)
