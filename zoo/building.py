"""build: the front door; a name or a spec, with changes and weights, becomes a model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import reduce
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final

from registry import canonical, nearest
from zoo import kinds
from zoo.builder import compose
from zoo.errors import FileFormatError, FingerprintError, UnknownNameError
from zoo.model import Model
from zoo.spec import Source, merge, opened, parse
from zoo.weights.checkpoint import Checkpoint
from zoo.weights.files import refuse_other_function
from zoo.weights.reading import read, read_verified
from zoo.weights.rebuilding import rebuild

Change = Mapping[str, Any] | str | None
"""What a part becomes: parameters to merge, the name of another component, or None for no such part."""

_AS_IT_IS: Final[Any] = object()


def build(
    spec: Source,
    *,
    weights: str | PathLike[str] | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    input: Change = _AS_IT_IS,
    backbone: Change = _AS_IT_IS,
    neck: Change = _AS_IT_IS,
    bottleneck: Change = _AS_IT_IS,
    head: Change = _AS_IT_IS,
    aux: Mapping[str, Any] | None = _AS_IT_IS,
) -> Model:
    """Build a model.

    Args:
        spec: the name of a model, a spec dict, or a spec file: ``.json``, ``.toml``, ``.yaml`` or ``.yml``.
        weights: trained weights: their name (``"digits"``), or a file. None gives fresh ones.
        num_classes: short for ``head={"num_classes": …}``, and the same for auxiliary heads that state theirs.
        in_channels: short for ``input={"channels": …}``.
        input: changes to what the model takes.
        backbone: changes to this part: parameters to merge, another component's name, or a dict with another
            ``type``, which replaces the part.
        neck: the same; None removes the part.
        bottleneck: the same; None removes the part.
        head: the same; None removes the part, and the model returns features.
        aux: changes to auxiliary heads by name; None removes all of them.

    Returns:
        The model: in training mode with fresh weights, in evaluation mode with trained ones.

    Raises:
        UnknownNameError: there is no such model, or there are no such weights for it.
        SpecError: a name or a parameter in the spec is wrong; all problems are told at once.
        SpecFileError: the spec file cannot be read.
        ShapeError: two parts do not fit; no weight was allocated.
        SizeBudgetError: the model would be larger than the memory of this machine, or than ``ZOO_MAX_BYTES`` or
            ``ZOO_MAX_TENSORS`` say; no weight was allocated.
        WeightsError: the weights cannot be read or do not fit.

    >>> model = build("lenet", num_classes=62)
    >>> sum(p.numel() for p in model.parameters())
    66126
    """
    stated = {"input": input, "backbone": backbone, "neck": neck, "bottleneck": bottleneck, "head": head, "aux": aux}
    changes = [{kind: change for kind, change in stated.items() if change is not _AS_IT_IS}]
    if in_channels is not None:
        changes.append({"input": {"channels": in_channels}})
    with opened(spec) as plain:
        if num_classes is not None:
            changes.append(_of_classes(reduce(merge, changes, plain), num_classes))
        merged = reduce(merge, changes, plain)
        if weights is None:
            return compose(merged)
        path, checkpoint = _weights(spec, weights)
        parsed = parse(merged)
        on_purpose = {
            place
            for change in changes
            for kind, what in change.items()
            for place in ([f"{kind}.{key}" for key in what] if isinstance(what, Mapping) else [kind])
        }
        refuse_other_function(parsed, checkpoint, "say so in the call, or use zoo.load", on_purpose)
        return rebuild(parsed, checkpoint, path)


def _of_classes(spec: Mapping[str, Any], num_classes: int) -> dict[str, Any]:
    """Return the changes that give every head of a spec another number of classes."""
    aux = {
        name: {"head": {"num_classes": num_classes}}
        for name, each in (spec.get(kinds.AUX) or {}).items()
        if isinstance(each, Mapping) and "num_classes" in (each.get("head") or ())
    }
    return {"head": {"num_classes": num_classes}, **({kinds.AUX: aux} if aux else {})}


def weights_of(model: str) -> dict[str, str]:
    """Return the trained weights that are installed for a named model: short name → registered name.

    >>> weights_of("lenet")
    {'digits': 'lenet.digits'}
    """
    short = model.rpartition(":")[2]
    return {name[len(short) + 1 :]: name for name in kinds.pretrained.names(f"{short}.*")}


def _weights(spec: Source, weights: str | PathLike[str]) -> tuple[Path, Checkpoint]:
    text = fspath(weights)
    if Path(text.removesuffix(".index.json")).suffix.removeprefix(".") in kinds.formats:
        return Path(text), read(text)
    if text in kinds.pretrained:
        return _verified(kinds.pretrained.get(text))
    installed = weights_of(spec) if isinstance(spec, str) else {}
    for short, registered in installed.items():
        if canonical(short) == canonical(text):
            return _verified(kinds.pretrained.get(registered))
    known = tuple(installed) or tuple(kinds.pretrained.names())
    hint = f"; a file ends in {', '.join(f'.{suffix}' for suffix in kinds.formats.names())}"
    raise UnknownNameError("weights", text, known, nearest(text, known), hint)


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
