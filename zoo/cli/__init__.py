"""The ``zoo`` command; each subcommand is thin and calls one public function."""

from zoo.cli.command import main

__all__ = ["main"]
