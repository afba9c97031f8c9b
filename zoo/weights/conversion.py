"""convert: a weights file to another format, every tensor read back before the new file takes its place."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import FingerprintError, MissingSpecError, WeightsError, ZooError
from zoo.model import Model
from zoo.spec import Source
from zoo.weights.checkpoint import Checkpoint
from zoo.weights.durable import flush, publish, staging
from zoo.weights.files import model_of
from zoo.weights.fingerprint import fingerprint_of
from zoo.weights.parity import compare
from zoo.weights.progress import Progress, watching
from zoo.weights.reading import format_of, read
from zoo.weights.shards import INDEX, remove_unlisted
from zoo.weights.writing import write

if TYPE_CHECKING:
    import torch

_NOT_WRITTEN = "was not written, the disk or the memory may be at fault"


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion did.

    Attributes:
        source: the file that was read.
        target: the file to load: the one that was asked for, or the index of several.
        source_format: ``"pt"``.
        target_format: ``"safetensors"``.
        tensors: how many tensors, tied ones counted once.
        bytes: how many bytes they have in the target.
        fingerprint: that of the target; None where neither file says one and nothing was verified.
        casts: what the change of dtype did to each tensor; None without ``dtype``.
        verified: whether every tensor was read back and compared.
        seconds: how long it took.
    """

    source: str
    target: str
    source_format: str
    target_format: str
    tensors: int
    bytes: int
    fingerprint: str | None
    casts: Any
    verified: bool
    seconds: float

    def __str__(self) -> str:
        proof = f"verified, {_short(self.fingerprint)}" if self.verified else "not verified"
        lines = [f"{self.source} → {self.target}: {self.tensors} tensors, {self.bytes:,} bytes, {proof}"]
        return "\n".join([*lines, *([str(self.casts)] if self.casts is not None else [])])


def convert(
    source: str | PathLike[str],
    target: str | PathLike[str],
    *,
    spec: Source | None = None,
    dtype: torch.dtype | str | None = None,
    allow_lossy: bool = False,
    max_shard_size: int | str | None = None,
    weights: str | PathLike[str] | None = None,
    dynamic_size: bool | None = None,
    opset: int | None = None,
    verify: bool = True,
    force: bool = False,
    progress: Progress | None = None,
) -> ConversionReport:
    """Write what a weights file holds to a file of another format, bit for bit, one tensor at a time.

    The target is what ``zoo.save(zoo.load(source), target)`` would write, byte for byte, but for the lock: it says
    what the model was made with, so that of the source stays. A source without a spec stays one: its tensors go from
    ``.pt`` to ``.safetensors`` and back without a model, under their own names; tensors that were tied are written
    under each name where the format has no other way to say so.

    Args:
        source: the file to read, or the index of several.
        target: the file to write; its suffix chooses the format.
        spec: what the source holds, where it does not say so itself; the target then says it.
        dtype: what the floating-point tensors become, ``torch.float16`` or ``"float16"``; as they are unless given.
        allow_lossy: whether a change of ``dtype`` may lose more than precision.
        max_shard_size: safetensors: the most bytes of tensors in one file, ``"2GB"``.
        weights: ONNX: a ``.safetensors`` file in the folder of the target, which holds the tensors for both.
        dynamic_size: ONNX: whether height and width may vary.
        opset: ONNX: the version of the operator set.
        verify: True reads every tensor back and compares it with the source, and the source with the fingerprint that
            it carries, before the target takes its place.
        force: whether files that exist may be replaced.
        progress: called now and then, from another thread, with how many bytes of how many are written.

    Returns:
        What was done.

    Raises:
        WeightsError: source and target are one file, the target exists, its folder does not, it cannot be written, or
            reading it back gave something else; what was there before is intact.
        FingerprintError: the tensors of the source are not those that its fingerprint was made of.
        MissingSpecError: the target needs the model, and neither the source nor ``spec`` says which it is.
        ZooError: all that :func:`zoo.load` and :func:`zoo.save` raise.

    Warns:
        LockWarning: the source was made with other versions of its providers than are installed here.

    >>> import zoo
    >>> path = zoo.save(zoo.build("lenet", weights="digits"), "lenet.pt")
    >>> print(zoo.convert(path, "lenet.safetensors"))
    lenet.pt → lenet.safetensors: 10 tensors, 246,824 bytes, verified, sha256:...
    """
    started = time.perf_counter()
    options = {"max_shard_size": max_shard_size, "weights": weights, "dynamic_size": dynamic_size, "opset": opset}
    places = Places.checked(source, target, {n: value for n, value in options.items() if value is not None})
    if not force:
        places.refuse_existing()
    plan = prepare(places, spec=spec, dtype=dtype, allow_lossy=allow_lossy)
    written, fingerprint = _carry_out(plan, verify=verify, force=force, progress=progress)
    return plan.report(written, fingerprint, verified=verify, seconds=time.perf_counter() - started)


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
        format_of(found.source)
        format_of(found.target)
        if found.target.is_dir():
            raise WeightsError(target, f"is a folder; name the file: {found.target / found.source.stem}.safetensors")
        if not found.target.parent.is_dir():
            raise WeightsError(target, f"there is no folder {found.target.parent}; make it first")
        if found.source.exists() and found.target.exists() and found.source.samefile(found.target):
            raise WeightsError(target, f"is the source itself ({found.source}); give the target another name")
        twin = found.options.get("weights")
        if twin is not None and Path(twin).resolve().parent != found.target.resolve().parent:
            raise WeightsError(twin, f"expected in the folder of {found.target}, which refers to it by its name alone")
        return found

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
        for place in [*places, *([Path(self.options["weights"])] if "weights" in self.options else [])]:
            _refuse_existing(place)


@dataclass(frozen=True)
class Plan:
    """A source that was read and what its target is to hold; nothing is written yet.

    Attributes:
        places: which file becomes which.
        before: what the source holds.
        after: what the target is to hold.
        model: the model around the tensors; None of a source without a spec.
        casts: what the change of dtype did, or None.
    """

    places: Places
    before: Checkpoint
    after: Checkpoint
    model: Model | None
    casts: Any

    @cached_property
    def claimed(self) -> str | None:
        """The fingerprint that the source carries, if the target is to have the same tensors."""
        same = self.casts is None and self.after.tensors.keys() == self.before.tensors.keys()
        told = self.before.artifact
        return told.fingerprint if told and same and self.after.aliases == self.before.aliases else None

    def sealed(self) -> Plan:
        """Return the same plan, its artifact with a fingerprint: the claimed one, or the one that is found."""
        artifact = self.after.artifact
        if artifact is None:
            return self
        fingerprint = self.claimed or self.after.fingerprint
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
                return _described(found) == _described(plan.after) and content_of(found) == plan.expected
        return False

    @cached_property
    def expected(self) -> str:
        """What :func:`content_of` the target has to be."""
        artifact = self.after.artifact
        return artifact.fingerprint if artifact and artifact.fingerprint else content_of(self.after)

    def report(self, written: Path, fingerprint: str | None, *, verified: bool, seconds: float) -> ConversionReport:
        """Tell what was done."""
        tensors = self.after.tensors
        return ConversionReport(
            source=str(self.places.source),
            target=str(written),
            source_format=_format_name(self.places.source),
            target_format=_format_name(self.places.target),
            tensors=len(tensors),
            bytes=sum(tensor.nbytes for tensor in tensors.values()),
            fingerprint=fingerprint,
            casts=self.casts,
            verified=verified,
            seconds=seconds,
        )


def prepare(places: Places, *, spec: Source | None, dtype: torch.dtype | str | None, allow_lossy: bool) -> Plan:
    """Read a source and tell what its target is to hold.

    Raises:
        MissingSpecError: the target needs the model, and nobody says which it is.
        ZooError: all that :func:`zoo.load` raises.
    """
    before = read(places.source)
    told, casts = before, None
    if dtype is not None:
        told, casts = import_module("zoo.weights.casting").cast(before, dtype, allow_lossy=allow_lossy)
    if spec is None and told.artifact is None:
        if getattr(format_of(places.target), "needs_model", False):
            remedy = "say what the source holds: spec='resnet18', a spec dict or a spec file (zoo convert --spec)"
            raise MissingSpecError(
                places.source, f"carries no spec, and {places.target.suffix} needs the model, not its tensors: {remedy}"
            )
        # Nobody would know of aliases: each name gets its tensor, and a format that can keep them one does.
        tensors = told.state_dict()
        return Plan(places, before, Checkpoint(tensors, order=tuple(tensors)), None, casts)
    model = model_of(told, places.source, spec)
    after = Checkpoint.of(model)
    if told.artifact is not None and after.artifact is not None:
        after = replace(after, artifact=after.artifact.model_copy(update={"lock": told.artifact.lock}))
    return Plan(places, before, after, model, casts)


def content_of(checkpoint: Checkpoint) -> str:
    """Return the fingerprint of a checkpoint; without an artifact, as if nothing were tied."""
    if checkpoint.artifact is None:
        return fingerprint_of(checkpoint.state_dict(), {})
    return checkpoint.fingerprint


def _carry_out(plan: Plan, *, verify: bool, force: bool, progress: Progress | None) -> tuple[Path, str | None]:
    """Write and check the target, then put it in its place; return where it is, and its fingerprint."""
    places = plan.places
    claimed = plan.before.artifact.fingerprint if plan.before.artifact else None
    if verify and claimed is not None and plan.claimed is None:
        _check_source(plan, claimed)
    plan = plan.sealed()
    with staging(places.target) as folder, ThreadPoolExecutor(2) as aside:
        # What the target has to be is found, where nobody says it, while the target is written, and that is put on the
        # disk while it is read back.
        expected = aside.submit(lambda: plan.expected if verify else "")
        with watching(folder, sum(t.nbytes for t in plan.after.tensors.values()), progress):
            staged = _write(plan, folder)
            flushed = aside.submit(flush, folder)
            fingerprint = _read_back(plan, staged, folder, expected) if verify else plan.claimed
            flushed.result()
        if not force:
            for file in folder.iterdir():
                _refuse_existing(places.target.with_name(file.name))
        *_, written = publish(folder, places.target, staged.name)
    if written.name.endswith(INDEX):
        remove_unlisted(written)
    return written, fingerprint or (plan.after.artifact.fingerprint if plan.after.artifact else None)


def _write(plan: Plan, folder: Path) -> Path:
    target, options = plan.places.target, dict(plan.places.options)
    if "weights" in options:
        options["weights"] = folder / Path(options["weights"]).name
    try:
        return write(plan.model, plan.after, folder / target.name, **options)
    except WeightsError as error:
        reason = str(error).removeprefix(f"{error.path}: ").replace(str(folder), str(target.parent))
        raise WeightsError(target, reason) from error


def _read_back(plan: Plan, staged: Path, folder: Path, expected: Future[str]) -> str:
    """Compare what was written with what was read; return its fingerprint.

    Every byte is hashed once at most: where the source says its fingerprint, what was written has to have that, which
    proves both; where it does not, it is found aside from the source, and the bytes of both are compared.
    """
    target = plan.places.target
    try:
        back = read(staged)
    except ZooError as error:
        reason = str(error).replace(str(folder), str(target.parent))
        raise WeightsError(target, f"{_NOT_WRITTEN}: it could not be read back: {reason}") from error
    if plan.claimed is None:
        parity = compare(plan.after.state_dict(), back.state_dict())
        if parity.differing:
            raise WeightsError(
                target, f"{_NOT_WRITTEN}: reading it back gave another {', '.join(parity.differing[:5])}"
            )
    elif (found := back.fingerprint) != plan.claimed:
        _check_source(plan, plan.claimed)
        raise WeightsError(target, f"{_NOT_WRITTEN}: read back its fingerprint is {found}; expected {plan.claimed}")
    if _described(back) != _described(plan.after):
        raise WeightsError(target, f"{_NOT_WRITTEN}: reading it back gave another description")
    return back.fingerprint if back.aliases and back.artifact is None else expected.result()


def _check_source(plan: Plan, claimed: str) -> None:
    found = plan.before.fingerprint
    if found != claimed:
        raise FingerprintError(plan.places.source, claimed, found)


def _described(checkpoint: Checkpoint) -> Mapping[str, Any] | None:
    """Return what has to be the same in every format; inputs may be told as they were exported."""
    return checkpoint.artifact.model_dump(exclude={"inputs", "outputs"}) if checkpoint.artifact else None


def _refuse_existing(place: Path) -> None:
    if place.exists():
        raise WeightsError(place, "exists already; to replace it: force=True (zoo convert --force)")


def _format_name(path: Path) -> str:
    return Path(path.name.removesuffix(".index.json")).suffix.removeprefix(".")


def _short(fingerprint: str | None) -> str:
    return "" if fingerprint is None else f"{fingerprint[:19]}…"
