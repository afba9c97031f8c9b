"""library_table: between a library's own names and ours, for its models as backbones; read off its model and ours."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from zoo import kinds
from zoo.builder import assemble
from zoo.errors import KeymapError, RuleError, ZooError
from zoo.ghost import still
from zoo.spec import ParsedSpec, merge, of_classes, parse
from zoo.weights.keymaps.rules import NoCounterpart, Rename, Rule
from zoo.weights.keymaps.table import Table

_DEEPEST = 3  # modules that a backbone may have around the network of its library

_USUAL = (3, 224, 224)
_USUAL_CLASSES = 1000

_WHY = "the backbone ends before it"


def library_table(parsed: ParsedSpec) -> tuple[str, Table] | None:
    """Return the table for a model whose backbone is one of a library with many models of its own.

    What the backbone has is renamed. The library's classifier becomes our head if the two models then compute the same
    to the last bit, which a run of both with random weights tells; otherwise it is left out, with all else that the
    backbone lacks. A library that runs one child of a module after the other may call the two by one word, ``stages_0``
    for ``stages.0``.

    Args:
        parsed: the checked spec of the model.

    Returns:
        The namespace and the table; None if the backbone is of no namespace, or its library does not tell of whole
        models, or they have other tensors than the backbone.

    Raises:
        KeymapError: the library fails to give its whole model.
    """
    return next(iter(library_tables(parsed)), None)


def library_tables(parsed: ParsedSpec) -> Sequence[tuple[str, Table]]:
    """Return the table for a model and, where its backbone has other names than the whole model, one for those.

    A library may give maps through a module that calls its children otherwise than the whole model, as timm does by
    ``features_only``; who trained that saved the names of that. Such files have nothing of our head.

    Args:
        parsed: the checked spec of the model.

    Raises:
        KeymapError: the library fails to give its whole model.
    """
    backbone = parsed.parts[0]
    namespace = backbone.entry.namespace
    library = kinds.providers.get(namespace) if namespace else None
    if library is None or not callable(getattr(library, "whole", None)):
        return ()
    spec = json.dumps(_of_any_classes(parsed), sort_keys=True)
    both = _rules(spec, _Library(library, namespace), backbone.entry.name)
    others: dict[str, Any] = {part.kind: part.type for part in parsed.parts[1:]}
    return [(namespace, Table(backbone=backbone.entry.name, rules=rules, **others)) for rules in both if rules]


def _of_any_classes(parsed: ParsedSpec) -> dict[str, Any]:
    """Return a spec that is the same for every number of classes, on which no name depends, and without weights."""
    spec = parsed.dump()
    if spec["backbone"].get("pretrained") is True:  # a library's model may be made otherwise for its weights
        spec = parse(merge(spec, {"backbone": {"pretrained": False}})).dump()
    if isinstance((spec["head"] or {}).get("num_classes"), int):
        with suppress(ZooError):  # a head of others may not take as many
            return parse(merge(spec, of_classes(spec, _USUAL_CLASSES))).dump()
    return spec


@dataclass(frozen=True)
class _Library:
    """A library, the same only as itself: another one may be registered under its name."""

    given: Any
    namespace: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Library) and self.given is other.given

    def __hash__(self) -> int:
        return id(self.given)

    def whole(self, name: str, device: str) -> list[nn.Module]:
        """Return its model in each form that checkpoints have.

        Raises:
            KeymapError: it does not give it.
        """
        try:
            with torch.device(device), still():
                forms = list(self.given.whole("backbone", name.partition(":")[2]))
        except Exception as error:  # the code of a plugin may raise anything
            raise KeymapError(self.namespace, f"it fails to make {name}: {type(error).__name__}: {error}") from error
        if not forms or not all(isinstance(form, nn.Module) for form in forms):
            found = ", ".join(type(form).__name__ for form in forms) or "nothing"
            raise KeymapError(self.namespace, f"of {name} it gives {found}; expected its model in each form, a list")
        return forms

    def made_for(self, name: str) -> tuple[int, ...]:
        """Return the channels and the size that its model was made for, as far as it tells.

        Raises:
            KeymapError: it does not tell, though it has a method for it.
        """
        told = getattr(self.given, "made_for", None)
        if told is None:
            return _USUAL
        try:
            channels, *size = map(int, told("backbone", name.partition(":")[2]))
        except Exception as error:  # the code of a plugin may raise anything
            raise KeymapError(self.namespace, f"it fails to tell what {name} takes: {error}") from error
        return channels, *size


@lru_cache(maxsize=32)
def _rules(spec: str, library: _Library, name: str) -> tuple[tuple[Rule, ...], tuple[Rule, ...]]:
    """Return the rules for the names of the whole model, and those for the names that the backbone has, if others."""
    ours = list(assemble(parse(json.loads(spec)), "meta", initialise=False).state_dict())
    forms = library.whole(name, "meta")
    keys = [list(form.state_dict()) for form in forms]
    theirs = list(dict.fromkeys(key for form in keys for key in form))
    trunk = [each for each in ours if each.startswith("backbone.")]
    renamed = _renamed(theirs, trunk)
    if renamed is None:
        return (), ()
    whole = dict(renamed)
    for number, form in enumerate(forms):
        if len(whole) == len(renamed):
            behind = [each for each in ours if each not in trunk]
            whole |= _classifier(library, name, number, form.state_dict(), renamed, json.loads(spec), behind)
    optional = {key for key in theirs if key not in whole and not all(key in form for form in keys)}
    try:
        rules = tuple(_covering("", {key: whole.get(key) for key in sorted(theirs)}, optional))
        return rules, tuple(_of_features(renamed, theirs))
    except RuleError as error:
        raise KeymapError(library.namespace, f"names of {name} cannot be said by rules: {error}") from error


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


def _of_features(renamed: Mapping[str, str], theirs: Sequence[str]) -> Iterator[Rule]:
    """Give the rules for the names that a backbone has itself; none if they are those of the whole model.

    Args:
        renamed: our name for each of the whole model's that the backbone has.
        theirs: all names of the whole model.
    """
    own = {name[-len(key) :]: name for key, name in renamed.items()}  # folding keeps the length
    if own.keys() == renamed.keys():
        return
    for word in dict.fromkeys(key.partition(".")[0] for key in own):
        # by the first word, so that a file with the names of the whole model is seen to have others
        rest = word if word in own else f"{word}.{{rest...}}"
        key, name = next((key, name) for key, name in own.items() if key.partition(".")[0] == word)
        yield Rename(rest, f"{name.removesuffix(key)}{rest}")
    words = {key.partition(".")[0] for key in own}
    joined = {key.partition(".")[0] for key in renamed} - words
    for key in theirs:
        shown = key.replace(".", "_", 1) if key.partition(".")[0] in joined else key
        word = shown.partition(".")[0]
        if key not in renamed and word not in words:
            words.add(word)
            yield NoCounterpart(f"{word}.{{rest...}}" if word != shown else word, why=_WHY, optional=True)


def _folded(name: str) -> str:
    return name.replace(".", "_")


def _classifier(
    library: _Library,
    name: str,
    number: int,
    state: Mapping[str, torch.Tensor],
    renamed: Mapping[str, str],
    spec: Mapping[str, Any],
    ours: Sequence[str],
) -> dict[str, str]:
    """Return our names for the tensors of their classifier; none unless both models then compute the same.

    Args:
        library: the library.
        name: its model.
        number: which of its forms this is.
        state: the tensors of that, on the meta device.
        renamed: our name for each of theirs that the backbone has.
        spec: that of our model.
        ours: the names of ours that are not of the backbone.
    """
    left = [key for key in state if key not in renamed]
    found = {key: each for key in left for each in ours if key.rpartition(".")[2] == each.rpartition(".")[2]}
    if not left or len(found) != len(left) or sorted(found.values()) != sorted(ours):
        return {}
    names = {**renamed, **found}
    channels, *usual = library.made_for(name)
    stated = (spec.get("input") or {}).get("size")
    for size in dict.fromkeys((tuple(stated or usual), tuple(usual))):  # a model of one size is whole at another too
        given = {"channels": channels, **({"size": list(size)} if stated else {})}
        other = merge(spec, {**of_classes(spec, len(state[left[-1]])), "input": given})
        try:
            model = assemble(parse(other), "cpu", initialise=False)
        except ZooError:
            continue
        expected = model.state_dict()
        if any(state[key].shape != expected[names[key]].shape for key in state if key in names):
            continue
        whole = library.whole(name, "cpu")[number]
        if _computes_the_same(model.eval(), whole.eval(), names, (channels, *size)):
            return found
    return {}


def _computes_the_same(ours: nn.Module, theirs: nn.Module, names: Mapping[str, str], shape: Sequence[int]) -> bool:
    """Tell whether two modules give the same bits for random inputs, with the same random numbers as their tensors."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of what is dropped out
        scales = torch.tensor([0.3, 1.0, 4.0])
        x = torch.randn(len(scales), *shape, generator=generator) * scales.view(-1, *[1] * len(shape))
        for parameter in theirs.parameters():  # so that none is zero, one, or as another, and channels have both signs
            parameter.mul_(1 + torch.rand(parameter.shape, generator=generator) / 4)
            if parameter.dim() == 1:
                parameter.mul_(torch.randint(0, 2, parameter.shape, generator=generator) * 2 - 1)
            parameter.add_((torch.rand(parameter.shape, generator=generator) - 0.5) / 50)
        for module in theirs.modules():
            if isinstance(module, _BatchNorm):
                module.momentum = 1.0
        try:
            theirs.train()(x)  # norms take on what passes them, or the input may be lost on its way to the end
            state = theirs.eval().state_dict()
            ours.load_state_dict({names[key]: tensor for key, tensor in state.items() if key in names}, strict=True)
            expected, found = theirs(x), ours(x)
        except Exception:  # what a module of others says to an input may be anything
            return False
    tensors = isinstance(expected, torch.Tensor) and isinstance(found, torch.Tensor)
    return bool(
        tensors
        and expected.shape == found.shape
        and expected.isfinite().all()
        and not torch.equal(expected[0], expected[1])
        and torch.equal(expected, found)
    )


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
