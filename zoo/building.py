"""build: the front door; a name or a spec, with changes and weights, becomes a model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import reduce
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from registry import canonical, nearest
from zoo import kinds
from zoo.builder import assemble, compose
from zoo.changing import AS_IT_IS, Change, stated_changes
from zoo.errors import (
    FileFormatError,
    FingerprintError,
    SpecError,
    TensorMismatchError,
    UnknownNameError,
    ZooError,
)
from zoo.model import Model
from zoo.spec import ParsedSpec, Source, merge, normalise, opened, parse
from zoo.weights.checkpoint import Checkpoint
from zoo.weights.files import refuse_other_function
from zoo.weights.keymaps.keymap import refuse_keymap
from zoo.weights.migration.home import brought_home
from zoo.weights.migration.recognise import Comparison
from zoo.weights.reading import format_name, path_of, read, read_verified
from zoo.weights.transfer.changes import ASKED, Changes, stated_parts
from zoo.weights.transfer.transfer import part_of, transfer

_TAKES = "the name of trained ones, 'digits', or the path of a weights file"


def build(
    spec: Source,
    *,
    weights: str | PathLike[str] | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    input: Change = AS_IT_IS,
    backbone: Change = AS_IT_IS,
    neck: Change = AS_IT_IS,
    bottleneck: Change = AS_IT_IS,
    head: Change = AS_IT_IS,
    aux: Mapping[str, Any] | None = AS_IT_IS,
    fresh: str | Iterable[str] = (),
    keymap: str | None = None,
    within: str | None = None,
) -> Model:
    """Build a model.

    Trained weights go into a changed model, too: what is not changed is kept, and has to fit; of a part that this call
    changes, a tensor that fits is kept and one that does not starts anew, by the component's own initialiser; a part
    that becomes another component starts anew altogether. With another number of input channels the first convolution
    is adapted: summed for one channel, repeated and scaled for more. ``model.transfer`` tells all of it.

    Args:
        spec: the name of a model, a spec dict, or a spec file: ``.json``, ``.toml``, ``.yaml`` or ``.yml``.
        weights: trained weights: their name (``"digits"``), or a file. None gives fresh ones. A file from elsewhere is
            recognised as by :func:`zoo.load`, and ``model.migration`` tells how.
        num_classes: short for ``head={"num_classes": …}``, and the same for auxiliary heads that state theirs.
        in_channels: short for ``input={"channels": …}``.
        input: changes to what the model takes.
        backbone: changes to this part: parameters to merge, another component's name, or a dict with another
            ``type``, which replaces the part. The name that it has already changes nothing.
        neck: the same; None removes the part.
        bottleneck: the same; None removes the part.
        head: the same; None removes the part, and the model returns features.
        aux: changes to auxiliary heads by name; None removes all of them.
        fresh: parts that take nothing from ``weights``, ``"head"`` or several: for other classes of the same number, or
            because a part before them changed.
        keymap: the library whose names a file from elsewhere has; all are tried unless given.
        within: which weights, where a file holds several, as for :func:`zoo.load`.

    Returns:
        The model: in training mode if any of its weights are fresh, in evaluation mode if all are trained ones.

    Raises:
        UnknownNameError: there is no such model, or there are no such weights for it.
        SpecError: a name or a parameter in the spec is wrong; all problems are told at once. Or a short form and a
            change contradict each other.
        SpecFileError: the spec file cannot be read.
        ShapeError: two parts do not fit; no weight was allocated.
        SizeBudgetError: the model would be larger than the memory of this machine, or than ``ZOO_MAX_BYTES`` or
            ``ZOO_MAX_TENSORS`` say; no weight was allocated.
        WeightsError: the weights cannot be read or do not fit; an AlignmentError if they are an ONNX graph from
            elsewhere that is of the model neither with these changes nor without.

    >>> model = build("lenet", num_classes=62)
    >>> sum(p.numel() for p in model.parameters())
    66126
    >>> model = build("lenet", weights="digits", num_classes=62)
    >>> [change.name for change in model.transfer.reinitialised], len(model.transfer.kept), model.training
    (['head.fc.weight', 'head.fc.bias'], 8, True)
    """
    fresh = _parts(fresh, weights)
    if weights is None and (keymap, within) != (None, None):
        raise ZooError(f"found {keymap=}, {within=} without weights; they say how a file is to be read: weights=…")
    stated = {"input": input, "backbone": backbone, "neck": neck, "bottleneck": bottleneck, "head": head, "aux": aux}
    with opened(spec) as plain:
        changes = stated_changes(plain, stated, num_classes=num_classes, in_channels=in_channels)
        merged = reduce(merge, changes, plain)
        if weights is None:
            return compose(merged)
        path, checkpoint = _weights(spec, weights, within)
        if keymap is not None:
            refuse_keymap(checkpoint, keymap, path)
        parsed = parse(merged)
        intended = Changes.between(_spec_of(checkpoint, plain), parsed.dump(), changes, fresh)
        refuse_other_function(parsed, checkpoint, "say so in the call, or use zoo.load", intended.places)
        if checkpoint.artifact is not None:
            return transfer(parsed, checkpoint, path, intended)
        home = brought_home(checkpoint, path, list(_specs(parsed, plain)), intended, keymap)
        if home.other is not None:
            intended = Changes.between(home.other.dump(), parsed.dump(), changes, fresh)
        try:
            model = transfer(parsed, home.checkpoint, path, intended)
        except TensorMismatchError as error:
            if home.report is not None:
                raise
            model = assemble(parsed, "meta", initialise=False)
            raise error.advising(*Comparison(checkpoint, parsed, model, path, keymap).advice()) from error
        told = home.report
        if told is not None and isinstance(spec, str):
            told = replace(told, target=f"{spec} ({told.target})")
        if told is not None and model.transfer is not None:
            unlike = (*model.transfer.adapted, *model.transfer.reinitialised, *model.transfer.dropped)
            reasons = (f"a new {part_of(each.name)}" if each.reason == ASKED else each.reason for each in unlike)
            told = replace(told, changed=tuple(dict.fromkeys(reasons)))
        model.migration = told
        return model


def _specs(parsed: ParsedSpec, plain: Mapping[str, Any]) -> Iterator[ParsedSpec]:
    yield parsed
    with suppress(SpecError):  # it needs the changes to be complete
        before = parse(plain)
        if before.dump() != parsed.dump():
            yield before


def _parts(fresh: str | Iterable[str], weights: object) -> tuple[str, ...]:
    names = stated_parts(fresh, "fresh")
    if names and weights is None:
        raise ZooError(
            f"found fresh={list(names)!r} without weights; expected weights=…, or none of both: all is fresh"
        )
    return names


def _spec_of(checkpoint: Checkpoint, plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spec that weights are of: what they say or, if they do not, what was built before it was changed."""
    try:
        return normalise(checkpoint.artifact.spec if checkpoint.artifact else plain)
    except SpecError:
        return {}  # it needs what is not here, or needs the changes to be complete


def weights_of(model: str) -> dict[str, str]:
    """Return the trained weights that are installed for a named model: short name → registered name.

    >>> weights_of("lenet")
    {'digits': 'lenet.digits'}
    """
    short = model.rpartition(":")[2]
    return {name[len(short) + 1 :]: name for name in kinds.pretrained.names(f"{short}.*")}


def _weights(spec: Source, weights: str | PathLike[str], within: str | None) -> tuple[Path, Checkpoint]:
    text = fspath(path_of(weights, _TAKES, "weights"))
    if format_name(text) in kinds.formats:
        return Path(text), read(text, within=within)
    if within is not None:
        raise ZooError(
            f"found {within=} with the weights {text!r}; it says which of a file, and these are of one model"
        )
    if text in kinds.pretrained:
        return _verified(kinds.pretrained.get(text))
    installed = weights_of(spec) if isinstance(spec, str) else {}
    for short, registered in installed.items():
        if canonical(short) == canonical(text):
            return _verified(kinds.pretrained.get(registered))
    known = tuple(installed) or tuple(kinds.pretrained.names())
    hint = f"; a file ends in {', '.join(f'.{suffix}' for suffix in kinds.formats.names())}"
    elsewhere = kinds.elsewhere("weights", text)
    raise UnknownNameError("weights", text, known, nearest(text, known), hint, elsewhere)


def _verified(shipped: kinds.Pretrained) -> tuple[Path, Checkpoint]:
    path = _checked(shipped)
    try:
        return path, read_verified(path)
    except FingerprintError as error:
        if error.expected is not None:
            raise
        return path, read(path, mapped=False)  # written before files had fingerprints; its hash was right


def _checked(shipped: kinds.Pretrained) -> Path:
    try:
        digest = hashlib.sha256(shipped.path.read_bytes()).hexdigest()
    except OSError as error:
        raise FileFormatError(shipped.path, f"cannot be read: {error.strerror}") from error
    if digest != shipped.sha256:
        raise FileFormatError(shipped.path, f"its SHA-256 is {digest}; expected {shipped.sha256}: install it again")
    return shipped.path
