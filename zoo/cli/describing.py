"""``zoo describe``: what is known of a name, and of a model also what it is like inside."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import click

from zoo.cli import tables

if TYPE_CHECKING:
    from zoo.anatomy.record import Plan
    from zoo.catalogue import Description

_EXAMPLES = "channels and size, such as 3x320x320 for images, 1x1000 for signals, 1x16x112x112 for volumes"


def _shape(_ctx: click.Context, _option: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Return the channels and the size of an input that are meant by ``3x320x320``."""
    if value is None:
        return None
    if not re.fullmatch(r"[1-9][0-9]{0,8}([x×][1-9][0-9]{0,8}){1,3}", value, re.ASCII):
        raise click.BadParameter(f"found {value!r}; expected {_EXAMPLES}")
    return tuple(int(number) for number in re.split("[x×]", value))


@click.command(short_help="Tell all about a model or a component.")
@click.argument("name", metavar="NAME|SPECFILE")
@click.option("--size", callback=_shape, metavar="CxHxW", help="Plan for another input: channels and size, 3x320x320.")
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Plan for so many samples.")
@click.option(
    "--dtype",
    type=click.Choice(("float16", "bfloat16", "float32", "float64")),
    default="float32",
    show_default=True,
    help="Plan for weights and activations of this dtype.",
)
@click.option(
    "--depth", type=click.IntRange(min=0), default=2, show_default=True, help="Show so many levels of modules."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text; every level is in it.")
def describe(name: str, size: tuple[int, ...] | None, batch: int, dtype: str, depth: int, as_json: bool) -> None:
    """Tell all about the models and components called NAME: provider, target, signature, doc, features.

    Of a model, and of a SPECFILE, it also tells what is inside: shapes, receptive fields, parameters, multiply-adds and
    memory of its modules, for inference and for training; no weight is allocated.
    """
    from zoo.catalogue import describe as describe_name

    found = [] if _is_spec_file(name) else describe_name(name)
    planned = {each.kind: _plan(name, size, batch, dtype) for each in found if each.kind == "model"}
    if not found:
        planned["model"] = _plan(name, size, batch, dtype)
    elif not planned and size is not None:
        raise click.UsageError(f"--size is for models; {name!r} is a {found[0].kind}")
    if as_json:
        told = [_json(each, planned.get(each.kind)) for each in found] or planned["model"]
        tables.print_json(told)
        return
    for number, each in enumerate(found):
        click.echo(("\n\n" if number else "") + tables.description_text(each))
        if each.kind in planned:
            click.echo()
            _print(planned[each.kind], depth, name)
    if not found:
        _print(planned["model"], depth, name)


def _is_spec_file(name: str) -> bool:
    from zoo import specfile
    from zoo.kinds import KINDS

    return specfile.is_spec_file(name) and not any(name in registry for registry in KINDS.values())


def _plan(name: str, size: tuple[int, ...] | None, batch: int, dtype: str) -> Plan | None:
    """Return the plan of a model, or None if no size of its input is known."""
    from zoo.anatomy.plan import plan
    from zoo.spec import normalise

    if size is not None:
        return plan(name, in_channels=size[0], size=size[1:], batch=batch, dtype=dtype)
    if normalise(name)["input"]["size"] is None:
        return None
    return plan(name, batch=batch, dtype=dtype)


def _print(plan: Plan | None, depth: int, name: str) -> None:
    if plan is None:
        click.echo(f"it takes inputs of any size: zoo describe {name} --size CxHxW tells what is inside", err=True)
        return
    from zoo.anatomy import rendering

    if not sys.stdout.isatty():
        click.echo(rendering.text(plan, depth=depth))
        return
    from rich.console import Console

    Console().print(rendering.rendered(plan, depth=depth))


def _json(found: Description, plan: Plan | None) -> dict[str, Any]:
    return {**vars(found), "plan": plan}
