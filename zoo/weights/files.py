"""save and load: a model to a file of any format, and back."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import torch

from zoo import kinds
from zoo.builder import assemble
from zoo.errors import (
    FileFormatError,
    MissingProviderError,
    MissingSpecError,
    SpecError,
    TensorMismatchError,
    UnknownNameError,
)
from zoo.model import Model
from zoo.spec import ParsedSpec, Source, opened, parse
from zoo.weights.checkpoint import Artifact, Checkpoint, tied
from zoo.weights.parity import bit_equal


def save(model: Model, path: str | PathLike[str]) -> Path:
    """Write a model to a file that can rebuild it alone.

    Args:
        model: a model made by zoo.
        path: the file; its suffix chooses the format: ``.pt``, ``.pth``, ``.safetensors`` or ``.onnx``, or one that a
            plugin adds.

    Returns:
        The path.

    Raises:
        WeightsError: there is no such format, or the file cannot be written; what was there before is intact.
    """
    path = Path(path)
    _format(path).write(model, Checkpoint.of(model), path)
    return path


def load(path: str | PathLike[str], spec: Source | None = None) -> Model:
    """Rebuild a model from a file, in evaluation mode.

    The model is built on the meta device and takes the tensors of the file as they are: nothing is initialised, and
    ``.safetensors`` and ``.pt`` files are mapped, not read.

    Args:
        path: a file that :func:`save` wrote, or one from elsewhere whose tensors have zoo's names.
        spec: what the file holds, where it does not say so itself: the name of a model, a spec, or a spec file.

    Raises:
        FileFormatError: the file is missing, damaged or of another kind.
        UnsafeFileError: it is a pickle that holds more than tensors.
        MissingSpecError: it does not say what it holds, and neither does ``spec``.
        MissingProviderError: it needs a component that is not installed here.
        TensorMismatchError: its tensors are not those of the model.
        SpecError: the spec is wrong.
        SpecFileError: the spec file cannot be read.
    """
    path = Path(path)
    checkpoint = read(path)
    if spec is not None:
        with opened(spec) as plain:
            return rebuild(parse(plain), checkpoint, path)
    if checkpoint.artifact is not None:
        return rebuild(_parse_artifact(checkpoint.artifact, path), checkpoint, path)
    raise MissingSpecError(path)


def read(path: str | PathLike[str]) -> Checkpoint:
    """Read the tensors and the description in a file, without building anything.

    Raises:
        FileFormatError: the file is missing, damaged or of another kind.
        UnsafeFileError: it is a pickle that holds more than tensors.
    """
    path = Path(path)
    reader = _format(path)
    if not path.is_file():
        raise FileFormatError(path, "is a folder, not a file" if path.is_dir() else "there is no such file")
    checkpoint = reader.read(path)
    lost = sorted(first for first in set(checkpoint.aliases.values()) if first not in checkpoint.tensors)
    if lost:
        raise FileFormatError(path, f"other names stand for tensors that are not there: {', '.join(lost[:5])}")
    return checkpoint


def rebuild(parsed: ParsedSpec, checkpoint: Checkpoint, path: Path) -> Model:
    """Build the model of a checked spec around the tensors of a checkpoint, in evaluation mode.

    Raises:
        TensorMismatchError: the tensors are not those of the model.
    """
    model = assemble(parsed, "meta", initialise=False)
    _assign(model, checkpoint, path)
    if any(t.is_meta for t in model.buffers()):
        _compute_other_buffers(model, parsed)
    model.record = checkpoint.artifact.record if checkpoint.artifact else None
    return model.eval()


def _format(path: Path) -> kinds.Format:
    suffix = path.suffix.removeprefix(".")
    if suffix in kinds.formats:
        return kinds.formats.get(suffix)  # type: ignore[no-any-return]
    known = ", ".join(f".{name}" for name in kinds.formats.names())
    found = f"suffix {path.suffix!r}" if suffix else "no suffix"
    raise FileFormatError(path, f"{found} names no format; expected one of {known}")


def _parse_artifact(artifact: Artifact, path: Path) -> ParsedSpec:
    try:
        return parse(artifact.spec)
    except SpecError as error:
        unknown = [p.error for p in error.problems if isinstance(p.error, UnknownNameError)]
        if not unknown:
            raise
        reason = "; ".join(f"{e.kind} {e.name!r}" for e in unknown)
        raise MissingProviderError(path, _not_installed(artifact.lock), reason) from error


def _not_installed(lock: Mapping[str, str]) -> list[str]:
    from importlib.metadata import PackageNotFoundError, version

    requirements = []
    for provider, locked in lock.items():
        try:
            installed = version(provider)
        except PackageNotFoundError:
            installed = None
        if installed != locked:
            requirements.append(f"{provider}=={locked}")
    return requirements or [f"{provider}=={locked}" for provider, locked in lock.items()]


def _assign(model: Model, checkpoint: Checkpoint, path: Path) -> None:
    """Put the tensors of a checkpoint into a model on the meta device; what was tied is tied again."""
    expected = model.state_dict(keep_vars=True)
    given = checkpoint.state_dict()
    ties = tied(expected)
    missing = [name for name in expected if name not in given]
    unexpected = [name for name in given if name not in expected]
    different = [
        f"{name} {_type_text(given[name])} for {_type_text(tensor)}"
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
    same_kind = (given.is_floating_point(), given.is_complex()) == (expected.is_floating_point(), expected.is_complex())
    return given.shape == expected.shape and same_kind


def _type_text(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _tie(model: Model, alias: str, first: str) -> None:
    owner, _, attribute = alias.rpartition(".")
    module = model.get_submodule(owner)
    home, _, name = first.rpartition(".")
    slots = module._parameters if attribute in module._parameters else module._buffers
    slots[attribute] = getattr(model.get_submodule(home), name)


def _compute_other_buffers(model: Model, parsed: ParsedSpec) -> None:
    """Fill the buffers that no state dict holds by building the model once more, for real."""
    fresh = dict(assemble(parsed, "cpu", initialise=False).named_buffers())
    for name, buffer in list(model.named_buffers()):
        if buffer.is_meta:
            owner, _, attribute = name.rpartition(".")
            model.get_submodule(owner)._buffers[attribute] = fresh[name]
