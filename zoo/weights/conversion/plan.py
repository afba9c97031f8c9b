"""The plan of a conversion: which file becomes which, and what the new one is to hold; nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import kinds
from zoo.builder import assemble
from zoo.errors import KeymapError, MissingSpecError, WeightsError, ZooError
from zoo.model import Model
from zoo.spec import Source, parse
from zoo.weights.casting import CastReport, cast
from zoo.weights.checkpoint import Checkpoint
from zoo.weights.conversion.rest import rest_of
from zoo.weights.files import model_of
from zoo.weights.fingerprint import fingerprint_of
from zoo.weights.migration.report import MigrationReport
from zoo.weights.reading import format_of, read
from zoo.weights.safetensors.shards import INDEX

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Places:
    """Which file becomes which, checked as far as names tell.

    Attributes:
        source: the file to read.
        target: the file to write.
        options: what the format of the target is told besides.
    """

    source: Path
    target: Path
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def checked(cls, source: str | PathLike[str], target: str | PathLike[str], options: Mapping[str, Any]) -> Places:
        """Return them.

        Raises:
            WeightsError: one is no file, both are the same, the folder of the target does not exist, or the twin of an
                ONNX file is to be elsewhere.
            FileFormatError: the suffix of the target names no format.
        """
        for path, role in ((source, "source"), (target, "target")):
            if fspath(path) == "-":
                raise WeightsError(path, f"files only: found '-' as the {role}; expected the path of a file")
        found = cls(Path(source), Path(target), options)
        if found.source.is_dir():
            raise WeightsError(source, f"is a folder; name the files in it: {found.source}/*")
        format_of(found.source)
        format_of(found.target)
        if found.target.is_dir():
            raise WeightsError(target, f"is a folder; name the file: {found.target / found.source.stem}.safetensors")
        if not found.target.parent.is_dir():
            raise WeightsError(target, f"there is no folder {found.target.parent}; make it first")
        if found.source.exists() and found.target.exists() and found.source.samefile(found.target):
            raise WeightsError(target, f"is the source itself ({found.source}); give the target another name")
        twin = found.twin
        if twin is not None and twin.parent.resolve() != found.target.parent.resolve():
            raise WeightsError(twin, f"expected in the folder of {found.target}, which refers to it by its name alone")
        return found

    @property
    def twin(self) -> Path | None:
        """The file beside an ONNX graph that is to hold its tensors."""
        return self.target.parent / self.options["weights"] if "weights" in self.options else None

    @property
    def results(self) -> list[Path]:
        """The files that the target may be found in: several files have an index."""
        return [self.target, self.target.with_name(f"{self.target.stem}{INDEX}")]

    def refuse_existing(self) -> None:
        """Refuse, before anything is read, what would replace a file.

        Raises:
            WeightsError: there is one.
        """
        places = self.results if "max_shard_size" in self.options else [self.target]
        for place in [*places, *([self.twin] if self.twin else [])]:
            refuse_existing(place)


@dataclass(frozen=True)
class Names:
    """Whose names the tensors have before and after, and which tensors of the source are meant.

    Attributes:
        keymap: the library whose names a source from elsewhere has; all are tried unless given.
        to_keymap: the library whose names the target is to have; ours unless given.
        within: which weights, where the source holds several.
        without: parts of the model that the target is to lack.
    """

    keymap: str | None = None
    to_keymap: str | None = None
    within: str | None = None
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A source that was read and what its target is to hold; nothing is written yet.

    Attributes:
        places: which file becomes which.
        before: what the source holds.
        after: what the target is to hold.
        model: the model around the tensors; None of a source without a spec.
        casts: what the change of dtype did, or None.
        migration: how a source from elsewhere was recognised.
        left_out: tensors of the source that are of parts which the target is to lack.
    """

    places: Places
    before: Checkpoint
    after: Checkpoint
    model: Model | None
    casts: CastReport | None
    migration: MigrationReport | None = None
    left_out: tuple[str, ...] = ()

    @cached_property
    def nbytes(self) -> int:
        """How many bytes the tensors of the target have."""
        return sum(self.after.tensors[name].nbytes for name in self.after.tensors)

    @cached_property
    def claimed(self) -> str | None:
        """The fingerprint that the source carries, if the target is to have the same tensors."""
        told, other = self.before.artifact, self.after.artifact
        unchanged = told is not None and other is not None and told.fingerprint == other.fingerprint
        return told.fingerprint if told is not None and unchanged else None

    def sealed(self) -> Plan:
        """Return the same plan, its artifact with a fingerprint: the claimed one, or the one that is found."""
        artifact = self.after.artifact
        if artifact is None:
            return self
        fingerprint = artifact.fingerprint or self.after.fingerprint
        return replace(
            self, after=replace(self.after, artifact=artifact.model_copy(update={"fingerprint": fingerprint}))
        )

    def is_done(self) -> bool:
        """Tell whether the target is there already and holds just this; every byte of it is read."""
        for place in self.places.results:
            if place.is_file():
                try:
                    found = read(place)
                except ZooError:
                    return False
                plan = self.sealed()
                return described(found) == described(plan.after) and content_of(found) == plan.expected
        return False

    @cached_property
    def expected(self) -> str:
        """What :func:`content_of` the target has to be."""
        artifact = self.after.artifact
        return artifact.fingerprint if artifact and artifact.fingerprint else content_of(self.after)


def prepare(
    places: Places,
    *,
    spec: Source | None,
    dtype: torch.dtype | str | None,
    allow_lossy: bool,
    names: Names = Names(),
) -> Plan:
    """Read a source and tell what its target is to hold.

    Raises:
        KeymapError: the tensors cannot have the names of the other library, or the target is no plain state dict.
        MissingSpecError: the target needs the model, and nobody says which it is.
        ZooError: all that :func:`zoo.load` raises.
    """
    before = read(places.source, within=names.within)
    needs_model = getattr(format_of(places.target), "needs_model", False)
    told, model, rest = before, None, None
    if names.without:
        rest = rest_of(before, places.source, spec, names.without, names.keymap)
        model = rest.model
    elif spec is not None or before.artifact is not None:
        model = model_of(before, places.source, spec, keymap=names.keymap)
    if model is not None:
        told = _described_by(model, before, whole=rest is None)
    elif needs_model:
        why = f"carries no spec, and {places.target.suffix} needs the model, not its tensors"
        raise MissingSpecError(places.source, why)
    elif names.keymap is not None or names.to_keymap is not None:
        raise MissingSpecError(places.source)
    if names.to_keymap is not None and model is not None:
        told = _in_their_names(model, names.to_keymap, places.target, needs_model, rest and rest.whole)
    migration = model.migration if model is not None else None
    casts = None
    if dtype is not None:
        told, casts = cast(told, dtype, allow_lossy=allow_lossy, path=places.source)
        # The tensors are cast when they are written; a model around them would have to hold them all.
        model = model_of(told, places.source) if needs_model else None
    if told.artifact is None and told.aliases:
        # Nobody would know of aliases: each name gets its tensor, and a format that can keep them one does.
        tensors = told.state_dict()
        told = Checkpoint(tensors, order=tuple(tensors))
    return Plan(places, before, told, model, casts, migration, rest.left_out if rest is not None else ())


def _in_their_names(
    model: Model, keymap: str, target: Path, needs_model: bool, whole: Mapping[str, Any] | None
) -> Checkpoint:
    """Return the tensors of a model as a plain state dict of another library.

    Args:
        model: the model.
        keymap: the library.
        target: the file, for errors.
        needs_model: whether its format needs one.
        whole: the spec of which the model is a part; a library may have names for no less than that.
    """
    if needs_model:
        raise KeymapError(keymap, f"{target.suffix} holds a model, not a state dict; that goes into .pth", path=target)
    library = kinds.keymaps.get(keymap)
    try:
        try:
            theirs = library.to_theirs(model)
        except KeymapError as error:
            if whole is None or error.problems:  # it has a table for just this
                raise
            rest = assemble(parse(whole), "meta", initialise=False).state_dict() | model.state_dict()
            theirs = {name: each for name, each in library.to_theirs(rest, whole).items() if not each.is_meta}
    except KeymapError as error:
        raise KeymapError(error.keymap, error.reason, error.problems, target) from error
    return Checkpoint(theirs, order=tuple(theirs))


def _described_by(model: Model, before: Checkpoint, *, whole: bool) -> Checkpoint:
    """Return the checkpoint of a model whose source said more of it than a model knows."""
    after, told = Checkpoint.of(model), before.artifact
    if told is None or after.artifact is None:
        return after
    lock = {name: version for name, version in told.lock.items() if whole or name in model.lock}
    history: dict[str, Any] = {"lock": lock, "casts": told.casts}
    if after.tensors.keys() == before.tensors.keys() and after.aliases == before.aliases:
        history["fingerprint"] = told.fingerprint
    return replace(after, artifact=after.artifact.model_copy(update=history))


def content_of(checkpoint: Checkpoint) -> str:
    """Return the fingerprint of a checkpoint; without an artifact, as if nothing were tied."""
    if checkpoint.artifact is None and checkpoint.aliases:
        return fingerprint_of(checkpoint.state_dict(), {})
    return checkpoint.fingerprint


def described(checkpoint: Checkpoint) -> Mapping[str, Any] | None:
    """Return what a file says of its tensors; not of inputs and outputs, which are told as they were exported."""
    return checkpoint.artifact.model_dump(exclude={"inputs", "outputs"}) if checkpoint.artifact else None


def refuse_existing(place: Path) -> None:
    """Refuse to replace a file.

    Raises:
        WeightsError: it exists.
    """
    if place.exists():
        raise WeightsError(place, "exists already; to replace it: force=True (zoo convert --force)")
