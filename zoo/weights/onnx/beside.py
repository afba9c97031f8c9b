"""Opening a file that another file names: only a regular one in the same folder, and none that leads out of it.

A name in a stranger's file is a way to read any file of this machine: through ``..``, through a link in an unpacked
archive, or through a pipe that never ends. What is opened here is checked after it was opened, so that nobody can
exchange it in between.

Source: the checks of ``onnx`` (``checker.cc``, after CVE-2022-25882 and CVE-2024-27318).
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path, PurePosixPath
from typing import BinaryIO

_DRIVE = re.compile(r"[A-Za-z]:")
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_FLAGS = (
    os.O_RDONLY | _NOFOLLOW | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
)


def open_beside(path: Path, location: str) -> BinaryIO:
    """Open the file that another one names.

    Args:
        path: the file that names it; where it is a link, the folder that it leads to counts as its own, too.
        location: the name, relative to the folder of ``path``, with ``/`` between its parts.

    Raises:
        ValueError: the name leads out of the folder, or to what is no regular file with one name; or there is none.
    """
    parts = PurePosixPath(location).parts
    if not parts or location.startswith("/") or ".." in parts or "\\" in location or "\0" in location:
        raise ValueError(f"{location!r}, which is not the plain name of a file in the folder of this one")
    if _DRIVE.match(location):
        raise ValueError(f"{location!r}, which names a drive; expected a file in the folder of this one")
    folder = Path(os.path.realpath(path.parent))
    try:
        target = Path(os.path.realpath(folder.joinpath(*parts)))
        home = Path(os.path.realpath(path)).parent
        if target.parent == home:
            folder = home  # in a cache of downloads both files are links into one folder elsewhere
        if target == folder or not target.is_relative_to(folder):
            raise ValueError(f"{location!r}, a link that leads out of the folder of this one; copy the file here")
        descriptor = _descend(folder, target.relative_to(folder).parts)
    except FileNotFoundError:
        raise ValueError(f"{location!r}, which is missing; it belongs into the folder of this one") from None
    except OSError as error:
        raise ValueError(f"{location!r}, which cannot be opened: {error.strerror or error}") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{location!r}, which is no regular file")
        if found.st_nlink > 1:
            raise ValueError(
                f"{location!r}, which has {found.st_nlink} names (hard links), so that it may be a file from "
                "elsewhere; copy it"
            )
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def _descend(folder: Path, parts: tuple[str, ...]) -> int:
    """Open a file below a folder, following no link on the way, and nothing that an opening could wake or wait for."""
    if os.open not in os.supports_dir_fd:  # Windows
        whole = folder.joinpath(*parts)
        _refuse_device(whole.lstat(), parts[-1])
        return os.open(whole, _FLAGS)
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            below = os.open(part, _FLAGS | os.O_DIRECTORY, dir_fd=here)
            os.close(here)
            here = below
        name = parts[-1]
        _refuse_device(os.stat(name, dir_fd=here, follow_symlinks=False), name)
        return os.open(name, _FLAGS, dir_fd=here)
    finally:
        os.close(here)


def _refuse_device(found: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{name!r}, which is no regular file")
