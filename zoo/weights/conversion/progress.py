"""Progress: how far a file is that some format writes, told by its size; no format has to know."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

Progress = Callable[[int, int], None]
"""Called with how many bytes of how many are done."""

_PERIOD = 0.1  # seconds


@contextmanager
def watching(folder: Path, total: int, progress: Progress | None) -> Iterator[None]:
    """Tell of the growth of the files in a folder while the block runs, from another thread, and of its end.

    Args:
        folder: where they are written.
        total: how many bytes they are to have, about.
        progress: who is told; None for nobody.
    """
    if progress is None:
        yield
        return
    ended = Event()

    def watch() -> None:
        while not ended.wait(_PERIOD):
            progress(min(total, _size(folder)), total)

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
    progress(total, total)


def _size(folder: Path) -> int:
    size = 0
    with suppress(OSError):  # a file was renamed meanwhile
        size = sum(file.stat().st_size for file in folder.iterdir())
    return size
