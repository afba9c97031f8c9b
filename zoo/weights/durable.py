"""Durable writes: a crash leaves the old file or the new one, never a part of either."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.errors import WeightsError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file in the same folder, which takes the place of ``path`` when the block ends without an error.

    The content is on the disk before the name changes. An existing file's permissions are kept, a new file gets those
    that the umask allows; of a symbolic link the target is replaced.

    Raises:
        WeightsError: the folder does not exist or cannot be written, or the disk is full; what was there is intact.
    """
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.partial")
    try:
        # The kernel applies the umask; asking for it would change it for every thread of the process.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise WeightsError(path, f"cannot be written: {error.strerror} ({target.parent})") from error
    mode = (target if target.exists() else temporary).stat().st_mode & 0o7777
    try:
        yield temporary
        temporary.chmod(mode)
        _sync(temporary)
        temporary.replace(target)
        _sync(target.parent)
    except OSError as error:
        raise WeightsError(path, f"could not be written, what was there before is intact: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
