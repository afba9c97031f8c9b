"""Entry: one registered name, who provides it and what it points at."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from functools import reduce
from typing import Any

from registry.errors import BrokenEntryError

_TARGET = re.compile(r"(?P<module>\w+(\.\w+)*):(?P<attribute>\w+(\.\w+)*)")

LOCAL = "local"
"""The provider of what a running program registered by hand."""


@dataclass(frozen=True)
class Entry:
    """One registered name.

    Attributes:
        kind: what it is: ``"backbone"``, ``"format"`` …
        name: as its provider spells it.
        target: where it is, ``package.module:attribute``; nothing has imported it yet.
        provider: the installed distribution that it comes from.
        version: the version of that distribution.
        namespace: the namespace that made it, for a library with models of its own; its name then begins with it.
        blocked: why no name stands for it, or nothing.
    """

    kind: str
    name: str
    target: str
    provider: str
    version: str
    namespace: str = ""
    blocked: str = ""

    @property
    def qualified_name(self) -> str:
        """``provider:name``, which is never ambiguous."""
        return self.name if self.namespace else f"{self.provider}:{self.name}"

    @property
    def source(self) -> str:
        """Who provides it, for messages: ``acme-zoo 0.3``."""
        return f"{self.provider} {self.version}".rstrip()

    @property
    def malformed(self) -> str:
        """What is wrong with the target as text, or nothing."""
        return "" if _TARGET.fullmatch(self.target.strip()) else "its value is not of the form package.module:attribute"

    def load(self) -> Any:
        """Import the module and return what the entry points at.

        Raises:
            BrokenEntryError: the target is malformed, its import fails in any way (``SystemExit`` included), or the
                module has no such attribute.
        """
        found = _TARGET.fullmatch(self.target.strip())
        if found is None:
            raise BrokenEntryError(self, self.malformed)
        module = None
        try:
            module = importlib.import_module(found["module"])
            return reduce(getattr, found["attribute"].split("."), module)
        except AttributeError as cause:
            if module is None:
                raise BrokenEntryError(self, f"importing it raised AttributeError: {cause}") from cause
            where = getattr(module, "__file__", None) or found["module"]
            raise BrokenEntryError(self, f"{where} has no attribute {found['attribute']!r}") from cause
        except KeyboardInterrupt:
            raise
        except BaseException as cause:  # a plugin may raise anything at all, SystemExit included
            raise BrokenEntryError(self, f"importing it raised {type(cause).__name__}: {cause}") from cause
