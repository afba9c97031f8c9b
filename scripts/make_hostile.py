"""Write the hostile corpus of tests/hostile: ``python scripts/make_hostile.py [folder]``.

Every file attacks whoever reads it. They are built byte by byte, so that the same files come out with any version of
torch, safetensors and onnx; ``tests/weights/test_hostile.py`` proves that those in the repository are these.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hostile import archives, claims, descriptions, graphs, headers, pickles
from hostile.case import Case

FOLDER = Path(__file__).parent.parent / "tests" / "hostile"


def corpus() -> dict[str, Case]:
    """Return every file by name.

    Raises:
        ValueError: two are called the same.
    """
    found: dict[str, Case] = {}
    for source in (pickles, claims, archives, headers, descriptions, graphs):
        for case in source.cases():
            if case.name in found:
                raise ValueError(f"two files are called {case.name}")
            found[case.name] = case
    return found


def main(folder: Path = FOLDER) -> None:
    """Write the files into a folder; those that are none of them any more go."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = corpus()
    for stale in {path.name for path in folder.iterdir()} - cases.keys():
        (folder / stale).unlink()
    for name, case in cases.items():
        (folder / name).write_bytes(case.data)
    print(f"{len(cases)} files, {sum(len(c.data) for c in cases.values())} bytes in {folder}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
