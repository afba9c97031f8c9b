"""convert: a weights file to another format, every tensor read back before the new file takes its place."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import FingerprintError, WeightsError, ZooError
from zoo.messages import printable, some
from zoo.spec import Source
from zoo.weights.casting import CastReport
from zoo.weights.checkpoint import Checkpoint
from zoo.weights.conversion.advice import advising
from zoo.weights.conversion.plan import Names, Places, Plan, described, prepare, refuse_existing
from zoo.weights.conversion.progress import Progress, watching
from zoo.weights.durable import flush, publish, staging
from zoo.weights.migration.report import MigrationReport
from zoo.weights.parity import bit_equal
from zoo.weights.reading import format_name, format_of, read
from zoo.weights.transfer.changes import stated_parts
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
        keymap: the library whose names the target has; None if they are ours or nobody's.
        migration: how a source from elsewhere was recognised.
        left_out: tensors of the source that are of parts which the target is to lack, by our names; what has none is
            told by the migration.
    """

    source: str
    target: str
    source_format: str
    target_format: str
    tensors: int
    bytes: int
    fingerprint: str | None
    casts: CastReport | None
    verified: bool
    seconds: float
    keymap: str | None = None
    migration: MigrationReport | None = None
    left_out: tuple[str, ...] = ()

    def __str__(self) -> str:
        proof = f"verified, {_short(self.fingerprint)}" if self.verified else "not verified"
        named = "" if self.keymap is None else f" in the names of {self.keymap}"
        lines = [f"{self.source} → {self.target}: {self.tensors} tensors{named}, {self.bytes:,} bytes, {proof}"]
        lines += [] if self.migration is None else [str(self.migration)]
        lines += [f"left out ({len(self.left_out)}): {printable(some(self.left_out))}"] if self.left_out else []
        return "\n".join([*lines, *([str(self.casts)] if self.casts is not None else [])])


def convert(
    source: str | PathLike[str],
    target: str | PathLike[str],
    *,
    spec: Source | None = None,
    keymap: str | None = None,
    to_keymap: str | None = None,
    within: str | None = None,
    without: str | Iterable[str] = (),
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
        keymap: the library whose names a source from elsewhere has; all are tried unless given.
        to_keymap: the library whose names the target is to have, ``"torchvision"``: it becomes a plain state dict that
            their model loads with ``strict=True``, and no longer says what it is of.
        within: which weights, where the source holds several, as for :func:`zoo.load`.
        without: parts of the model that the target is to lack, ``"head"`` or several, with all that is behind them.
            The source may lack them, or have something else there; ``spec`` is that of the whole model.
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
        MissingSpecError: the target needs the model, or a keymap does, and neither the source nor ``spec`` says which
            it is.
        KeymapError: the tensors cannot have the names of the other library.
        UnknownNameError: ``without`` names no part.
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
    names = Names(keymap, to_keymap, within, stated_parts(without, "without"))
    stated = {**options, **asdict(names), "spec": spec, "dtype": dtype, "allow_lossy": allow_lossy}
    with advising(places, {**stated, "verify": verify, "force": force}):
        plan = prepare(places, spec=spec, dtype=dtype, allow_lossy=allow_lossy, names=names)
    written, fingerprint = _carry_out(plan, verify=verify, force=force, progress=progress)
    return ConversionReport(
        source=str(places.source),
        target=str(written),
        source_format=format_name(places.source),
        target_format=format_name(places.target),
        tensors=len(plan.after.tensors),
        bytes=plan.nbytes,
        fingerprint=fingerprint,
        casts=plan.casts,
        verified=verify,
        seconds=time.perf_counter() - started,
        keymap=to_keymap,
        migration=plan.migration,
        left_out=plan.left_out,
    )


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
        with watching(folder, plan.nbytes, progress):
            staged = _write(plan, folder)
            flushed = aside.submit(flush, folder)
            fingerprint = _read_back(plan, staged, folder, expected) if verify else plan.claimed
            flushed.result()
        if not force:
            for file in folder.iterdir():
                refuse_existing(places.target.with_name(file.name))
        published = publish(folder, places.target, staged.name)
    written = published[-1]
    tidy = getattr(format_of(places.target), "tidy", None)
    if tidy is not None:
        tidy(written, [file.name for file in published])
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
        differing = list(islice(_differing(plan.after, back), 5))
        if differing:
            raise WeightsError(target, f"{_NOT_WRITTEN}: reading it back gave another {', '.join(differing)}")
    elif (found := back.fingerprint) != plan.claimed:
        _check_source(plan, plan.claimed)
        raise WeightsError(target, f"{_NOT_WRITTEN}: read back its fingerprint is {found}; expected {plan.claimed}")
    if described(back) != described(plan.after):
        raise WeightsError(target, f"{_NOT_WRITTEN}: reading it back gave another description")
    return back.fingerprint if back.aliases and back.artifact is None else expected.result()


def _differing(left: Checkpoint, right: Checkpoint) -> Iterator[str]:
    """Give the names whose tensors are not the same, holding one tensor of each side at a time."""
    names = [{**{name: name for name in each.tensors}, **each.aliases} for each in (left, right)]
    for name in dict.fromkeys([*names[0], *names[1]]):
        there = all(name in each for each in names)
        if not there or not bit_equal(left.tensors[names[0][name]], right.tensors[names[1][name]]):
            yield name


def _check_source(plan: Plan, claimed: str) -> None:
    found = plan.before.fingerprint
    if found != claimed:
        raise FingerprintError(plan.places.source, claimed, found)


def _short(fingerprint: str | None) -> str:
    return "" if fingerprint is None else f"{fingerprint[:19]}…"
