"""save and load: a model to a file of any format, and back."""

from __future__ import annotations

import warnings
from collections.abc import Container, Iterator
from os import PathLike
from pathlib import Path

import torch
from torch import nn

from registry import Problem
from zoo.builder import assemble
from zoo.errors import (
    MissingProviderError,
    MissingSpecError,
    SpecError,
    TensorMismatchError,
    UnknownNameError,
    WeightsError,
)
from zoo.lock import LockWarning, compare_lock
from zoo.model import Model
from zoo.spec import ParsedSpec, Source, normalise, opened, parse
from zoo.weights.checkpoint import Artifact, Checkpoint, tied
from zoo.weights.keymap import in_our_names
from zoo.weights.parity import bit_equal
from zoo.weights.reading import format_of, read, read_verified
from zoo.weights.writing import write


def save(
    model: Model,
    path: str | PathLike[str],
    *,
    max_shard_size: int | str | None = None,
    weights: str | PathLike[str] | None = None,
    dynamic_size: bool | None = None,
    opset: int | None = None,
    optimize: bool | None = None,
) -> Path:
    """Write a model to a file that can rebuild it alone.

    Args:
        model: a model made by zoo.
        path: the file; its suffix chooses the format: ``.pt``, ``.pth``, ``.safetensors`` or ``.onnx``, or one that a
            plugin adds.
        max_shard_size: safetensors: the most bytes of tensors in one file, ``"2GB"``; what is larger goes into several
            files and an index beside them.
        weights: ONNX: a ``.safetensors`` file in the same folder, which is written too and holds the tensors for both.
        dynamic_size: ONNX: whether height and width may vary; unless stated, they may where the spec gives no size.
        opset: ONNX: the version of the operator set.
        optimize: ONNX: True writes the graph for inference alone, folded, from which no model comes back.

    Returns:
        The file to load: ``path``, or the index of several files.

    Raises:
        WeightsError: there is no such format, it takes no such option, the file cannot be written, or the model was
            changed so that its spec no longer describes it; what was there before is intact.
    """
    options = {
        "max_shard_size": max_shard_size,
        "weights": weights,
        "dynamic_size": dynamic_size,
        "opset": opset,
        "optimize": optimize,
    }
    path = Path(path)
    format_of(path)
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    if not isinstance(model, Model):
        found = type(model).__name__
        raise WeightsError(path, f"found a {found!r} to save; expected a model made by zoo.build or zoo.load")
    checkpoint = Checkpoint.of(model).sealed()
    _refuse_unloadable(model, path)
    return write(model, checkpoint, path, **{name: value for name, value in options.items() if value is not None})


def load(
    path: str | PathLike[str], spec: Source | None = None, *, keymap: str | None = None, verify: bool | str = False
) -> Model:
    """Rebuild a model from a file, in evaluation mode.

    The model is built on the meta device and takes the tensors of the file as they are: nothing is initialised, and
    files are mapped, not read.

    Args:
        path: a file that :func:`save` wrote, or one from elsewhere.
        spec: what the file holds, where it does not say so itself: the name of a model, a spec, or a spec file.
        keymap: the library whose names the tensors have, if not zoo's: ``"torchvision"``, ``"timm"``, or the name of a
            keymap that a plugin adds.
        verify: True reads every byte into memory of our own and checks the fingerprint that the file carries; a
            fingerprint checks that one, too. False maps the file and checks its structure alone: bytes that changed on
            the disk are not noticed, and whoever edits or shortens the file in place changes the model or ends the
            process.

    Raises:
        FingerprintError: ``verify`` found another fingerprint, or the file carries none.
        FileFormatError: the file is missing, damaged or of another kind.
        UnsafeFileError: it is a pickle that holds more than tensors.
        StalePairError: it is an ONNX graph whose weights are in a safetensors file that was replaced since.
        NotInvertibleError: it is an ONNX graph for inference alone.
        MissingSpecError: it does not say what it holds, and neither does ``spec``.
        MissingProviderError: it needs a component that is not installed here.
        KeymapError: the keymap cannot translate its tensors for this model.
        TensorMismatchError: its tensors are not those of the model.
        UnknownNameError: no model or no keymap has this name.
        SpecError: the spec is wrong.
        SpecFileError: the spec file cannot be read.

    Warns:
        LockWarning: it was made with other versions of its providers than are installed here.
    """
    path = Path(path)
    checkpoint = read_verified(path, verify if isinstance(verify, str) else None) if verify else read(path)
    if keymap is not None:
        checkpoint = in_our_names(checkpoint, keymap, spec, path)
    return model_of(checkpoint, path, spec)


def model_of(checkpoint: Checkpoint, path: Path, spec: Source | None = None) -> Model:
    """Build the model whose tensors a file holds around them, in evaluation mode.

    Args:
        checkpoint: what is in the file.
        path: the file, for errors.
        spec: what it holds, where it does not say so itself.

    Raises:
        MissingSpecError: it does not say what it holds, and neither does ``spec``.
        ZooError: all that :func:`load` raises.
    """
    if spec is not None:
        with opened(spec) as plain:
            parsed = parse(plain)
            refuse_other_function(parsed, checkpoint, "leave spec= out to have it as it was saved")
            return rebuild(parsed, checkpoint, path)
    if checkpoint.artifact is not None:
        return rebuild(_parse_artifact(checkpoint.artifact, path), checkpoint, path)
    raise MissingSpecError(path)


def rebuild(parsed: ParsedSpec, checkpoint: Checkpoint, path: Path) -> Model:
    """Build the model of a checked spec around the tensors of a checkpoint, in evaluation mode.

    Raises:
        TensorMismatchError: the tensors are not those of the model.
    """
    model = assemble(parsed, "meta", initialise=False)
    _assign(model, checkpoint, path)
    if any(t.is_meta for _, _, t in _outside_state_dict(model)):
        _compute_others(model, parsed)
    model.record = checkpoint.artifact.record if checkpoint.artifact else None
    return model.eval()


def _parse_artifact(artifact: Artifact, path: Path) -> ParsedSpec:
    lock = compare_lock(artifact.lock)
    try:
        parsed = parse(artifact.spec)
    except SpecError as error:
        unknown = [p.error for p in error.problems if isinstance(p.error, UnknownNameError)]
        if not unknown or len(unknown) < len(error.problems) or not (lock.requirements or lock.by_hand):
            raise
        reason = "; ".join(f"{e.kind} {e.name!r}" for e in unknown)
        raise MissingProviderError(path, lock.requirements, reason) from error
    if lock.missing or lock.changed:
        remedy = f"if it behaves differently: pip install {' '.join(lock.requirements)}"
        warnings.warn(f"{path}: {lock}; {remedy}", LockWarning, stacklevel=4)
    return parsed


def _assign(model: Model, checkpoint: Checkpoint, path: Path) -> None:
    """Put the tensors of a checkpoint into a model on the meta device; what was tied is tied again."""
    expected = model.state_dict(keep_vars=True)
    given = checkpoint.state_dict()
    # What was tied in the model that was saved is tied again, though a fresh model may not have it so.
    ties = {**tied(expected), **{a: f for a, f in checkpoint.aliases.items() if a in expected and f in expected}}
    missing = [name for name in expected if name not in given]
    unexpected = [name for name in given if name not in expected]
    different = [
        f"{name} {'meta ' if given[name].is_meta else ''}{_type_text(given[name])} for {_type_text(tensor)}"
        for name, tensor in expected.items()
        if name in given and not _fits(given[name], tensor)
    ]
    different += [
        f"{alias} and {first} differ but are one tensor in the model"
        for alias, first in ties.items()
        if alias in given and first in given and not bit_equal(given[alias], given[first])
    ]
    if missing or unexpected or different:
        raise TensorMismatchError(path, missing, unexpected, different)
    model.load_state_dict(given, strict=True, assign=True)
    for alias, first in ties.items():
        _tie(model, alias, first)


def _fits(given: torch.Tensor, expected: torch.Tensor) -> bool:
    # The precision is the file's to choose, a model may have been halved; what kind of number it is, is not.
    plain = given.layout == torch.strided and not (given.is_meta or given.is_nested or given.is_quantized)
    same_kind = expected.is_floating_point() if given.is_floating_point() else given.dtype == expected.dtype
    return plain and given.shape == expected.shape and same_kind


def _type_text(tensor: torch.Tensor) -> str:
    kind = "" if tensor.layout == torch.strided else f"{tensor.layout} "
    return f"{kind}{tensor.dtype!s}{'[…]' if tensor.is_nested else list(tensor.shape)}".replace("torch.", "")


def _tie(model: Model, alias: str, first: str) -> None:
    owner, _, attribute = alias.rpartition(".")
    module = model.get_submodule(owner)
    home, _, name = first.rpartition(".")
    slots = module._parameters if attribute in module._parameters else module._buffers
    slots[attribute] = getattr(model.get_submodule(home), name)


def _outside_state_dict(model: Model) -> Iterator[tuple[nn.Module, str, torch.Tensor]]:
    """Give the tensors that no state dict holds: buffers that are not persistent, and plain attributes."""
    for module in model.modules():
        for name, value in (*module._buffers.items(), *module.__dict__.items()):
            if isinstance(value, torch.Tensor):
                yield module, name, value


def _compute_others(model: Model, parsed: ParsedSpec) -> None:
    """Fill the tensors that no state dict holds by building the model once more, for real."""
    with torch.random.fork_rng(devices=[]):
        fresh = assemble(parsed, "cpu", initialise=False)
    found = {(id(there), name): value for there, name, value in _outside_state_dict(fresh)}
    for here, there in zip(model.modules(), fresh.modules(), strict=True):
        for slots in (here._buffers, here.__dict__):
            for name, value in slots.items():
                if isinstance(value, torch.Tensor) and value.is_meta:
                    slots[name] = found[id(there), name]


def _refuse_unloadable(model: Model, path: Path) -> None:
    """Check before writing that the spec still describes the model, for a file rebuilds it from its spec alone."""
    described = assemble(parse(model.spec), "meta", initialise=False).state_dict()
    own = model.state_dict()
    missing = [f"{name} lost" for name in described if name not in own]
    added = [f"{name} added" for name in own if name not in described]
    different = [
        f"{name} {_type_text(own[name])}, in the spec {_type_text(tensor)}"
        for name, tensor in described.items()
        if name in own and not _fits(own[name], tensor)
    ]
    if changes := missing + added + different:
        more = f" and {len(changes) - 5} more" if len(changes) > 5 else ""
        raise WeightsError(
            path,
            f"the model was changed and is no longer what its spec describes: {'; '.join(changes[:5])}{more}; "
            "build it from a spec that says so, or save its state_dict() with torch.save",
        )


def refuse_other_function(
    parsed: ParsedSpec, checkpoint: Checkpoint, remedy: str, changed: Container[str] = ()
) -> None:
    """Check that weights which say of which model they are go into one that computes the same.

    Args:
        parsed: the model that they are to go into.
        checkpoint: the weights.
        remedy: what to do otherwise, for the message.
        changed: paths that were changed on purpose, ``"backbone.activation"``.

    Raises:
        SpecError: a parameter that matters is another one; initialisers, dropout and the size of the input do not.
    """
    if checkpoint.artifact is None:
        return
    try:
        saved = normalise(checkpoint.artifact.spec)
    except SpecError:
        return  # it needs what is not here; that its tensors fit is all that can be checked
    wanted = parsed.dump()
    problems = []
    for kind in saved:
        old, new = saved[kind] or {}, wanted[kind] or {}
        for key in dict.fromkeys([*old, *new]):
            free = key in ("init", "dropout", "size" if kind == "input" else "") or f"{kind}.{key}" in changed
            if not free and kind not in changed and old.get(key) != new.get(key):
                found = f"the weights were saved with {old.get(key)!r}, this is {new.get(key)!r}; {remedy}"
                problems.append(Problem(f"spec.{kind}.{key}", found))
    if problems:
        raise SpecError(problems)
