"""The commands for authors of plugins: start one, and check what it offers."""

from __future__ import annotations

import sys

import click

from zoo.cli import tables

_KINDS = ("backbone", "neck", "bottleneck", "head")


@click.command(short_help="Check that a component or a plugin keeps its contract.")
@click.argument("name", metavar="NAME|DIST")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def check(name: str, as_json: bool) -> None:
    """Check that all that is called NAME, or all that the distribution DIST offers, keeps its contract.

    The exit code is 1 if a check fails or nothing was checked.
    """
    from zoo.testing import check as check_name

    report = check_name(name)
    if as_json:
        tables.print_json(report.to_json())
    else:
        click.echo(str(report))
    if not report.ok:
        sys.exit(1)


@click.command("new-plugin", short_help="Write a new package with one component that works.")
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option("--kind", required=True, type=click.Choice(_KINDS), help="What the package offers.")
@click.option("--name", required=True, help="Its name in specs.")
@click.option("--dist", help="The name of the package for pip; zoo-NAME unless given.")
def new_plugin(folder: str, kind: str, name: str, dist: str | None) -> None:
    """Write a package with one component that works, its tests and its README, into DIR."""
    from zoo.scaffold import new_plugin as write_plugin

    for path in write_plugin(folder, kind=kind, name=name, dist=dist):
        click.echo(path)
    click.echo(f"now: pip install {folder} && zoo check {name}", err=True)


COMMANDS = (check, new_plugin)
