"""How the command tells our own errors: as a message and an exit code, not as a traceback."""

from __future__ import annotations

from typing import Any

import click

from registry.errors import ZooError


class TellsErrors(click.Command):
    """A command, or a group of them, that does so."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ZooError as error:
            raise click.ClickException(str(error)) from error


class Group(TellsErrors, click.Group):
    """A group of commands whose errors are told so."""
