"""started: a program of ours that runs beside this one for a while, and ends with it whatever happens."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_LONGEST_LINE = 1 << 20
_STDERR = 1 << 14  # bytes of what it says before it dies


class Process:
    """A program in a process of its own, which is asked something once."""

    def __init__(self, process: subprocess.Popen[bytes], given: IO[bytes], gives: IO[bytes], said: IO[bytes]) -> None:
        self._process, self._given, self._gives, self._said = process, given, gives, said
        self._late = threading.Event()

    @property
    def late(self) -> bool:
        """Whether it was ended because it took too long."""
        return self._late.is_set()

    def end(self) -> None:
        """End it because it takes too long."""
        self._late.set()
        self._process.kill()

    def send(self, *parts: bytes | memoryview) -> None:
        """Send it bytes; if it does not take them, its ending tells why."""
        with suppress(OSError):
            for each in parts:
                self._given.write(each)
            self._given.flush()

    def line(self) -> bytes:
        """Return a line that it gives; nothing if it ends instead."""
        line = self._gives.readline(_LONGEST_LINE)
        return line if line.endswith(b"\n") else b""

    def read(self, count: int) -> bytearray:
        """Return bytes that it gives; fewer if it ends before."""
        found = bytearray()
        while len(found) < count and (piece := self._gives.read(min(count - len(found), 1 << 24))):
            found += piece
        return found

    def ending(self) -> tuple[int, str]:
        """Wait until it ended; return its exit status, negative for a signal, and how to tell it."""
        status = self._process.wait()
        if status < 0:
            return status, f"killed by {signal.Signals(-status).name}"
        self._said.seek(-min(_STDERR, self._said.seek(0, 2)), 2)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return status, lines[-1] if lines else f"exit status {status}"


@contextmanager
def started(program: Path, seconds: float) -> Iterator[Process]:
    """Give a program in a process of its own; it is ended when it is left, or late.

    What it is sent stays open as long: a program that sees the end of it is to end.

    Args:
        program: a file of Python.
        seconds: how long it may take.

    Raises:
        OSError: no process can be started.
    """
    with tempfile.TemporaryFile() as said:  # a pipe that nobody reads would fill up
        process = subprocess.Popen(  # noqa: S603 - this interpreter and a file of ours
            [sys.executable, "-I", str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said
        )
        if process.stdin is None or process.stdout is None:
            raise OSError("the system gave no pipes")
        found = Process(process, process.stdin, process.stdout, said)
        timer = threading.Timer(seconds, found.end)
        timer.daemon = True
        timer.start()
        try:
            yield found
        finally:
            timer.cancel()
            process.kill()
            with suppress(OSError):  # what it did not take is still to be sent
                process.stdin.close()
            process.stdout.close()
            process.wait()
