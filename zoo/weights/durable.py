"""Durable writes: a crash leaves the old file or the new one, never a part of either.

What is being written has a name of its own, ``.NAME.HEX.partial``, and its writer holds a lock on it, which the
operating system releases when the process ends in whatever way. The next writer of the same target removes what has
such a name and no lock.

Source: ``flock(2)``; ``rename(2)``.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from zoo.errors import WeightsError

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there, and nothing removed
    fcntl = None  # type: ignore[assignment]

_STAGED: set[Path] = set()  # folders of this process whose files are synced together when they are published


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file in the same folder, which takes the place of ``path`` when the block ends without an error.

    The content is on the disk before the name changes. An existing file's permissions are kept, a new file gets those
    that the umask allows; of a symbolic link the target is replaced. What earlier writers of ``path`` left that were
    killed is removed.

    Raises:
        WeightsError: the folder does not exist or cannot be written, or the disk is full; what was there is intact.
    """
    target = path.resolve()
    with _partial(path, target, folder=False) as temporary:
        mode = _mode(target if target.exists() else temporary)
        with _intact(path):
            yield temporary
            temporary.chmod(mode)
            if target.parent not in _STAGED:
                _sync(temporary)
            temporary.replace(target)
            if target.parent not in _STAGED:
                _sync(target.parent)


@contextmanager
def staging(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``path``, for what has to be looked at before it takes its place.

    The folder is on the same disk, and files in it may have their final names: :func:`publish` moves them. What is in
    it when the block ends is removed.

    Raises:
        WeightsError: the folder of ``path`` does not exist or cannot be written.
    """
    with _partial(path, path.resolve(), folder=True) as folder:
        _STAGED.add(folder)
        try:
            with _intact(path):
                yield folder
        finally:
            _STAGED.discard(folder)


def flush(folder: Path) -> None:
    """Put the content of all files of a folder on the disk."""
    for file in folder.iterdir():
        _sync(file)


def publish(folder: Path, path: Path, last: str) -> list[Path]:
    """Move all files of a staging folder to where ``path`` is, after their content is on the disk.

    Each file replaces the one of its name, whose permissions it gets; of a symbolic link the target is replaced.

    Args:
        folder: the staging folder.
        path: what was asked for.
        last: the name of the file that refers to the others: until it is there, the old one with its others is.

    Returns:
        The files, ``last`` at the end.
    """
    flush(folder)
    files = sorted(folder.iterdir(), key=lambda file: (file.name == last, file.name))
    published = [path.with_name(file.name) for file in files]
    for file, place in zip(files, published, strict=True):
        target = place.resolve()
        if target.exists():
            file.chmod(_mode(target))
        file.replace(target)
    for parent in {place.resolve().parent for place in published}:
        _sync(parent)
    return published


@contextmanager
def _partial(path: Path, target: Path, *, folder: bool) -> Iterator[Path]:
    """Give a new file or folder beside ``target``, locked while the block runs and gone afterwards."""
    _remove_left_over(target)
    try:
        temporary, handle = _locked(target, folder=folder)
    except OSError as error:
        raise WeightsError(path, f"cannot be written: {error.strerror} ({target.parent})") from error
    try:
        yield temporary
    finally:
        _remove(temporary)
        if handle is not None:
            os.close(handle)


def _locked(target: Path, *, folder: bool) -> tuple[Path, int]:
    while True:
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.partial")
        if folder:
            temporary.mkdir()
        try:
            # The kernel applies the umask; asking for it would change it for every thread of the process.
            flags = os.O_RDONLY if folder else os.O_CREAT | os.O_EXCL | os.O_WRONLY
            handle = os.open(temporary, flags, 0o666)
        except FileNotFoundError:
            if not target.parent.is_dir():
                raise
            continue
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks: what a crash leaves there is not removed
                fcntl.flock(handle, fcntl.LOCK_EX)
            if not os.path.lexists(temporary):  # another writer saw it before it was locked and took it for left over
                os.close(handle)
                continue
        return temporary, handle


def _remove_left_over(target: Path) -> None:
    if fcntl is None:
        return
    ours = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{16}}\.partial")
    with suppress(OSError):  # the folder cannot be read: whether it can be written is seen soon
        for entry in os.scandir(target.parent):
            if ours.fullmatch(entry.name):
                with suppress(OSError):  # its writer lives, or it is another user's
                    _remove_unlocked(Path(entry.path))


def _remove_unlocked(left: Path) -> None:
    handle = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(left)
    finally:
        os.close(handle)


def _remove(temporary: Path) -> None:
    if temporary.is_dir():
        shutil.rmtree(temporary, ignore_errors=True)
    else:
        temporary.unlink(missing_ok=True)


@contextmanager
def _intact(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WeightsError(path, f"could not be written, what was there before is intact: {error}") from error


def _mode(file: Path) -> int:
    return file.stat().st_mode & 0o7777


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
