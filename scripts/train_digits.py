"""Train lenet, vgg-lite and resnet-lite on scikit-learn's digits, and write the weights that ship with the package.

A few minutes on two cores. The validation part is looked at while training, the test part once, at the end.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import click
import digits
import torch
from rich.progress import Progress
from torch.nn import functional

import zoo

HERE = Path(zoo.__file__).parent / "pretrained"
MODELS = ("lenet", "vgg-lite", "resnet-lite")
SEED = 0
BATCH = 64
PREPROCESSING = zoo.Preprocessing(size=(32, 32), mean=(0.3056,), std=(0.3234,), interpolation="bilinear")


def augmented(images: torch.Tensor) -> torch.Tensor:
    """Turn, shear, scale and shift each image of a batch a little, at random."""
    n = len(images)
    angle, shear = (torch.empty(n).uniform_(-limit, limit) for limit in (0.21, 0.15))
    scale = torch.empty(n).uniform_(0.88, 1.14)
    shift = torch.empty(n, 2).uniform_(-0.16, 0.16)
    rows = torch.stack(
        [
            torch.stack([scale * angle.cos(), shear - scale * angle.sin(), shift[:, 0]], dim=1),
            torch.stack([scale * angle.sin(), scale * angle.cos(), shift[:, 1]], dim=1),
        ],
        dim=1,
    )
    grid = functional.affine_grid(rows, list(images.shape), align_corners=False)
    # What comes in from outside the image is black, which normalised is the smallest value.
    least = images.amin()
    return functional.grid_sample(images - least, grid, align_corners=False) + least


def accuracy(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the share of images that a model in evaluation mode gets right."""
    model.eval()
    with torch.inference_mode():
        return (model(images).argmax(dim=1) == labels).double().mean().item()


def train(name: str, parts: dict[str, digits.Digits], epochs: int, progress: Progress) -> zoo.Model:
    """Train one model: AdamW, linear warm-up over a tenth of the steps, then a cosine to zero."""
    torch.manual_seed(SEED)
    model = zoo.build(name)
    images, labels = parts["train"].inputs(PREPROCESSING), parts["train"].labels
    held, held_labels = parts["validation"].inputs(PREPROCESSING), parts["validation"].labels
    optimiser = torch.optim.AdamW(model.param_groups(), lr=3e-3, weight_decay=0.02)
    steps = epochs * math.ceil(len(images) / BATCH)
    warm = steps // 10
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * max(0, step - warm) / (steps - warm))),
    )
    task = progress.add_task(name, total=epochs)
    for _ in range(epochs):
        model.train()
        for chosen in torch.randperm(len(images)).split(BATCH):
            loss = functional.cross_entropy(model(augmented(images[chosen])), labels[chosen], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        right = accuracy(model, held, held_labels)
        progress.update(task, advance=1, description=f"{name}: loss {loss.item():.3f}, validation {right:.4f}")
    return model


def write(model: zoo.Model, name: str, validation: float, test: float) -> Path:
    """Write the artifact and, beside it, its description with the hash."""
    model.record = zoo.Record(
        data=digits.DATA,
        licence=digits.LICENCE,
        split=digits.SPLIT,
        metrics={"validation_accuracy": round(validation, 4), "test_accuracy": round(test, 4)},
        preprocessing=PREPROCESSING,
        labels=tuple("0123456789"),
    )
    path = zoo.save(model, HERE / f"{name}-digits.safetensors")
    told = {
        "model": name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        **model.record.model_dump(mode="json"),
    }
    path.with_suffix(".json").write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    return path


@click.command()
@click.option("--epochs", default=60, show_default=True)
@click.option("--dry-run", is_flag=True, help="Train and validate only: neither look at the test part nor write files.")
@click.argument("names", nargs=-1, type=click.Choice(MODELS))
def main(epochs: int, dry_run: bool, names: tuple[str, ...]) -> None:
    """Train NAMES (all three unless given)."""
    parts = digits.split()
    with Progress() as progress:
        for name in names or MODELS:
            model = train(name, parts, epochs, progress)
            validation = accuracy(model, parts["validation"].inputs(PREPROCESSING), parts["validation"].labels)
            if dry_run:
                progress.print(f"{name}: validation {validation:.4f}")
                continue
            test = accuracy(model, parts["test"].inputs(PREPROCESSING), parts["test"].labels)
            path = write(model, name, validation, test)
            progress.print(f"{name}: validation {validation:.4f}, test {test:.4f}, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
