"""Which providers count: the environment variable that filters them, and the contract that they were written for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from registry.names import canonical_provider

FILTER = "ZOO_PLUGINS"
"""The environment variable that says whose entries count: ``none``, ``acme-zoo,other`` or ``-acme-zoo``."""


@dataclass(frozen=True)
class Contract:
    """The agreement between an application and its plugins.

    A plugin says which major version it was written for by an entry point in ``group`` whose name is that number; one
    that says nothing is taken to fit.

    Attributes:
        group: the entry-point group, ``"zoo.contract"``.
        version: the major version that the application keeps.
    """

    group: str
    version: int

    def fault(self, stated: str | None) -> str:
        """Tell why a plugin that states a version does not fit, or return nothing if it does."""
        if stated is None or stated == str(self.version):
            return ""
        newer = stated.isdecimal() and int(stated) > self.version
        remedy = "a newer version of the application" if newer else "a newer version of the plugin"
        return f"it was written for contract {stated}, this is contract {self.version}: it needs {remedy}"


def provider_filter(text: str) -> Callable[[str], bool]:
    """Read a filter: empty is all, ``none`` is none, names are only those, ``-name`` is all but that one.

    Returns:
        What tells for the name of a provider whether it counts.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    blocked = {canonical_provider(word[1:]) for word in words if word.startswith("-")}
    allowed = {canonical_provider(word) for word in words if not word.startswith("-")}
    if "none" in allowed:
        return lambda _: False
    return lambda name: name not in blocked and (not allowed or name in allowed)
