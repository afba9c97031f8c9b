"""``zoo plugins`` and ``zoo explain``: who offers what, and why a name means what it means."""

from __future__ import annotations

import click

from zoo.cli import tables


@click.command(short_help="List every distribution that offers something.")
@click.option("--load", is_flag=True, help="Import every entry, to find out which are broken.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def plugins(load: bool, as_json: bool) -> None:
    """List every distribution that offers something: version, place, entries and their states.

    Without --load nothing is imported. The exit code is 1 if something is broken.
    """
    from zoo.plugins import plugins as all_plugins

    found = all_plugins(load=load)
    if as_json:
        tables.print_json(found)
    else:
        for plugin in found:
            click.echo(f"{plugin.name} {plugin.version}  {plugin.location}".rstrip())
            if plugin.reason:
                click.echo(f"  broken: {plugin.reason}")
            tables.print_columns(
                ("  kind", "name", "state", "reason"),
                [(f"  {e.kind}", e.name, e.state, e.reason) for e in plugin.entries],
            )
    if any(plugin.state == "broken" for plugin in found):
        raise SystemExit(1)


@click.command(short_help="Tell which entry a name stands for, and why.")
@click.argument("name", metavar="NAME")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def explain(name: str, as_json: bool) -> None:
    """Tell which entries are called NAME, which one is meant, and why; nothing is imported."""
    from zoo.plugins import explain as explain_name

    found = explain_name(name)
    if as_json:
        tables.print_json(found)
        return
    for each in found:
        click.echo(f"{each.kind} {each.name}: {each.chosen or 'no single one'}, for {each.why}")
        tables.print_columns(
            ("  candidate", "target", "state", "reason"),
            [(f"  {c.provider} {c.version}", c.target, c.state, c.reason) for c in each.candidates],
        )
