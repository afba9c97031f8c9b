"""Pairs for the benchmark: zoo and a peer in turn, so that both meet the same machine."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

import torch
from rich.console import Console
from rich.table import Table

Side = tuple[str, Callable[[], object]]


@dataclass(frozen=True)
class Row:
    """One comparison: what is done, by us and by a peer, and the least ratio peer / zoo that we aim at (0: no aim)."""

    task: str
    ours: Side
    peer: Side
    aim: float = 0.0
    rounds: int = 7


def process(*command: str) -> Callable[[], object]:
    """Return what runs a command in a process of its own, cold, and throws its output away."""
    return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def measure(row: Row) -> tuple[list[float], list[float]]:
    """Return the seconds of each side, taken in turn after one uncounted round."""
    sides = (row.ours[1], row.peer[1])
    seconds: tuple[list[float], list[float]] = ([], [])
    for counted in [False] + [True] * row.rounds:
        for side, taken in zip(sides, seconds, strict=True):
            start = time.perf_counter()
            result = side()
            elapsed = time.perf_counter() - start
            del result
            if counted:
                taken.append(elapsed)
    return seconds


def print_pairs(rows: Iterable[Row]) -> None:
    """Measure rows one after the other and print a table."""
    table = Table("task", title=f"zoo against its peers: medians, {torch.get_num_threads()} threads")
    for header in ("zoo", "", "peer", "", "peer / zoo", "pairs from … to", "aim"):
        table.add_column(header, justify="left" if not header else "right")
    for row in rows:
        ours, peers = measure(row)
        ratios = sorted(p / o for o, p in zip(ours, peers, strict=True))
        table.add_row(
            row.task,
            f"{median(ours) * 1e3:.1f} ms",
            row.ours[0],
            f"{median(peers) * 1e3:.1f} ms",
            row.peer[0],
            f"{median(ratios):.2f}×",
            f"{ratios[0]:.2f} … {ratios[-1]:.2f}",
            f"{row.aim:.2g}×" if row.aim else "",
        )
    if table.row_count:
        Console(width=max(150, Console().width)).print(table)
