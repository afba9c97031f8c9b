"""Bring the ONNX files of other exporters home, in every disguise, and write docs/reference/migration.md."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import disguises
import strangers
from rich.progress import track
from strangers import COMBINATIONS, LARGE, LARGE_COMBINATIONS, LIGHT, STRANGERS, Combination

import zoo
from zoo.errors import AlignmentError, WeightsError
from zoo.spec import Source

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "migration.md"

INTRODUCTION = """\
# Migration of ONNX files

This page is written by `scripts/check_migration.py`: models of others, filled with random weights and random BatchNorm
statistics, are exported, disguised, and loaded with `zoo.load(file, spec=…)`. The words are explained in
[How to bring a checkpoint home](../how-to/migrate.md). The tests do the same.

An error is the largest difference from a run in float64, over the largest number of a sample, of onnxruntime on the
file, or of the reference implementation of onnx where that is in float64; what it may be is measured on the model.
Times are of the whole load with the proof, on two cores that had other work to do.

- *dynamo* and *legacy* are torch's two exporters, which fold BatchNorm into convolutions unless it says *unfolded*.
- *anonymous*: no name is left, initializers are shuffled, operands are swapped. *shuffled*: nodes are in any order.
  *constants*: weights are Constant nodes. *external*: weights are in another file. *multiplied*: Gemm is MatMul and
  Add, with matrices turned round beforehand. *functions*: all nodes are in functions of the file, and these in others.
  *basic*, *extended*: what onnxruntime makes of it at these levels.
"""

REFUSED = """\
## What is refused

The same for files that are none of the model, or from which no model can come.
"""


def row(name: str, how: str, file: Path, spec: Source) -> list[str]:
    """Return the cells of one file: whose it is, where its tensors are from, how far it is off, how long it took."""
    start = time.perf_counter()
    report = zoo.load(file, spec=spec).migration
    took = time.perf_counter() - start
    if report is None or report.alignment is None or not report.proven:
        raise RuntimeError(f"{name}, {how}: was not aligned and proven")
    counts = report.alignment.counts
    proof = report.proofs[-1]
    return [
        name,
        how,
        *(str(counts.get(kind, 0)) for kind in ("exact", "batchnorm-folded", "identity", "ambiguous")),
        f"{proof.difference:.1e}",
        f"{proof.tolerance:.1e}",
        f"{took:.1f}",
    ]


def rows(combinations: list[Combination], folder: Path) -> Iterator[list[str]]:
    """Return the rows of combinations; what was exported once is not exported again."""
    known: dict[tuple[str, str], Path] = {}
    for name, exporter, disguise in track(combinations, "files"):
        stranger = {**STRANGERS, **LARGE}[name]
        if (name, exporter) not in known:
            for old in folder.iterdir():
                old.unlink()
            known = {(name, exporter): folder / "theirs.onnx"}
            strangers.exported(stranger, exporter, folder / "theirs.onnx")
        file = disguise(known[name, exporter])
        yield row(name, f"{exporter}; {disguise.__name__}", file, stranger.spec())


def refusals(folder: Path) -> Iterator[list[str]]:
    """Return the rows of what is refused, with the message."""
    lenet, resnet = STRANGERS["LeNet-5 as nn.Sequential"], STRANGERS["torchvision ResNet, basic blocks"]
    strangers.exported(lenet, "legacy", folder / "lenet.onnx")
    strangers.exported(resnet, "legacy", folder / "resnet.onnx")
    cases: list[tuple[str, Path, Source]] = [
        ("tanh in the file, ReLU in the model", folder / "lenet.onnx", _lenet(backbone={"activation": "relu"})),
        ("mean in the file, maximum in the model", folder / "lenet.onnx", _lenet(backbone={"pool": "max"})),
        ("10 classes in the file, 11 in the model", folder / "lenet.onnx", _lenet(head={"num_classes": 11})),
        ("another order of the widths", folder / "lenet.onnx", _lenet(bottleneck={"hidden": [84, 120]})),
        ("laid out for one machine", disguises.all_of_them(folder / "resnet.onnx"), resnet.spec()),
        ("quantised", disguises.quantised(folder / "lenet.onnx"), "lenet"),
        *(
            (f"`{path.stem}` of onnx", path, "vgg19")
            for path in sorted(LIGHT.glob("*.onnx"))
            if "vgg19" not in path.stem
        ),
    ]
    for what, file, spec in track(cases, "refusals"):
        try:
            zoo.load(file, spec=spec)
        except WeightsError as error:
            shown = error.advising("") if isinstance(error, AlignmentError) else error  # the remedy has the path
            told = str(shown).partition(": ")[2].replace("|", "\\|")
            yield [what, told]
        else:
            raise RuntimeError(f"{what}: was loaded")


def _lenet(**changes: dict[str, object]) -> Source:
    return strangers.spec_of("lenet", **changes)


def table(headers: tuple[str, ...], found: Iterator[list[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headers, ["---"] * len(headers), *found))


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="leave out the whole models")
    chosen = COMBINATIONS if parser.parse_args().small else [*COMBINATIONS, *LARGE_COMBINATIONS]
    headers = ("source", "exporter; disguise", "exact", "folded", "identity", "ambiguous", "error", "may be", "seconds")
    light = [("light_resnet50", "resnet50"), ("light_vgg19", "vgg19")]
    with tempfile.TemporaryDirectory() as temporary:
        found = list(rows(chosen, Path(temporary)))
        found += [row(f"`{name}` of onnx", "caffe2; plain", LIGHT / f"{name}.onnx", spec) for name, spec in light]
        loaded = table(headers, iter(found))
        refused = table(("file", "message"), refusals(Path(temporary)))
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "timm", "onnx", "onnxruntime"))
    PAGE.write_text(f"{INTRODUCTION}\n{loaded}\n\n{REFUSED}\n{refused}\n\nWith {libraries}.\n")


if __name__ == "__main__":
    main()
