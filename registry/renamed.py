"""Renamed: what a provider leaves under an old name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Renamed:
    """What a provider leaves under an old name, so that it goes on working with a warning that names the new one.

    Point an entry at an instance: ``old = "acme_zoo.names:OLD"`` with ``OLD = Renamed("new")``.

    Attributes:
        to: the new name, in the same registry; qualified, ``"acme-zoo:new"``, if need be.
        since: the version of the provider that renamed it, for the warning.
    """

    to: str
    since: str = ""
