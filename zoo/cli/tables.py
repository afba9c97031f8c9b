"""Tables and JSON for the terminal, in plain columns: rich would add 60 ms to commands that take 130."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from zoo.catalogue import Description
    from zoo.features import Feature
    from zoo.weights.inspection import Inspection


def print_json(value: Any) -> None:
    """Print dataclasses, pydantic models and plain values as JSON."""
    click.echo(json.dumps(value, indent=2, default=_plain, ensure_ascii=False))


def print_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns as wide as what is in them."""
    rows = [[_printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    cells = ((cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (header, *rows))
    click.echo("\n".join("  ".join(row).rstrip() for row in cells))  # at once: a call a line takes longer than the rest


def description_text(found: Description) -> str:
    """Return what there is to know of one model or component as text."""
    facts: list[tuple[str, Sequence[str]]] = [
        ("provider", [f"{found.provider} {found.version}"]),
        ("target", [found.target]),
        ("signature", found.signature or ["no parameters"]),
        ("features", [_feature_text(feature) for feature in found.features or ()]),
        ("spec", spec_lines(found.spec) if found.spec else []),
    ]
    lines = [f"{found.kind} {found.name}"]
    for label, values in facts:
        lines += [f"  {label if index == 0 else '':<9}  {value}" for index, value in enumerate(values)]
    return "\n".join(lines) + "\n\n" + found.doc


def _feature_text(feature: Feature) -> str:
    stride = f", stride {feature.stride}" if feature.strides else ""  # a vector has none
    return f"{feature.name}: {feature.shape_text}{stride}"


def spec_lines(spec: Mapping[str, Any]) -> list[str]:
    """Return a spec as JSON, a line a part."""
    parts = [f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in spec.items()]
    return ["{", *(f"{part}," for part in parts[:-1]), *parts[-1:], "}"]


def print_inspection(found: Inspection) -> None:
    """Print what is in a weights file."""
    click.echo(f"{found.file}: {found.size:,} bytes, {len(found.tensors)} tensors, {found.parameters:,} numbers")
    click.echo(
        f"needs {', '.join(f'{name} {version}' for name, version in found.lock.items())}" if found.lock else "no lock"
    )
    if found.record is not None:
        metrics = ", ".join(f"{name} {value:.4f}" for name, value in found.record.metrics.items())
        click.echo(f"trained on {found.record.data} ({found.record.licence}): {metrics}")
    if found.unwrapping is not None and found.unwrapping.within:
        beside = ", ".join(found.unwrapping.beside) or "nothing"
        click.echo(_printable(f"weights in {found.unwrapping.within!r}; beside them {beside}"))
    for cast in found.casts:
        lost = f"{cast.overflowed:,} values were too large, {cast.underflowed:,} became zero"
        click.echo(
            f"{cast.tensors} tensors cast from {cast.source} to {cast.target}: {lost}; before: {cast.fingerprint}"
        )
    click.echo("\n".join(spec_lines(found.spec)) if found.spec else "no spec: a file from elsewhere")
    rows = [(t.name, t.dtype, "×".join(map(str, t.shape)) or "scalar", f"{t.bytes:,}") for t in found.tensors]
    rows += [(alias, "tied", f"to {name}", "0") for alias, name in found.aliases.items()]
    click.echo()
    print_columns(("tensor", "dtype", "shape", "bytes"), rows)


def _printable(text: str) -> str:
    """Show what a stranger's file could do to a terminal instead of doing it."""
    return text if text.isprintable() else repr(text)[1:-1]


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} has no JSON form")
