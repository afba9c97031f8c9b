"""The PyTorch format: a plain state dict that ``torch.load(weights_only=True)`` opens; the artifact rides along.

The artifact is an attribute of the ordered dict, where ``load_state_dict`` and everything else ignores it.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from zoo.errors import FileFormatError, UnsafeFileError
from zoo.weights.checkpoint import METADATA_KEY, Artifact, Checkpoint, plain_tensors
from zoo.weights.durable import replacing
from zoo.weights.sniff import likeness

if TYPE_CHECKING:
    from zoo.model import Model


class PyTorch:
    """Reads and writes ``.pt`` and ``.pth`` files; reading maps the file and never runs anything of it."""

    def write(self, model: Model, checkpoint: Checkpoint, path: Path) -> None:
        """Write an artifact, whole or not at all."""
        plain = plain_tensors(checkpoint.tensors)
        state = OrderedDict(
            (name, plain[checkpoint.aliases.get(name, name)]) for name in model.state_dict() if name in checkpoint.names
        )
        if checkpoint.artifact is not None:
            setattr(state, METADATA_KEY, checkpoint.artifact.dump())
        with replacing(path) as temporary, temporary.open("wb") as file:
            try:
                # A file object, not its name: torch writes the name of a file into it.
                torch.save(state, file)
            except RuntimeError as error:  # what a full disk becomes inside torch
                raise OSError(f"torch.save failed: {error}") from error

    def read(self, path: Path) -> Checkpoint:
        """Map a file.

        Raises:
            UnsafeFileError: it is a pickle that holds more than a plain state dict.
            FileFormatError: it is damaged, ends too early or is of another kind.
        """
        state = _unpickle(path)
        if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
            raise UnsafeFileError(path, f"it holds a {type(state).__name__}, not a plain state dict of named tensors")
        others = {name: type(value).__name__ for name, value in state.items() if not isinstance(value, torch.Tensor)}
        if others:
            named = ", ".join(f"{name!r} ({kind})" for name, kind in list(others.items())[:5])
            raise UnsafeFileError(path, f"it holds more than tensors, so it is no plain state dict: {named}")
        text = getattr(state, METADATA_KEY, None)
        artifact = Artifact.parse(text, path) if isinstance(text, str) else None
        aliases = dict(artifact.aliases) if artifact else {}
        tensors = {name: tensor for name, tensor in state.items() if name not in aliases}
        return Checkpoint(tensors, aliases, artifact)


def _unpickle(path: Path) -> Any:
    try:
        zipped = zipfile.is_zipfile(path)
        with path.open("rb") as file:
            pickled = file.read(1) == b"\x80"
    except OSError as error:
        raise FileFormatError(path, f"cannot be read: {error}") from error
    if zipped:
        _refuse_compressed(path)
    if not zipped and not pickled:  # files from before torch 1.6 are a bare pickle
        raise FileFormatError(path, f"not a whole PyTorch file, which is a zip or a pickle{likeness(path)}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        raise _refusal(path, str(error)) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, IndexError, TypeError) as error:
        reason = str(error).split("\n")[0]
        raise FileFormatError(path, f"not a whole PyTorch file ({reason}){likeness(path)}") from error


def _refuse_compressed(path: Path) -> None:
    """Refuse what torch.save never writes: compressed members, which read as noise when mapped and may be bombs."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except zipfile.BadZipFile as error:
        raise FileFormatError(path, f"not a whole PyTorch file ({error})") from error
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise FileFormatError(path, f"{member.filename!r} in it is compressed, which torch.save never does")


def _refusal(path: Path, message: str) -> UnsafeFileError | FileFormatError:
    """Tell a pickle that asks for code from one that is damaged, by the message of torch's own unpickler.

    Only facts are taken from that message: it advises to switch the safety off.
    """
    wanted = re.search(r"GLOBAL ([\w.]+)", message)
    if wanted is not None:
        return UnsafeFileError(path, f"it asks for {wanted[1]}")
    reason = message.partition("WeightsUnpickler error:")[2].strip().partition("\n")[0]
    if "nsupported" in reason:
        return UnsafeFileError(path, f"it holds what no plain state dict does ({reason})")
    return FileFormatError(path, f"not a whole PyTorch file ({reason or 'its pickle is damaged'}){likeness(path)}")


PT = PyTorch()
