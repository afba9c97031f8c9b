"""Errors of what is built around models: images, checks, new plugins."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING

from registry.errors import ZooError
from registry.problem import Problem
from zoo.messages import printable

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


class RecordError(ZooError):
    """What is stated of weights, or of how images are prepared for them, is wrong or not all that there has to be.

    Attributes:
        what: what was to be made, ``"Record"``.
        problems: every problem, each with its path and what would be right.
    """

    def __init__(self, what: str, problems: Sequence[Problem]) -> None:
        self.what = what
        self.problems = tuple(problems)
        count = "" if len(self.problems) == 1 else f"{len(self.problems)} problems in what is stated:\n  "
        shown = [printable(str(problem), 1000) for problem in self.problems]
        super().__init__(f"zoo.{what}: {count}" + "\n  ".join(shown))


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
