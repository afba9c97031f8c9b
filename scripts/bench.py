"""The benchmark: zoo and a peer in turn, in one run; the ratio says more than either time on a shared machine."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

import bench_models
import bench_registry
import bench_weights
import click
import torch
import torchvision
from bench_pairs import Row, print_pairs, process
from torch.utils.flop_counter import FlopCounterMode

import zoo


def planning(name: str) -> Row:
    """Tell the anatomy of a model from its name; the peer counts operations alone."""

    def count() -> int:
        with torch.device("meta"):
            peer = torchvision.models.get_model(name, weights=None).eval()
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                peer(torch.empty(1, 3, 224, 224))
        return counter.get_total_flops()

    return Row(f"plan {name}", (f"zoo.plan({name!r})", lambda: zoo.plan(name)), ("FlopCounterMode", count))


GROUPS = (
    *("list", "build", "plan", "load", "migrate", "convert", "export", "fingerprint", "forward", "train", "memory"),
    "registry",
)


def rows(groups: Collection[str], folder: Path) -> Iterator[Row]:
    """Return the rows of groups; what a row needs is made when it is reached."""
    if "list" in groups:
        zoo_command = str(Path(sys.executable).with_name("zoo"))
        listing = process(sys.executable, "-c", "import timm; timm.list_models()")
        ours = ("zoo list", process(zoo_command, "list"))
        yield Row("list models, cold process", ours, ("timm.list_models()", listing), 15)
    yield from bench_models.rows(groups)
    if "plan" in groups:
        yield planning("resnet152")
    yield from bench_weights.rows(groups, folder)


@click.command()
@click.argument("groups", nargs=-1, type=click.Choice(GROUPS))
def main(groups: tuple[str, ...]) -> None:
    """Run the rows of GROUPS, all of them unless given."""
    chosen = groups or GROUPS
    with tempfile.TemporaryDirectory() as folder:
        print_pairs(rows(chosen, Path(folder)))
        if "memory" in chosen:
            bench_weights.print_memory(Path(folder))
            bench_weights.print_alignment_memory(Path(folder))
    if "registry" in chosen:
        bench_registry.print_curve()


if __name__ == "__main__":
    main()
