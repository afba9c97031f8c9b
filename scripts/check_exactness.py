"""Compare every model that torchvision has too with torchvision's own, and write docs/reference/exactness.md."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import torch
from exactness import ROWS, Row, difference, pair
from rich.progress import track

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "exactness.md"

INTRODUCTION = """\
# Exactness

Models that are composed from a spec compute what torchvision's hand-written ones compute. This page is written by
`scripts/check_exactness.py`, which fills each pair with the same random weights and random BatchNorm statistics,
through the keymap `torchvision`, and compares every output: logits; for segmenters with an auxiliary head those of
training mode too; for detectors the raw predictions and the boxes, scores and labels after non-maximum suppression.
Tests do the same.

A difference is the largest, relative to the largest number of the output.

| model | parameters | input | compared | largest difference |
| --- | ---: | --- | --- | ---: |
"""


def cells(row: Row) -> Iterator[str]:
    """Return the cells of one model."""
    torch.manual_seed(0)
    ours, theirs = pair(row)
    x = torch.randn(row.shape)
    differences = {}
    for name, found, expected in row.outputs(ours, theirs, x):
        if expected.is_floating_point() and not expected.std() > 1e-3:
            raise RuntimeError(f"{name} of {row.name} are all the same, so that nothing can be compared")
        differences[name] = difference(found, expected)
    compared = dict.fromkeys(name.rstrip("0123456789 ") for name in differences)
    yield f"`{row.name}`"
    yield f"{sum(p.numel() for p in ours.parameters()):,}"
    yield "×".join(map(str, row.shape))
    yield ", ".join(compared)
    yield f"{max(differences.values()):.1g}"


def main() -> None:
    """Write the page."""
    lines = [f"| {' | '.join(cells(row))} |" for row in track(ROWS, "models")]
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision"))
    PAGE.write_text(f"{INTRODUCTION}{chr(10).join(lines)}\n\nWith {libraries}, on a CPU.\n")


if __name__ == "__main__":
    main()
