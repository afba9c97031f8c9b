"""load_into: the weights of a file into a model that there is, wholly or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo.errors import AlignmentError, KeymapError, SpecError, WeightsError
from zoo.kinds import PARTS, SECTIONS
from zoo.model import Model
from zoo.spec import normalise, parse
from zoo.weights.checkpoint import Checkpoint
from zoo.weights.files import refuse_other_function
from zoo.weights.keymaps.keymap import refuse_keymap
from zoo.weights.migration.home import brought_home
from zoo.weights.migration.naming import as_in_the_file, named
from zoo.weights.migration.recognise import Comparison, unwrapped
from zoo.weights.plan import LoadPlan, Patterns, allowed, plan
from zoo.weights.reading import read, read_verified
from zoo.weights.transfer.changes import ASKED, Changes, stated_parts
from zoo.weights.transfer.transfer import part_of


def plan_load(
    model: nn.Module,
    path: str | PathLike[str],
    *,
    allow_missing: Patterns = (),
    allow_unexpected: Patterns = (),
    allow_changed: Patterns = (),
    allow_lossy: bool = False,
    fresh: str | Iterable[str] = (),
    verify: bool | str = False,
    keymap: str | None = None,
    within: str | None = None,
) -> LoadPlan:
    """Tell what :func:`load_into` would do with the same arguments, and do nothing.

    Returns:
        The plan. It lists what does not fit; ``plan.fits`` tells whether the file can be loaded, ``print(plan)`` why
        not.

    Raises:
        WeightsError: as :func:`load_into`, but not for tensors that do not fit.
        SpecError: the file says that its weights are of a model that computes something else.

    >>> import zoo
    >>> path = zoo.save(zoo.build("lenet", weights="digits"), "digits.pt")
    >>> print(plan_load(zoo.build("lenet", num_classes=5), path, allow_missing="head.*"))
    digits.pt: 8 of 10 tensors are loaded
      kept as they are (2): head.fc.weight float32[10, 84] for float32[5, 84], head.fc.bias float32[10] for float32[5]
    """
    parts = stated_parts(fresh, "fresh")
    asked = _Asked(allow_missing, allow_unexpected, allow_changed, allow_lossy, parts, verify, keymap, within)
    return _prepare(model, path, asked).plan


def load_into(
    model: nn.Module,
    path: str | PathLike[str],
    *,
    allow_missing: Patterns = (),
    allow_unexpected: Patterns = (),
    allow_changed: Patterns = (),
    allow_lossy: bool = False,
    fresh: str | Iterable[str] = (),
    verify: bool | str = False,
    keymap: str | None = None,
    within: str | None = None,
) -> LoadPlan:
    """Put the weights of a file into a model that there is, wholly or not at all.

    All is planned and checked first; then the values are copied into the model's own tensors, which stay the same
    objects with the same device, dtype and strides, so that optimisers and ties stay right. If anything fails, even
    half-way, every tensor has its old value. Modes, ``requires_grad`` and gradients are not touched. Values are taken
    as they are, NaN included.

    Args:
        model: a model of zoo or any other module, on any device.
        path: the file; it needs no spec, and the model needs none. An ONNX file from elsewhere is aligned with a model
            of zoo as by :func:`zoo.load`; into any other module it goes by its names.
        allow_missing: shell patterns of names in the model, ``"head.*"``, that stay as they are where the file lacks
            them or has them in another shape.
        allow_unexpected: shell patterns of names in the file that are left out where the model lacks them.
        allow_changed: shell patterns of what may be otherwise in the spec of the file than in the model's,
            ``"backbone.activation"`` or ``"neck*"``. A part that stays as it is altogether may be.
        allow_lossy: whether the model's precision may lose values that matter.
        fresh: parts of a model of zoo that take nothing from the file, ``"head"`` or several, as for :func:`zoo.build`:
            they keep the tensors that they have, whatever the file has there.
        verify: as for :func:`zoo.load`.
        keymap: the library whose names a file from elsewhere has; for a model of zoo, all are tried unless given.
        within: which weights, where a file holds several, as for :func:`zoo.load`.

    Returns:
        What was done. The model gets the training record of the file if all of it came from there.

    Raises:
        TensorMismatchError: the tensors are not those of the model; nothing was changed.
        AlignmentError: it is an ONNX graph from elsewhere, and not one of this model.
        LossyCastError: the model's precision would lose values that matter.
        PatternError: a pattern fits nothing.
        UnknownNameError: ``fresh`` names no part.
        SpecError: the file says that its weights are of a model that computes something else.
        FingerprintError: ``verify`` found another fingerprint, or the file carries none.
        FileFormatError: the file is missing, damaged or of another kind.
        UnsafeFileError: it is a pickle that holds more than tensors.
        WeightsError: the model cannot be written to: it is on the meta device, or its tensors are not its own.
    """
    parts = stated_parts(fresh, "fresh")
    asked = _Asked(allow_missing, allow_unexpected, allow_changed, allow_lossy, parts, verify, keymap, within)
    prepared = _prepare(model, path, asked)
    prepared.plan.require()
    _commit(prepared.values(), prepared.plan.path)
    artifact, module = prepared.checkpoint.artifact, prepared.module
    if isinstance(module, Model) and artifact is not None and not prepared.plan.kept:
        module.record = artifact.record
    return prepared.plan


@dataclass(frozen=True)
class _Prepared:
    module: nn.Module
    own: Mapping[str, torch.Tensor]
    checkpoint: Checkpoint
    given: Mapping[str, torch.Tensor]
    plan: LoadPlan

    def values(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return each tensor of the model that changes with its new values, ready to be copied."""
        aliases = self.plan.ties
        sources = {aliases.get(name, name): self.given[name] for name in self.plan.loaded if name in self.given}
        return [
            (self.own[name], value.detach().to(self.own[name].dtype).to(self.own[name].device))
            for name, value in sources.items()
        ]


@dataclass(frozen=True)
class _Asked:
    allow_missing: Patterns
    allow_unexpected: Patterns
    allow_changed: Patterns
    allow_lossy: bool
    fresh: tuple[str, ...]
    verify: bool | str
    keymap: str | None
    within: str | None


def _prepare(model: nn.Module, path: str | PathLike[str], asked: _Asked) -> _Prepared:
    path = Path(path)
    module = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    own = _own_tensors(module, path)
    expected = asked.verify if isinstance(asked.verify, str) else None
    within = asked.within
    checkpoint = read_verified(path, expected, within=within) if asked.verify else read(path, within=within)
    if asked.fresh and not isinstance(module, Model):
        found = type(module).__name__
        raise WeightsError(
            path, f"fresh= names parts of zoo's models, and the model is a {found!r}; use allow_missing="
        )
    told = checkpoint.unwrapping
    if checkpoint.artifact is None or asked.keymap is not None:
        checkpoint = _at_home(module, checkpoint, path, asked, mapped=not asked.verify)
    given = checkpoint.state_dict()
    planned = plan(
        own,
        given,
        path,
        allow_missing=asked.allow_missing,
        allow_unexpected=asked.allow_unexpected,
        allow_lossy=asked.allow_lossy,
        fresh=asked.fresh,
    )
    if asked.fresh and checkpoint.unwrapping is not None:
        apart = checkpoint.unwrapping.left_out[len(told.left_out) if told is not None else 0 :]
        planned = replace(planned, ignored=(*planned.ignored, *apart))
    if isinstance(module, Model):
        _refuse_other_model(module, own, checkpoint, planned, asked)
    taken = {name: tensor for name, tensor in given.items() if part_of(name) not in asked.fresh}
    return _Prepared(module, own, checkpoint, taken, planned)


def _at_home(module: nn.Module, checkpoint: Checkpoint, path: Path, asked: _Asked, *, mapped: bool) -> Checkpoint:
    """Return a file from elsewhere by the names of a module; as it is, where it does not fit whole."""
    keymap = asked.keymap
    if keymap is not None:
        refuse_keymap(checkpoint, keymap, path)
        if not isinstance(module, Model):
            found = type(module).__name__
            raise KeymapError(keymap, f"it makes names of zoo's models, and the model is a {found!r}", path=path)
    if not isinstance(module, Model):
        return unwrapped(checkpoint, module.state_dict(keep_vars=True))
    try:
        parsed = parse(module.spec)
    except SpecError:  # it needs what is not installed here
        if keymap is not None:
            raise
        return checkpoint
    try:
        if asked.fresh:
            anew = Changes(fresh=dict.fromkeys(asked.fresh, ASKED))
            return brought_home(checkpoint, path, [parsed], anew, keymap, mapped=mapped).checkpoint
        return named(checkpoint, parsed, path, keymap, model=module, mapped=mapped)[0]
    except AlignmentError as error:
        other = as_in_the_file(checkpoint, parsed, path, keymap)  # one with other classes keeps its own head
        if other is None:
            raise
        with suppress(AlignmentError):
            return named(checkpoint, other, path, keymap, mapped=mapped)[0]
        raise error.advising("") from error
    except KeymapError:
        outline = Comparison(checkpoint, parsed, module, path, keymap).outlined()
        if outline is checkpoint and keymap is not None:
            raise
        return outline


def _own_tensors(module: nn.Module, path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a module by the names of its state dict, the very objects that it computes with."""
    if not isinstance(module, nn.Module):
        raise WeightsError(path, f"found a {type(module).__name__!r} to load into; expected a torch.nn.Module")
    state = module.state_dict(keep_vars=True)
    there = {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
    for name, tensor in state.items():
        if id(tensor) not in there:
            kind = type(tensor).__name__
            raise WeightsError(
                path,
                f"the model's state_dict() has {name!r} ({kind}), which is none of its parameters and buffers; "
                "use its own load_state_dict",
            )
        if tensor.is_meta:
            raise WeightsError(
                path, f"{name!r} of the model is on the meta device, where nothing has values; use zoo.load instead"
            )
    return state


def _refuse_other_model(
    model: Model, own: Mapping[str, torch.Tensor], checkpoint: Checkpoint, planned: LoadPlan, asked: _Asked
) -> None:
    if checkpoint.artifact is None:
        return
    try:
        saved, parsed = normalise(checkpoint.artifact.spec), parse(model.spec)
    except SpecError:
        return  # one of them needs what is not installed here; that the tensors fit is all that can be checked
    wanted = parsed.dump()
    specs = saved, wanted
    parts = [(kind, spec[kind] or {}) for spec in specs for kind in spec]
    places = dict.fromkeys(place for kind, part in parts for place in (kind, *(f"{kind}.{key}" for key in part)))
    changed = {*allowed(asked.allow_changed, "allow_changed", places, "part of the spec", planned.path), *asked.fresh}
    kept = {name if isinstance(name, str) else name.name for name in planned.kept}
    names = checkpoint.state_dict()
    for kind in SECTIONS:
        ours, theirs = _below(kind, own), _below(kind, names)
        stays = bool(ours) and kept.issuperset(ours)  # a new head
        ends = any(_ends_before(kind, spec) for spec in specs) and set(planned.ignored).issuperset(theirs)
        if stays or (ends and not ours):
            changed.add(kind)
    refuse_other_function(parsed, checkpoint, "name it in allow_changed if that is meant", changed)


def _ends_before(kind: str, spec: Mapping[str, Any]) -> bool:
    return all(spec.get(later) is None for later in (PARTS[PARTS.index(kind) :] if kind in PARTS else (kind,)))


def _below(kind: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(f"{kind}.")]


def _commit(changes: list[tuple[torch.Tensor, torch.Tensor]], path: str) -> None:
    """Copy new values into tensors; if one fails, every tensor gets its old values back."""
    before: list[tuple[torch.Tensor, torch.Tensor]] = []
    with torch.no_grad():
        try:
            for tensor, value in changes:
                before.append((tensor, tensor.detach().clone()))
                tensor.copy_(value)
        except BaseException as error:
            for tensor, value in before:
                with suppress(RuntimeError):  # one that refuses to be written to was not written to
                    tensor.copy_(value)
            if isinstance(error, RuntimeError):
                reason = str(error).strip().partition("\n")[0]
                raise WeightsError(path, f"could not be loaded, the model is as it was: {reason}") from error
            raise
