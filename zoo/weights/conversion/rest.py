"""rest_of: the model of a file without some of its parts, whether the file has those or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from zoo import kinds
from zoo.builder import assemble
from zoo.errors import MissingSpecError, TensorMismatchError, ZooError
from zoo.model import Model
from zoo.spec import ParsedSpec, Source, merge, opened, parse
from zoo.weights.checkpoint import Checkpoint, tied
from zoo.weights.files import parse_artifact, refuse_other_function
from zoo.weights.keymaps.keymap import refuse_keymap
from zoo.weights.migration.home import brought_home
from zoo.weights.migration.recognise import Comparison
from zoo.weights.rebuilding import rebuild
from zoo.weights.transfer.changes import Changes
from zoo.weights.transfer.transfer import part_of


class Rest(NamedTuple):
    """What a file gives of a model without some of its parts.

    Attributes:
        model: the model without them, in evaluation mode.
        whole: the spec with them.
        left_out: the tensors of theirs that the file has, by our names; what has none is told by ``model.migration``.
    """

    model: Model
    whole: Mapping[str, Any]
    left_out: tuple[str, ...] = ()


def rest_of(
    checkpoint: Checkpoint, path: Path, spec: Source | None, without: Sequence[str], keymap: str | None = None
) -> Rest:
    """Build the model of a file without some of its parts, of which nothing is taken.

    Args:
        checkpoint: what is in the file.
        path: the file.
        spec: what it holds, those parts included, where it does not say so itself.
        without: the parts; what is behind one of them in the model has to be among them.
        keymap: the library whose names a file from elsewhere has; all are tried unless given.

    Raises:
        MissingSpecError: neither the file nor ``spec`` says of which model it is.
        ZooError: the backbone is among the parts, or not all that is behind one; or as :func:`zoo.load`.
    """
    if keymap is not None:
        refuse_keymap(checkpoint, keymap, path)
    if spec is not None:
        with opened(spec) as plain:
            whole = parse(plain)
            rest = parse(_remaining(whole.dump(), without))
            if checkpoint.artifact is None:
                return _from_elsewhere(checkpoint, path, whole, rest, spec, keymap)
            refuse_other_function(rest, checkpoint, "leave spec= out to have it as it was saved", without)
            return _of_ours(checkpoint, path, rest, whole.dump())
    if checkpoint.artifact is None:
        raise MissingSpecError(path)
    told = checkpoint.artifact.spec
    alone = checkpoint.artifact.model_copy(update={"spec": _remaining(told, without)})
    return _of_ours(checkpoint, path, parse_artifact(alone, path), told)


def _remaining(whole: Mapping[str, Any], without: Sequence[str]) -> dict[str, Any]:
    """Return a spec without these parts.

    Raises:
        ZooError: the backbone is among them, or not all that is behind one.
    """
    if "backbone" in without:
        rest = ", ".join(kinds.SECTIONS[1:])
        raise ZooError(f"found without={[*without]!r}; no model can be without a backbone; expected {rest}")
    parts = [kind for kind in kinds.PARTS if whole.get(kind) is not None]
    needed = parts[next((number for number, kind in enumerate(parts) if kind in without), len(parts)) :]
    aux = whole.get(kinds.AUX)  # a file may say anything: that it is a spec is found later
    stated = (
        [each.get("feature") for each in aux.values() if isinstance(each, Mapping)] if isinstance(aux, Mapping) else []
    )
    if any(str(feature).partition(".")[0] in needed for feature in stated):
        needed.append(kinds.AUX)
    behind = [kind for kind in needed if kind not in without]
    if behind:
        options = " ".join(f"--without {kind}" for kind in needed)
        raise ZooError(
            f"found without={[*without]!r}; the {' and the '.join(behind)} would take something else than before; "
            f"expected all from there on: without={needed!r} ({options})"
        )
    return merge(whole, dict.fromkeys(without))


def _of_ours(checkpoint: Checkpoint, path: Path, rest: ParsedSpec, whole: Mapping[str, Any]) -> Rest:
    kept, left_out = _divided(checkpoint, rest, whole)
    model = rebuild(rest, kept, path)
    if left_out:
        model.record = None  # of the whole model, whose labels and metrics are not this one's
    return Rest(model, whole, left_out)


def _from_elsewhere(
    checkpoint: Checkpoint, path: Path, whole: ParsedSpec, rest: ParsedSpec, spec: Source, keymap: str | None
) -> Rest:
    before, after = whole.dump(), rest.dump()
    gone = {kind: None for kind in kinds.SECTIONS if before.get(kind) != after.get(kind)}
    specs = [rest, whole] if gone else [rest]
    home = brought_home(checkpoint, path, specs, Changes.between(before, after, [gone]), keymap)
    kept, left_out = _divided(home.checkpoint, rest, before)
    try:
        model = rebuild(rest, kept, path)
    except TensorMismatchError as error:
        if home.report is not None:
            raise
        described = assemble(whole, "meta", initialise=False)
        raise error.advising(*Comparison(checkpoint, whole, described, path, keymap).advice()) from error
    model.migration = home.report
    if home.report is not None and isinstance(spec, str):
        model.migration = replace(home.report, target=f"{spec} ({home.report.target})")
    return Rest(model, before, left_out)


def _divided(checkpoint: Checkpoint, rest: ParsedSpec, whole: Mapping[str, Any]) -> tuple[Checkpoint, tuple[str, ...]]:
    """Return a checkpoint without the tensors of parts that a model has no more, and their names."""
    after = rest.dump()
    gone = {kind for kind in kinds.SECTIONS if whole.get(kind) is not None and after.get(kind) is None}
    state = checkpoint.state_dict()
    kept = {name: tensor for name, tensor in state.items() if part_of(name) not in gone}
    if len(kept) == len(state):
        return checkpoint, ()
    aliases = tied(kept)
    tensors = {name: tensor for name, tensor in kept.items() if name not in aliases}
    divided = Checkpoint(tensors, aliases, checkpoint.artifact, order=tuple(kept), unwrapping=checkpoint.unwrapping)
    return divided, tuple(name for name in state if name not in kept)
