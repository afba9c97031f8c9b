"""Errors of what is built around models: images, checks, new plugins."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING

from registry.errors import ZooError

if TYPE_CHECKING:
    from zoo.testing.report import Result


class ImageError(ZooError):
    """A file cannot be read as an image.

    Attributes:
        path: the file.
        reason: why.
    """

    def __init__(self, path: str | PathLike[str], reason: str) -> None:
        self.path = fspath(path)
        self.reason = reason
        super().__init__(f"{self.path}: {reason}" if self.path else reason)


class CheckError(ZooError):
    """A component or a format does not keep its contract, or there was nothing to check.

    Attributes:
        failures: the checks that failed (:class:`zoo.testing.Result`); empty if nothing ran.
    """

    def __init__(self, failures: Sequence[Result]) -> None:
        self.failures = tuple(failures)
        told = "\n  ".join(f"{f.subject}: {f.name}: {f.why}" for f in self.failures)
        super().__init__(told or "nothing was checked; name a component, a format or a distribution that offers some")


class ScaffoldError(ZooError):
    """A new plugin cannot be written.

    Attributes:
        reason: what was found, what was expected, what to do.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)
