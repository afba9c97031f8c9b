"""Read every hostile file in every way, in one process: ``python -m hostile.run folder [way …]``.

Prints a line of JSON for each file: what each way of reading answered, by how many bytes the memory of the process grew
meanwhile at most, and what stands in the working directory that was not there before. A file that is not answered in
time ends the process.
"""

from __future__ import annotations

import json
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import onnx  # noqa: F401 - what a first use of it takes is not the file's doing

import zoo
from hostile.case import SPEC, WAYS

SECONDS = 20
"""How long one way of reading one file may take before the process ends; most take a thousandth of that."""

READERS: Mapping[str, Callable[[Path], Any]] = dict(
    zip(
        WAYS,
        (
            zoo.load,
            lambda path: zoo.load(path, spec=dict(SPEC)),
            lambda path: zoo.load(path, verify=True),
            zoo.inspect,
            zoo.fingerprint,
        ),
        strict=True,
    )
)
"""What each way of reading calls."""


def answers(path: Path, ways: Iterable[str] = WAYS) -> dict[str, list[str] | None]:
    """Return, for some ways of reading, the class of the error and its message, or None if nothing is wrong."""
    found: dict[str, list[str] | None] = {}
    for way in ways:
        signal.alarm(SECONDS)
        try:
            READERS[way](path)
            found[way] = None
        except zoo.ZooError as error:
            found[way] = [type(error).__name__, str(error)]
        except Exception as error:  # what must not happen is told, not hidden
            found[way] = [f"not a ZooError: {type(error).__name__}", str(error)]
        signal.alarm(0)
    return found


def main(folder: Path, ways: Iterable[str]) -> None:
    """Read all files of the folder."""
    warnings.simplefilter("error")
    model = zoo.build(dict(SPEC))
    before = set(Path().iterdir())
    for suffix in sorted({path.suffix for path in folder.iterdir()}):  # what a first use takes is not its doing either
        honest = zoo.save(model, Path(f"honest{suffix}"))
        answers(honest)
        honest.unlink()
    for path in sorted(folder.iterdir()):
        print(path.name, file=sys.stderr, flush=True)
        start = _memory("VmRSS")
        _forget_peak()
        found = answers(path, ways)
        grown = _memory("VmHWM") - start
        made = sorted(str(each) for each in set(Path().iterdir()) - before)
        print(json.dumps({"file": path.name, "answers": found, "grown": grown, "made": made}), flush=True)


def _memory(what: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or WAYS)
