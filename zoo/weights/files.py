"""save and load: a model to a file of any format, and back."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Container
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch

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
from zoo.weights.casting import cast, cast_for_use
from zoo.weights.checkpoint import Artifact, Checkpoint
from zoo.weights.keymaps.keymap import refuse_keymap
from zoo.weights.migration.naming import named
from zoo.weights.migration.recognise import Comparison
from zoo.weights.reading import format_of, path_of, read, read_verified, told_by_graph
from zoo.weights.rebuilding import Composed, fits, rebuild, type_text
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
    dtype: str | torch.dtype | None = None,
    allow_lossy: bool = False,
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
        dtype: the precision of the floating-point tensors in the file, ``"bfloat16"``; the model's own unless given.
        allow_lossy: whether ``dtype`` may lose values that matter.

    Returns:
        The file to load: ``path``, or the index of several files.

    Raises:
        WeightsError: there is no such format, it takes no such option, the file cannot be written, or the model was
            changed so that its spec no longer describes it; what was there before is intact.
        LossyCastError: ``dtype`` would lose values that matter.
        UnknownNameError: there is no such dtype.
    """
    options = {
        "max_shard_size": max_shard_size,
        "weights": weights,
        "dynamic_size": dynamic_size,
        "opset": opset,
        "optimize": optimize,
    }
    if not isinstance(path, str | PathLike):
        raise WeightsError("", f"found {type(path).__name__!r} for the path; expected zoo.save(model, 'model.pt')")
    path = Path(path)
    format_of(path)
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    if not isinstance(model, Model):
        found = type(model).__name__
        raise WeightsError(path, f"found a {found!r} to save; expected a model made by zoo.build or zoo.load")
    described = Checkpoint.of(model)
    _refuse_unloadable(model, path)
    checkpoint = described.sealed()  # every byte is hashed: last
    if dtype is not None:
        checkpoint, _ = cast(checkpoint, dtype, allow_lossy=allow_lossy, path=path)
        checkpoint = replace(checkpoint, tensors=dict(checkpoint.tensors))
        model = rebuild(parse(model.spec), checkpoint, path)  # some formats write what it computes
    return write(model, checkpoint, path, **{name: value for name, value in options.items() if value is not None})


def load(
    path: str | PathLike[str],
    spec: Source | None = None,
    *,
    keymap: str | None = None,
    within: str | None = None,
    verify: bool | str = False,
    dtype: str | torch.dtype | None = None,
    allow_lossy: bool = False,
) -> Model:
    """Rebuild a model from a file, in evaluation mode.

    The model is built on the meta device and takes the tensors of the file as they are: nothing is initialised, and
    files are mapped, not read. An ONNX file from elsewhere, whose tensors may be folded and have any names, is laid
    beside the graph of the model, and proven; ``model.migration`` tells how.

    A file from elsewhere is recognised, and the account of it is ``model.migration``: the weights are found in the
    checkpoint of a training run, what wrappers put before the names is taken off, and the names of every keymap are
    tried. It is accepted only if its tensors are those of the model one to one, with every shape.

    Args:
        path: a file that :func:`save` wrote, or one from elsewhere.
        spec: what the file holds, where it does not say so itself: the name of a model, a spec, or a spec file.
        keymap: the library whose names the tensors have: ``"torchvision"``, ``"timm"``, or the name of a keymap that
            a plugin adds. Unless given, ours are tried and those of every keymap.
        within: which weights, where a file holds several: the place in a checkpoint, ``"ema"``, the beginning of the
            names, ``"teacher"``, or both, ``"state_dict.teacher"``.
        verify: True reads every byte into memory of our own and checks the fingerprint that the file carries; a
            fingerprint checks that one, too. False maps the file and checks its structure alone: bytes that changed on
            the disk are not noticed, and whoever edits or shortens the file in place changes the model or ends the
            process.
        dtype: the precision that the model is to have, ``"bfloat16"``; that of the file unless given.
        allow_lossy: whether ``dtype`` may lose values that matter.

    Raises:
        LossyCastError: with ``dtype`` a finite value would become infinite, or more than a thousandth of the nonzero
            values of a tensor would become zero.
        FingerprintError: ``verify`` found another fingerprint, or the file carries none.
        FileFormatError: the file is missing, damaged or of another kind.
        UnsafeFileError: it is a pickle that holds more than tensors.
        StalePairError: it is an ONNX graph whose weights are in a safetensors file that was replaced since.
        NotInvertibleError: it is an ONNX graph for inference alone.
        MissingSpecError: it does not say what it holds, and neither does ``spec``.
        MissingProviderError: it needs a component that is not installed here.
        KeymapError: the keymap cannot translate its tensors for this model.
        SeveralWeightsError: it holds several sets of weights.
        SeveralFitsError: its tensors fit in several ways that are not the same.
        AlignmentError: it is an ONNX graph from elsewhere, whose tensors have other names, and not one of this model.
        TensorMismatchError: its tensors are not those of the model.
        UnknownNameError: no model, keymap or dtype has this name.
        SizeBudgetError: the spec is that of a far larger model than the tensors are of.
        SpecError: the spec is wrong.
        SpecFileError: the spec file cannot be read.

    Warns:
        LockWarning: it was made with other versions of its providers than are installed here.
    """
    path = path_of(path)
    expected = verify if isinstance(verify, str) else None
    checkpoint = read_verified(path, expected, within=within) if verify else read(path, within=within)

    def casting(found: Checkpoint) -> Checkpoint:
        return found if dtype is None else cast_for_use(found, dtype, allow_lossy=allow_lossy, path=path)[0]

    return model_of(checkpoint, path, spec, keymap=keymap, finish=casting, mapped=not verify)


def model_of(
    checkpoint: Checkpoint,
    path: Path,
    spec: Source | None = None,
    *,
    keymap: str | None = None,
    finish: Callable[[Checkpoint], Checkpoint] = lambda checkpoint: checkpoint,
    mapped: bool = True,
) -> Model:
    """Build the model whose tensors a file holds around them, in evaluation mode.

    Args:
        checkpoint: what is in the file.
        path: the file, for errors.
        spec: what it holds, where it does not say so itself.
        keymap: the library whose names a file from elsewhere has; all are tried unless given.
        finish: what is to be done to the tensors once they have our names.
        mapped: whether tensors may stay in the file.

    Raises:
        MissingSpecError: it does not say what it holds, and neither does ``spec``.
        ZooError: all that :func:`load` raises.
    """
    if keymap is not None:
        refuse_keymap(checkpoint, keymap, path)
    if spec is not None:
        with opened(spec) as plain:
            parsed = parse(plain)
            refuse_other_function(parsed, checkpoint, "leave spec= out to have it as it was saved")
            return model_around(parsed, checkpoint, path, spec, keymap=keymap, finish=finish, mapped=mapped)
    checkpoint = finish(checkpoint)
    if checkpoint.artifact is not None:
        return rebuild(parse_artifact(checkpoint.artifact, path), checkpoint, path)
    raise MissingSpecError(path)


def model_around(
    parsed: ParsedSpec,
    checkpoint: Checkpoint,
    path: Path,
    spec: Source,
    *,
    keymap: str | None = None,
    finish: Callable[[Checkpoint], Checkpoint] = lambda checkpoint: checkpoint,
    mapped: bool = True,
) -> Model:
    """Build the model of a checked spec around the tensors of a file, which are recognised if zoo did not write it.

    Args:
        parsed: the checked spec.
        checkpoint: what is in the file.
        path: the file, for errors.
        spec: what was checked, for the account of it.
        keymap: the library whose names a file from elsewhere has; all are tried unless given.
        finish: what is to be done to the tensors once they have our names.
        mapped: whether tensors may stay in the file.

    Raises:
        ZooError: all that :func:`load` raises.
    """
    if checkpoint.artifact is not None:
        return rebuild(parsed, finish(checkpoint), path)
    # A graph may make its weights of nothing, so that the tensors of its file do not tell how large the model may be.
    composed = None if told_by_graph(path, keymap) else Composed.within(parsed, checkpoint, path)
    model = composed.model if composed is not None else None
    target = spec if isinstance(spec, str) else ""
    checkpoint, report = named(checkpoint, parsed, path, keymap, model=model, target=target, mapped=mapped)
    try:
        model = rebuild(parsed, finish(checkpoint), path, composed)
    except TensorMismatchError as error:
        if report.proven or composed is None:
            raise
        compared = Comparison(checkpoint, parsed, composed.model, path, keymap)
        raise error.advising(*compared.advice()) from None
    model.migration = report
    return model


def parse_artifact(artifact: Artifact, path: Path) -> ParsedSpec:
    """Return the checked spec that a file carries.

    Raises:
        MissingProviderError: it needs a component that is not installed here.
        SpecError: it is wrong.
    """
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


def _refuse_unloadable(model: Model, path: Path) -> None:
    """Check before writing that the spec still describes the model, for a file rebuilds it from its spec alone."""
    described = assemble(parse(model.spec), "meta", initialise=False).state_dict()
    own = model.state_dict()
    missing = [f"{name} lost" for name in described if name not in own]
    added = [f"{name} added" for name in own if name not in described]
    different = [
        f"{name} {type_text(own[name])}, in the spec {type_text(tensor)}"
        for name, tensor in described.items()
        if name in own and not fits(own[name], tensor)
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
    for kind in dict.fromkeys([*saved, *wanted]):
        old, new = _computing(saved.get(kind) or {}), _computing(wanted.get(kind) or {})
        replaced = old.get("type") != new.get("type")  # what another component takes cannot be compared
        for key in ["type"] if replaced else dict.fromkeys([*old, *new]):
            free = (kind == "input" and key == "size") or f"{kind}.{key}" in changed
            if not free and kind not in changed and old.get(key) != new.get(key):
                found = f"the weights were saved with {old.get(key)!r}, this is {new.get(key)!r}; {remedy}"
                problems.append(Problem(f"spec.{kind}.{key}", found))
    if problems:
        raise SpecError(problems)


def _computing(stated: Any) -> Any:
    """Return what a spec says without what has no part in what a model computes, within its parts too."""
    if not isinstance(stated, dict):
        return stated
    without = {"init", "dropout"} if "type" in stated else {"weight"} if "head" in stated else set()
    return {key: _computing(value) for key, value in stated.items() if key not in without}
