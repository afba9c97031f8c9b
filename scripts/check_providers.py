"""Check every model of timm and torchvision as a backbone, and write docs/reference/providers.md.

Each is measured on the meta device at the size that it was made for with three channels, and at a larger size with one:
the growth of its maps has to be what their strides say. Results are kept a line a model, so that a run that was stopped
goes on where it was, and so that a model that ends the process is told as such by the next run.
"""

from __future__ import annotations

import json
import logging
import math
import signal
import tempfile
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import torch

from zoo.errors import PartError, ZooError
from zoo.features import Feature
from zoo.layers.extractor import FAULTS, measured
from zoo.providers import timm as timm_provider
from zoo.providers import torchvision as torchvision_provider

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "providers.md"
LIBRARIES = ("torchvision", "timm")
STARTED = "it ended the process that checked it"

INTRODUCTION = """\
# Models of other libraries

`timm:resnet50d` and `torchvision:regnet_y_400mf` are backbones in any spec: every model of timm that gives maps through
its `features_only`, and every classification model of torchvision whose traced graph has maps.
`zoo list backbones "timm:*"` lists their names, and `out_indices` picks among their maps. With `"pooled": true` a model
gives one vector instead, that which its own classifier takes, so that the head `linear` is that classifier:
`{"backbone": {"type": "torchvision:vit_b_16", "pooled": true}, "head": {"type": "linear", "num_classes": 10}}`; a
model of torchvision that has no maps has that vector. Weights of theirs are downloaded only where a spec says
`"pretrained": true`.

This page is written by `scripts/check_providers.py`, which builds each model for its maps on the meta device, where
shapes are true and no number is computed. It compares channels with what the library declares, and strides with how the
maps grow from one size of input to a larger one. A model that reads numbers on its way cannot be measured so, and is
refused. Which models have a vector that makes checkpoints whole stands in
[the page of checkpoints](checkpoints.md), family by family.
"""


def main_checks(library: str, name: str) -> dict[str, Any]:
    """Return what was found of one model: its maps, or the reason why there are none."""
    module: Any = timm_provider if library == "timm" else torchvision_provider
    where = f"{library}:{name}"
    channels, size, *_ = module.made_for(name)
    found: dict[str, Any] = {"family": module.family(name)}
    try:
        usual = measured(where, lambda c, s: module.measure(name, c, s), channels, size, (channels, size))
    except PartError as error:
        return {**found, "reason": error.reason.removeprefix("cannot be a backbone: ")}
    found["maps"] = len(usual)
    more = 2 * math.lcm(*(f.stride for f in usual))
    grown = tuple(n + more for n in size)
    found["strides"] = _strides(usual, size)
    try:
        larger = measured(where, lambda c, s: module.measure(name, c, s), 1, grown, (channels, size))
    except ZooError as error:
        found["larger"] = str(error)
        try:
            module.measure(name, 1, size)
        except FAULTS as fault:
            found["one_channel"] = f"{type(fault).__name__}: {fault}"
        return found
    wrong = [
        f"{small.name}: {small.size} → {large.size}, stride {small.stride}"
        for small, large in zip(usual, larger, strict=True)
        if any((b - a) * small.stride != more for a, b in zip(small.size or (), large.size or (), strict=True))
    ]
    found["strides"] = f"the growth of {'; '.join(wrong)}" if wrong else ""
    return found


def _strides(features: tuple[Feature, ...], size: tuple[int, ...]) -> str:
    """Tell what is wrong with the strides of features at one size, where no larger one can be tried."""
    wrong = [
        f"{f.name}: {f.size} for {size}, stride {f.stride}"
        for f in features
        if any(abs(n / f.stride - m) > 1 for n, m in zip(size, f.size or (), strict=True))
    ]
    return "; ".join(wrong)


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in what takes longer."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"it took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def read(results: Path) -> dict[str, dict[str, Any]]:
    """Return what earlier runs found, by ``library:name``; a later line replaces an earlier one."""
    if not results.exists():
        return {}
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    return {line.pop("model"): line for line in lines}


def check(results: Path, names: dict[str, list[str]], limit: int) -> None:
    """Check every model that has no result yet."""
    done = read(results)
    waiting = [(library, name) for library in names for name in names[library] if f"{library}:{name}" not in done]
    with results.open("a") as file:
        for library, name in waiting:
            model = f"{library}:{name}"
            print(json.dumps({"model": model, "family": "?", "reason": STARTED}), file=file, flush=True)
            try:
                with at_most(limit):
                    found = main_checks(library, name)
            except (*FAULTS, TimeoutError) as fault:
                found = {"family": "?", "reason": f"{type(fault).__name__}: {fault}"}
            print(json.dumps({"model": model, **found}), file=file, flush=True)


def page(found: dict[str, dict[str, Any]], names: dict[str, list[str]]) -> str:
    """Return the page of the docs."""
    parts = [
        INTRODUCTION,
        "| library | version | models | checked | backbones | not |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for library, known in names.items():
        of = [found[f"{library}:{n}"] for n in known if f"{library}:{n}" in found]
        fit = sum("reason" not in one for one in of)
        parts.append(f"| {library} | {version(library)} | {len(known)} | {len(of)} | {fit} | {len(of) - fit} |")
    parts.append("")
    unchecked = sum(len(known) for known in names.values()) - len(found)
    if unchecked:
        parts += [f"The run was stopped before its end: {unchecked} models were not checked.", ""]
    for library, known in names.items():
        of = {n: found[f"{library}:{n}"] for n in known if f"{library}:{n}" in found}
        parts += _section(library, of)
    return "\n".join(parts).rstrip() + "\n"


def _section(library: str, of: dict[str, dict[str, Any]]) -> list[str]:
    fit = {n: one for n, one in of.items() if "reason" not in one}
    parts = [f"## {library}", ""]
    parts += _grouped(
        "cannot be a backbone",
        {n: one["reason"] for n, one in of.items() if "reason" in one},
        f"Every model of {library} that was checked can be a backbone.",
    )
    parts += _grouped(
        "has maps that grow otherwise than their strides say",
        {n: one["strides"] for n, one in fit.items() if one["strides"]},
        "The channels and strides of all the others are as declared.",
    )
    parts += _grouped(
        "takes three channels only",
        {n: one["one_channel"] for n, one in fit.items() if "one_channel" in one},
        "They take one channel as well as three.",
    )
    tied = sorted(n for n, one in fit.items() if "larger" in one and "one_channel" not in one)
    if tied:
        parts += [
            "These do not take the larger input that was tried, which their windows or patches do not divide; their "
            f"strides were compared with their sizes at one input alone: {', '.join(f'`{n}`' for n in tied)}.",
            "",
        ]
    counts = Counter(one["family"] for one in fit.values())
    parts += ["| family | backbones |", "| --- | ---: |"]
    parts += [f"| {family} | {count} |" for family, count in sorted(counts.items())]
    return [*parts, ""]


def _grouped(title: str, reasons: dict[str, str], otherwise: str) -> list[str]:
    if not reasons:
        return [otherwise, ""]
    groups: dict[str, list[str]] = defaultdict(list)
    for name, reason in reasons.items():
        groups[reason].append(name)
    rows = [
        f"| {reason.replace('|', '/')} | {len(names)} | {', '.join(f'`{n}`' for n in sorted(names))} |"
        for reason, names in sorted(groups.items(), key=lambda g: (-len(g[1]), g[0]))
    ]
    return [f"| {title}, because | models | names |", "| --- | ---: | --- |", *rows, ""]


@click.command()
@click.option("--results", type=click.Path(path_type=Path), default=Path(tempfile.gettempdir()) / "zoo-providers.jsonl")
@click.option("--limit", default=120, help="Seconds that one model may take.")
@click.option("--page-only", is_flag=True, help="Write the page from the results that there are.")
def main(results: Path, limit: int, page_only: bool) -> None:
    """Check all models that have no result yet and write the page."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    modules = {"torchvision": torchvision_provider.TORCHVISION, "timm": timm_provider.TIMM}
    names = {library: list(modules[library].names("backbone")) for library in LIBRARIES}
    if not page_only:
        check(results, names, limit)
    PAGE.write_text(page(read(results), names))
    click.echo(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
