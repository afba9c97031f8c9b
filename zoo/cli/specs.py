"""``zoo schema`` and ``zoo validate``: what a spec file may say, and whether one says it rightly."""

from __future__ import annotations

import json
from typing import IO

import click

from registry.errors import ZooError


@click.command(short_help="Print a JSON Schema for spec files.")
@click.option(
    "-o",
    "--output",
    type=click.File("w", encoding="utf-8", lazy=False, atomic=True),
    default="-",
    metavar="FILE",
    help="Write it to FILE instead.",
)
def schema(output: IO[str]) -> None:
    """Print a JSON Schema for spec files, made from what is installed; for editors."""
    from zoo.specschema import schema as make

    output.write(json.dumps(make(), indent=2, ensure_ascii=False) + "\n")


@click.command(short_help="Check spec files.")
@click.argument("files", nargs=-1, required=True, metavar="SPECFILE...", type=click.Path())
def validate(files: tuple[str, ...]) -> None:
    """Check each SPECFILE: its names, its parameters, and that its parts fit; no weight is allocated."""
    from zoo.builder import compose
    from zoo.spec import opened

    failed = False
    for file in files:
        try:
            with opened(file) as spec:
                compose(spec, "meta")
        except ZooError as error:
            failed = True
            click.echo(str(error), err=True)
        else:
            click.echo(f"{file}: ok")
    if failed:
        raise click.exceptions.Exit(1)
