"""Kill a process at each step of a save: ``python killing.py FOLDER SUFFIX`` prints what stood there afterwards.

The steps are those at which something changes on the disk: creating, each write (half of it is done), syncing, changing
permissions, renaming (before and after) and removing. Each is tried in a child of its own, killed by SIGKILL.
"""

from __future__ import annotations

import io
import json
import os
import pathlib
import signal
import sys
from collections.abc import Callable
from typing import Any

import torch

import zoo

_BUFFER = 1 << 16


class Steps:
    """Counts what changes the disk, and kills this process at one of it."""

    def __init__(self, fatal: int) -> None:
        self.fatal = fatal
        self.done = 0
        self.names: list[str] = []

    def step(self, name: str) -> None:
        self.done += 1
        self.names.append(name)
        if self.done == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """Put the counting around what writes."""
        for name in ("open", "fsync", "chmod", "replace", "rename", "unlink", "mkdir", "rmdir"):
            setattr(os, name, self._around(name, getattr(os, name)))
        steps = self

        class Raw(io.FileIO):
            def write(self, data: Any) -> int:
                view = memoryview(data).cast("B")
                half = super().write(view[: len(view) // 2])
                steps.step("write")
                return half + super().write(view[half:])

        plain = io.open

        def opened(file: Any, mode: str = "r", *args: Any, **keywords: Any) -> Any:
            if "b" in mode and ("w" in mode or "+" in mode):
                raw = Raw(file, mode.replace("b", ""))
                return (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw, _BUFFER)
            return plain(file, mode, *args, **keywords)

        io.open = opened  # what Path.open and Path.write_bytes call

    def _around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **keywords: Any) -> Any:
            flags = args[1] if name == "open" and len(args) > 1 else 0
            if name == "open" and not flags & os.O_CREAT:
                return call(*args, **keywords)
            self.step(f"before {name}")
            result = call(*args, **keywords)
            self.step(f"after {name}")
            return result

        return counted


def main(folder: pathlib.Path, suffix: str) -> None:
    """Kill a save at its first step, its second, and so on, until it ends before it is killed."""
    torch.set_num_threads(1)  # threads do not survive a fork
    torch.manual_seed(0)
    old, new = zoo.build("lenet"), zoo.build("lenet")
    path = folder / f"x.{suffix}"
    zoo.save(old, path)  # what a first save imports is imported once
    before = path.read_bytes()
    fatal, saved_again = 0, False
    while True:
        fatal += 1
        for each in folder.iterdir():
            each.unlink()
        path.write_bytes(before)
        child = os.fork()
        if not child:
            steps = Steps(fatal)
            steps.install()
            zoo.save(new, path)
            (folder / "steps").write_text(json.dumps(steps.names))
            os._exit(0)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        found = zoo.fingerprint(zoo.load(path, verify=True))
        line = {
            "ended": ended,
            "held": {zoo.fingerprint(old): "old", zoo.fingerprint(new): "new"}.get(found, found),
            "others": sorted(each.name for each in folder.iterdir() if each != path),
        }
        if ended == 0:
            line["steps"] = json.loads((folder / "steps").read_text())
        elif line["others"] and not saved_again:
            saved_again = True
            zoo.save(old, path)
            line["after the next save"] = sorted(each.name for each in folder.iterdir() if each != path)
        print(json.dumps(line), flush=True)  # noqa: T201 - whoever started this reads it
        if ended != -signal.SIGKILL:
            return


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2])
