"""The benchmark: zoo and a peer in turn, in one run; the ratio says more than either time on a shared machine."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import bench_registry
import click
import timm
import torch
import torchvision
from rich.console import Console
from rich.table import Table

import zoo
import zoo.weights.files

Side = tuple[str, Callable[[], object]]


@dataclass(frozen=True)
class Row:
    """One comparison: what is done, by us and by a peer, and how much faster we aim to be (0: no aim)."""

    task: str
    ours: Side
    peer: Side
    aim: float = 0.0
    rounds: int = 7


def process(*command: str) -> Callable[[], object]:
    """Return what runs a command in a process of its own, cold, and throws its output away."""
    return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def building(name: str) -> Iterator[Row]:
    """Build a model with fresh weights."""
    ours = (f"zoo.build({name!r})", lambda: zoo.build(name))
    yield Row(f"build {name}", ours, ("torchvision", lambda: torchvision.models.get_model(name, weights=None)))
    yield Row(f"build {name}", ours, ("timm", lambda: timm.create_model(name)))


def loading(name: str, aim: float, folder: Path) -> Iterator[Row]:
    """Build a model around the weights in a file."""
    artifact = zoo.save(zoo.build(name), folder / f"{name}.safetensors")
    plain = folder / f"{name}.pth"
    torch.save(torchvision.models.get_model(name, weights=None).state_dict(), plain)

    def peer() -> object:
        model = torchvision.models.get_model(name, weights=None)
        return model.load_state_dict(torch.load(plain, weights_only=True))

    def touched() -> object:
        return [p.sum() for p in zoo.load(artifact).parameters()]

    other = ("torchvision build + torch.load + load_state_dict", peer)
    yield Row(
        f"load {name} ({artifact.stat().st_size / 1e6:.0f} MB)", ("zoo.load", lambda: zoo.load(artifact)), other, aim
    )
    yield Row(f"load {name}, every weight summed", ("zoo.load + sum", touched), other)


def running(name: str, size: int) -> Iterator[Row]:
    """Run a model on one image."""
    image = torch.randn(1, 3, size, size)
    ours, peer = zoo.build(name).eval(), torchvision.models.get_model(name, weights=None).eval()

    def run(model: torch.nn.Module) -> Callable[[], object]:
        return torch.inference_mode()(lambda: model(image))

    yield Row(f"forward {name} 1×3×{size}×{size}", ("zoo", run(ours)), ("torchvision", run(peer)), rounds=31)


def rows(folder: Path) -> Iterator[Row]:
    """Return every row; what a row needs is made when it is reached."""
    zoo_command = str(Path(sys.executable).with_name("zoo"))
    timm_listing = process(sys.executable, "-c", "import timm; timm.list_models()")
    yield Row(
        "list models, cold process",
        ("zoo list", process(zoo_command, "list")),
        ("timm.list_models()", timm_listing),
        15,
    )
    for name in ("resnet18", "vgg16"):
        yield from building(name)
    yield from loading("vgg16", 40, folder)
    for name in ("resnet18", "resnet50"):
        yield from running(name, 224)


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


@click.command()
@click.argument("word", default="")
def main(word: str) -> None:
    """Run the rows whose task contains WORD; "registry" is the curve over the number of installed plugins."""
    table = Table("task", title=f"zoo against its peers: medians, {torch.get_num_threads()} threads")
    for header in ("zoo", "", "peer", "", "peer / zoo", "pairs from … to", "aim"):
        table.add_column(header, justify="left" if not header else "right")
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(Path(folder)):
            if word not in row.task:
                continue
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
                f"{row.aim:.0f}×" if row.aim else "",
            )
    if table.row_count:
        Console(width=max(150, Console().width)).print(table)
    if word in "registry":
        bench_registry.print_curve()


if __name__ == "__main__":
    main()
