"""Bring a checkpoint of every family of timm and torchvision home, and write docs/reference/checkpoints.md.

Of each family the smallest model is made with random weights, saved as its library saves it, and loaded around its
backbone here, with pooling and a linear head and without. What was loaded with the classifier has to compute what the
library's model does, and to go back to a file that it loads with ``strict=True``.
"""

from __future__ import annotations

import logging
import tempfile
import textwrap
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from tqdm import tqdm

import zoo
from zoo import kinds
from zoo.errors import ZooError
from zoo.providers import timm as timm_provider
from zoo.providers import torchvision as torchvision_provider

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "checkpoints.md"
PROVIDERS: dict[str, Any] = {"torchvision": torchvision_provider, "timm": timm_provider}
LARGEST = 140e6  # parameters of a model that is made for real

INTRODUCTION = """\
# Checkpoints of timm and torchvision

A checkpoint that timm or torchvision saved comes into `timm:…` and `torchvision:…` backbones
[by the library's own names](../how-to/migrate.md#a-model-that-only-timm-or-torchvision-has). This page is written by
`scripts/check_checkpoints.py`, which makes the smallest model of each family with random weights, saves its state dict
and loads it.

**whole**: with the head `linear` every tensor of the file has its place, outputs are the library's to the last bit, and
`zoo convert --to-keymap` gives a file that the library loads with `strict=True`. **with** says what comes before that
head: the maps of the backbone and the neck `gap`, or the backbone with `"pooled": true`, which gives the vector that
the library's own classifier takes. **backbone**: every tensor of the backbone comes from the file; what is behind it
there is left out, and told.
"""


@dataclass(frozen=True)
class Row:
    """What became of the checkpoint of one family."""

    library: str
    family: str
    models: int
    name: str
    outcome: str
    before: str = "–"
    tensors: str = "–"


def randomised(model: nn.Module) -> nn.Module:
    """Give every tensor other values, so that none is right by chance."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                noise = (torch.rand(tensor.shape, generator=generator) - 0.5) * 0.02
                tensor.add_(noise + (0.5 if name.endswith("running_var") else 0))
    return model.eval()


def made(library: str, name: str) -> nn.Module:
    """Return the library's own model, with its classifier."""
    model: nn.Module = kinds.providers.get(library).whole("backbone", name)[0]
    return model


class _LargerError(Exception):
    """A model is larger than one that is known."""


def parameters_of(library: str, name: str, least: float) -> float:
    """Return how many parameters a model has; infinity if more than ``least``, or if it cannot be made here."""
    count = 0

    def add(_: nn.Module, __: str, parameter: nn.Parameter) -> None:
        nonlocal count
        count += parameter.numel()
        if count > least:
            raise _LargerError

    handle = register_module_parameter_registration_hook(add)
    try:
        with torch.device("meta"):
            return sum(each.numel() for each in made(library, name).parameters())
    except Exception:  # it is larger; or a constructor raises, which may be anything on the meta device
        return float("inf")
    finally:
        handle.remove()


def smallest(library: str, names: list[str]) -> tuple[str, float]:
    """Return the smallest of several models, and how many parameters it has; of none that can be made the first."""
    best, least = names[0], float("inf")
    for name in names:
        parameters = parameters_of(library, name, least)
        if parameters < least:
            best, least = name, parameters
    return best, least


def brought(library: str, name: str, folder: Path) -> tuple[str, str, str]:
    """Bring a checkpoint home, and tell how far: the outcome, with what, and how many of its tensors have a place."""
    torch.manual_seed(0)
    theirs = randomised(made(library, name))
    state = theirs.state_dict()
    path = folder / "theirs.pth"
    torch.save(state, path)
    channels, size, _ = PROVIDERS[library].made_for(name)
    before, model = loaded(path, state, f"{library}:{name}", (channels, *size))
    assert model.migration is not None
    assert model.migration.renaming is not None
    tensors = f"{model.migration.renaming.renamed} of {len(state)}"
    if model.head is None:
        return "backbone", before, tensors
    image = torch.rand(1, channels, *size)
    with torch.no_grad():
        ours, expected = model(image), theirs(image)
    if not (expected.isfinite().all() and torch.equal(ours, expected)):
        raise click.ClickException(f"{library}:{name}: the outputs differ, or are not finite")
    zoo.convert(zoo.save(model, folder / "ours.pt"), folder / "back.pth", to_keymap=library)
    back = torch.load(folder / "back.pth", weights_only=True)
    failed = ""
    for form in kinds.providers.get(library).whole("backbone", name):  # with classifiers on the way, and without
        try:
            form.load_state_dict(back, strict=True)
        except (RuntimeError, ValueError) as error:  # mnasnet asks for a version that only its own state dicts carry
            failed = failed or textwrap.shorten(str(error), 120, placeholder=" …")
        else:
            return "whole", before, tensors
    return f"whole, one way: {failed}", before, tensors


def loaded(path: Path, state: Mapping[str, torch.Tensor], name: str, shape: Sequence[int]) -> tuple[str, zoo.Model]:
    """Load a checkpoint into the model that takes most of it, and tell what is before its head.

    Raises:
        ZooError: not even the backbone takes it.
    """
    classifier = [tensor for tensor in state.values() if tensor.dim() == 2]
    head = {"type": "linear", "num_classes": len(classifier[-1]) if classifier else 1000}
    given = {"input": {"channels": shape[0], "size": list(shape[1:])}}
    maps, pooled = {**given, "backbone": name}, {**given, "backbone": {"type": name, "pooled": True}}
    ways = [
        ("`gap`", {**maps, "neck": "gap", "head": head}),
        ("`pooled`", {**pooled, "head": head}),
        ("`pooled`", {**pooled, "head": {**head, "bias": False}}),
    ]
    for before, spec in ways:
        with suppress(ZooError):
            return before, zoo.load(path, spec=spec)
    trunks = []
    for before, spec in (("maps", maps), ("`pooled`", pooled)):
        try:
            trunks.append((before, zoo.load(path, spec=spec)))
        except ZooError as error:
            refused = error
    if not trunks:
        raise refused
    return max(trunks, key=lambda each: len(each[1].state_dict()))


def rows(library: str) -> list[Row]:
    """Return a row for each family of a library."""
    provider = PROVIDERS[library]
    families: defaultdict[str, list[str]] = defaultdict(list)
    for name in kinds.providers.get(library).names("backbone"):
        families[provider.family(name)].append(name)
    found = []
    for family, names in tqdm(families.items(), desc=library):
        name, parameters = smallest(library, names)
        if parameters > LARGEST:
            found.append(Row(library, family, len(names), name, f"not tried: {parameters:.2g} parameters"))
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                outcome = brought(library, name, Path(folder))
            except ZooError as error:
                told = str(error).partition("\n")[0].removeprefix(f"{folder}/theirs.pth: ").replace("|", "/")
                reason = textwrap.shorten(told, 120, placeholder=" …")
                found.append(Row(library, family, len(names), name, f"no: {reason}"))
                continue
        found.append(Row(library, family, len(names), name, *outcome))
    return found


def page(found: list[Row]) -> str:
    """Return the page."""
    lines = [INTRODUCTION]
    for library in PROVIDERS:
        own = [row for row in found if row.library == library]
        counts = Counter(row.outcome.partition(":")[0].partition(",")[0] for row in own)
        told = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
        lines += [f"## {library} {version(library)}", "", f"Of {len(own)} families: {told}.", ""]
        lines += [
            "| family | models | tried | comes home | with | tensors |",
            "| --- | ---: | --- | --- | --- | ---: |",
        ]
        lines += [
            f"| {row.family} | {row.models} | `{row.name}` | {row.outcome} | {row.before} | {row.tensors} |"
            for row in sorted(own, key=lambda row: row.family)
        ]
        lines.append("")
    return "\n".join(lines)


@click.command()
@click.option("--only", type=click.Choice(list(PROVIDERS)), help="One library; the page is printed, not written.")
def main(only: str | None) -> None:
    """Bring a checkpoint of every family home, and write the page."""
    warnings.simplefilter("ignore")  # of libraries about themselves
    logging.disable(logging.WARNING)
    found = [row for library in PROVIDERS if only in (None, library) for row in rows(library)]
    if only is not None:
        click.echo(page(found))
        return
    PAGE.write_text(page(found))
    click.echo(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
