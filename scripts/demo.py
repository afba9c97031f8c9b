"""The demo: three models on the held-out digits, out in three formats and back, as a table and a contact sheet."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click
import digits
import onnxruntime
import torch
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

import zoo
from zoo.prediction import Prediction
from zoo.weights.parity import TensorParity, compare

MODELS = {"lenet": 0.97, "vgg-lite": 0.98, "resnet-lite": 0.98}
"""The models, and the test accuracy that each has to reach."""

FORMATS = ("pt", "safetensors", "onnx")
ONNXRUNTIME_TOLERANCE = 1e-5
SHOWN = 60


@dataclass(frozen=True)
class Journey:
    """How a model came through one format."""

    format: str
    bytes: int
    tensors: TensorParity
    difference: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """True if every tensor is the same and the outputs agree."""
        return self.tensors.holds and self.difference <= self.tolerance


def travel(model: zoo.Model, images: torch.Tensor, folder: Path, format_: str) -> list[Journey]:
    """Save and load a model; compare tensors and outputs, for ONNX those of onnxruntime too."""
    path = zoo.save(model, folder / f"model.{format_}")
    back = zoo.load(path)
    with torch.inference_mode():
        here, there = model(images), back(images)
    tensors = compare(model.state_dict(), back.state_dict())
    size = path.stat().st_size
    journeys = [Journey(f".{format_}", size, tensors, (here - there).abs().max().item(), 0.0)]
    if format_ == "onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (ran,) = session.run(["logits"], {"image": images.numpy()})
        difference = (here - torch.from_numpy(ran)).abs().max().item()
        journeys.append(Journey("  in onnxruntime", size, tensors, difference, ONNXRUNTIME_TOLERANCE))
    return journeys


def contact_sheet(test: digits.Digits, predictions: list[Prediction], path: Path) -> None:
    """Draw some of the test digits with what a model says of them: its mistakes first, in red."""
    columns, cell = 12, 72
    truths = [str(label) for label in test.labels.tolist()]
    order = sorted(range(len(truths)), key=lambda index: predictions[index].label == truths[index])[:SHOWN]
    sheet = Image.new("RGB", (columns * cell, -(-len(order) // columns) * (cell + 16)), "white")
    draw = ImageDraw.Draw(sheet)
    for place, index in enumerate(order):
        x, y = place % columns * cell, place // columns * (cell + 16)
        sheet.paste(test.images[index].resize((cell - 8, cell - 8), Image.Resampling.NEAREST), (x + 4, y + 4))
        said, truth = predictions[index], truths[index]
        text = f"{said.label}  {said.probability:.0%}" if said.label == truth else f"{said.label}, is {truth}"
        draw.text((x + 8, y + cell - 2), text, fill="black" if said.label == truth else "red")
    sheet.save(path)


@click.command()
@click.option("--sheet", type=click.Path(path_type=Path), default=Path("build/digits.png"), show_default=True)
def main(sheet: Path) -> None:
    """Run the demo; the exit code is 1 if an accuracy or a round trip falls short."""
    test = digits.split()["test"]
    table = Table("model", title=f"{len(test.images)} held-out handwritten digits")
    for header in ("parameters", "test accuracy", "format", "bytes", "tensors bit-equal", "largest difference"):
        table.add_column(header, justify="right" if header != "format" else "left")
    faults = []
    with tempfile.TemporaryDirectory() as folder:
        for name, least in MODELS.items():
            model = zoo.build(name, weights="digits")
            predictions = zoo.predict(model, test.images)
            right = sum(p.label == str(truth) for p, truth in zip(predictions, test.labels.tolist(), strict=True))
            accuracy = right / len(test.images)
            if accuracy < least:
                faults.append(f"{name}: accuracy {accuracy:.4f}, expected at least {least}")
            images = test.inputs(model.record.preprocessing)
            journeys = [j for format_ in FORMATS for j in travel(model, images, Path(folder), format_)]
            faults += [f"{name} through {j.format.strip()}: {j}" for j in journeys if not j.holds]
            parameters = sum(p.numel() for p in model.parameters())
            for index, j in enumerate(journeys):
                facts = (name, f"{parameters:,}", f"{accuracy:.2%}") if index == 0 else ("", "", "")
                last = index == len(journeys) - 1
                table.add_row(*facts, j.format, f"{j.bytes:,}", str(j.tensors), f"{j.difference:.1e}", end_section=last)
    Console(width=max(110, Console().width)).print(table)
    sheet.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(test, predictions, sheet)
    print(f"{SHOWN} of the digits with {name}'s predictions, its mistakes first: {sheet}")
    for fault in faults:
        print(f"FAILED {fault}", file=sys.stderr)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
