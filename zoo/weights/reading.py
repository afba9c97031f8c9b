"""read: the tensors and the description in a file of any format, checked, without building anything."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

from torch import nn

from zoo import kinds
from zoo.errors import FileFormatError, FingerprintError, WeightsError, ZooError
from zoo.weights.checkpoint import Checkpoint, tied
from zoo.weights.fingerprint import fingerprint_of
from zoo.weights.migration.unwrapping import narrowed
from zoo.weights.strictjson import brief

_OFTEN_PICKLED = ("bin", "tar", "pyth")
_PICKLED_TAR = (".pth.tar", ".pt.tar", ".ckpt.tar")
"""How the training scripts of PyTorch's examples and of timm call what ``torch.save`` writes."""


def path_of(given: object, takes: str = "the path of a weights file", where: str = "") -> Path:
    """Return the path that was given for a weights file.

    Args:
        given: what may be one.
        takes: what can be given, for the message.
        where: as what it was given, ``"weights"``.

    Raises:
        WeightsError: it is no path; of tensors the message says where they go.
    """
    if isinstance(given, str | PathLike):
        return Path(given)
    found = f"{where and f'{where}: '}found {type(given).__name__!r}; expected {takes}"
    if isinstance(given, Mapping):
        found += "; a state dict goes into a model that is built: zoo.build(…).load_state_dict(…)"
    elif isinstance(given, nn.Module):
        found += "; the weights of a model go into another one: zoo.build(…).load_state_dict(model.state_dict())"
    raise WeightsError("", found)


def read(path: str | PathLike[str], *, mapped: bool = True, within: str | None = None) -> Checkpoint:
    """Read the tensors and the description in a file, without building anything.

    Args:
        path: the file.
        mapped: whether tensors may stay in the file until they are used; False reads every byte now.
        within: which weights, where a file holds several: the place of a dict in a checkpoint, ``"ema"``, the beginning
            of names, ``"teacher"``, or both: ``"state_dict.teacher"``.

    Raises:
        SeveralWeightsError: the file holds several sets of weights and ``within`` is none of them.
        FileFormatError: the file is missing, damaged or of another kind.
        UnsafeFileError: it is a pickle that holds more than tensors.
    """
    path = path_of(path)
    reader = _format_to_read(path)
    if not path.is_file():
        found = "there is no such file" if not path.exists() else "is no ordinary file"
        raise FileFormatError(path, found)
    try:
        if within is not None and getattr(reader, "has_places", False):
            checkpoint = reader.read(path, mapped=mapped, within=within)  # type: ignore[call-arg] # as it says it can
        else:
            checkpoint = reader.read(path, mapped=mapped)
    except ZooError:
        raise
    except Exception as error:  # parsers of strangers' files raise anything; this is where all formats pass
        reason = str(error).strip().partition("\n")[0]
        raise FileFormatError(path, f"cannot be read: {type(error).__name__}: {reason}") from error
    shadowed = sorted(checkpoint.aliases.keys() & checkpoint.tensors.keys())
    if shadowed:
        raise FileFormatError(path, f"{brief(shadowed[0])} is a tensor and stands for another one")
    lost = sorted(first for first in set(checkpoint.aliases.values()) if first not in checkpoint.tensors)
    if lost:
        raise FileFormatError(
            path, f"other names stand for tensors that are not there: {', '.join(map(brief, lost[:5]))}"
        )
    return checkpoint if within is None else narrowed(checkpoint, within, path)


def read_verified(path: str | PathLike[str], expected: str | None = None, *, within: str | None = None) -> Checkpoint:
    """Read every byte of a file into memory of our own, and check the fingerprint.

    Args:
        path: the file.
        expected: the fingerprint that it should have; the one that it claims to have unless given.
        within: as for :func:`read`; the fingerprint is that of the tensors there.

    Raises:
        FingerprintError: the fingerprint of its tensors is another one, or there is none to check.
        FileFormatError: the file is missing, damaged or of another kind.
        UnsafeFileError: it is a pickle that holds more than tensors.
    """
    checkpoint = read(path, mapped=False, within=within)
    claimed = checkpoint.artifact.fingerprint if checkpoint.artifact else None
    if claimed is None and expected is None:
        raise FingerprintError(path, None, checkpoint.fingerprint)
    found = checkpoint.fingerprint
    for wanted in (claimed, expected):
        if wanted is not None and wanted != found:
            raise FingerprintError(path, wanted, found)
    return checkpoint


def fingerprint(source: nn.Module | str | PathLike[str]) -> str:
    """Return a hash of all tensors of a model or a file: the same for a model and for every file made of it.

    Names, dtypes, shapes, bytes and ties count; the format, the order and the spec do not.

    Args:
        source: a module, or the path of a weights file.

    Returns:
        ``"sha256:"`` and 64 hexadecimal digits.

    Raises:
        FileFormatError: the file is missing, damaged or of another kind.
        UnsafeFileError: it is a pickle that holds more than tensors.

    >>> import zoo
    >>> model = zoo.build("lenet", weights="digits")
    >>> zoo.fingerprint(model) == zoo.fingerprint(zoo.save(model, "lenet.safetensors"))
    True
    """
    if isinstance(source, nn.Module):
        state = getattr(source, "_orig_mod", source).state_dict(keep_vars=True)  # what torch.compile wraps
        aliases = tied(state)
        return fingerprint_of({name: each for name, each in state.items() if name not in aliases}, aliases)
    return read(source).fingerprint


def _format_to_read(path: Path) -> kinds.Format:
    """Return the format of a file; of a name that is a model's, say, the error tells what it is."""
    if path.is_dir():
        raise FileFormatError(path, "is a folder, not a file; name a file in it")
    try:
        return format_of(path)
    except FileFormatError as error:
        elsewhere = "" if path.exists() else kinds.elsewhere("file", str(path))
        if not elsewhere:
            raise
        raise FileFormatError(path, f"there is no such file, and {elsewhere}") from error


def format_name(path: str | PathLike[str]) -> str:
    """Return the last suffix that names a format, or may: of an index that of its shards, of ``.pth.tar`` the first.

    >>> [format_name(each) for each in ("a.b.pt", "net.safetensors.index.json", "run.pth.tar", "run.tar", "run")]
    ['pt', 'safetensors', 'pth', 'tar', '']
    """
    name = Path(path).name.removesuffix(".index.json")  # it lists shards of a format
    if name.endswith(_PICKLED_TAR):
        name = name.removesuffix(".tar")  # no archive, whatever it says: torch.save wrote it
    return Path(name).suffix.removeprefix(".")


def told_by_graph(path: Path, keymap: str | None) -> bool:
    """Tell whether the graph of a file from elsewhere says what its tensors are: of ONNX, unless a keymap does."""
    return format_name(path).lower() == "onnx" and keymap is None


def format_of(path: Path) -> kinds.Format:
    """Return the format that the suffix of a file names.

    Raises:
        FileFormatError: it names none.
    """
    if not path.name:
        raise FileFormatError(path, "is a folder, not a file")
    suffix = format_name(path)
    if suffix in kinds.formats:
        return kinds.formats.get(suffix)  # type: ignore[no-any-return]
    known = ", ".join(f".{name}" for name in kinds.formats.names())
    found = f"suffix {path.suffix!r}" if suffix else "no suffix"
    hint = "; if torch.save wrote it, give it a name that ends in .pth" if suffix in _OFTEN_PICKLED else ""
    raise FileFormatError(path, f"{found} names no format; expected one of {known}{hint}")
