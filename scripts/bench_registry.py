"""The registry's curve: how listing and looking up grow with the number of installed plugins, on synthetic metadata."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

ENTRIES_EACH = 10
ROUNDS = 5

_LOOKUP = """
import timeit
from zoo.kinds import backbones
backbones.get('lenet')
print(min(timeit.repeat("backbones.get('lenet')", globals=globals(), number=20000, repeat=5)) / 20000 * 1e6)
"""


def install(folder: Path, distributions: int) -> None:
    """Write the metadata of distributions with ten backbones each; there is no code behind it."""
    for d in range(distributions):
        info = folder / f"plugin_{d}-1.{d}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: plugin-{d}\nVersion: 1.{d}\n\nA long description.\n"
        )
        points = "".join(f"net-{d}-{e} = plugin_{d}.nets:Net{e}\n" for e in range(ENTRIES_EACH))
        (info / "entry_points.txt").write_text(f"[zoo.backbones]\n{points}")


def cold(folder: Path, *command: str) -> float:
    """Return the seconds that a command takes in a process of its own, with a folder on the path."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(folder)})
    return time.perf_counter() - start


def print_curve(distributions: tuple[int, ...] = (1, 10, 100, 1000)) -> None:
    """Print the table: cold listing against the bare scan that it needs, and a warm look-up, at each size."""
    table = Table("distributions", title="the registry, by number of installed plugins")
    for header in (
        "entries",
        "zoo list, cold",
        "entry_points() alone, cold",
        "ratio",
        "pairs from … to",
        "aim",
        "warm get",
    ):
        table.add_column(header, justify="right")
    listing = (str(Path(sys.executable).with_name("zoo")), "list")
    bare = (sys.executable, "-c", "import importlib.metadata as m; m.entry_points()")
    for count in distributions:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            install(folder, count)
            pairs = [(cold(folder, *listing), cold(folder, *bare)) for _ in range(ROUNDS + 1)][1:]
            ratios = sorted(ours / theirs for ours, theirs in pairs)
            env = {**os.environ, "PYTHONPATH": str(folder)}
            warm = subprocess.run([sys.executable, "-c", _LOOKUP], check=True, capture_output=True, text=True, env=env)
            table.add_row(
                f"{count:,}",
                f"{count * ENTRIES_EACH:,}",
                f"{median(p[0] for p in pairs) * 1e3:.0f} ms",
                f"{median(p[1] for p in pairs) * 1e3:.0f} ms",
                f"{median(ratios):.2f}×",
                f"{ratios[0]:.2f} … {ratios[-1]:.2f}",
                "below 3×" if count == max(distributions) else "",
                f"{float(warm.stdout):.2f} µs",
            )
    Console(width=max(130, Console().width)).print(table)


if __name__ == "__main__":
    print_curve()
