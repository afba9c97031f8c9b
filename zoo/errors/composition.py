"""Errors about specs and the parts that they compose."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath

from registry.errors import ZooError
from registry.problem import Problem
from zoo.messages import printable

_SHOWN = 50  # problems in a message; the attribute has them all


class SpecError(ZooError):
    """A spec is wrong in one place or in several.

    Attributes:
        problems: every problem, each with its path and what would be right.
        file: the spec file that it was read from, or None.
    """

    def __init__(self, problems: Sequence[Problem], file: str | PathLike[str] | None = None) -> None:
        self.problems = tuple(problems)
        self.file = None if file is None else fspath(file)
        where = "" if self.file is None else f"{self.file}: "
        count = "" if len(self.problems) == 1 else f"{len(self.problems)} problems in the spec:\n  "
        shown = [printable(str(problem), 1000) for problem in self.problems[:_SHOWN]]
        if len(self.problems) > _SHOWN:
            shown.append(f"and {len(self.problems) - _SHOWN} more")
        super().__init__(where + count + "\n  ".join(shown))


class SpecFileError(ZooError):
    """A spec file cannot be read, before what it says is even looked at.

    Attributes:
        path: the file.
        reason: what was found and what was expected.
    """

    def __init__(self, path: str | PathLike[str], reason: str) -> None:
        self.path = fspath(path)
        self.reason = reason
        super().__init__(f"{self.path}: {reason}")


class ShapeError(ZooError):
    """Two shapes do not fit: of two parts, or of a part and its input.

    A component raises it with the plain facts; the builder adds ``where``.

    Attributes:
        found: what there is.
        expected: what would fit, and how to get it.
        where: which part of which spec, ``"spec.head (linear)"``; empty until the builder knows.
    """

    def __init__(self, found: str, expected: str, where: str = "") -> None:
        self.found = found
        self.expected = expected
        self.where = where
        super().__init__(f"{where + ': ' if where else ''}found {found}; expected {expected}")


class PartError(ZooError):
    """A component breaks the contract of its kind: what it builds cannot be composed.

    Attributes:
        where: which part, with the provider.
        reason: what it lacks.
    """

    def __init__(self, where: str, reason: str) -> None:
        self.where = where
        self.reason = reason
        super().__init__(f"{where}: {reason}")


class SizeBudgetError(ZooError):
    """A spec describes a larger model than may be built; it was found while composing, before anything was allocated.

    Attributes:
        what: what there is too much of: ``"bytes"``, ``"elements"`` or ``"tensors and modules"``.
        found: how many there were when composing stopped; the whole model may have more.
        limit: how many there may be.
        source: where the limit comes from.
        remedy: what to do.
        where: which part of which spec, ``"spec.head (linear)"``.
    """

    def __init__(self, what: str, found: int, limit: int, source: str, remedy: str, where: str = "") -> None:
        self.what = what
        self.found = found
        self.limit = limit
        self.source = source
        self.remedy = remedy
        self.where = where
        told = f"found at least {found:,} {what}; expected at most {limit:,}, {source}; {remedy}"
        super().__init__(f"{where + ': ' if where else ''}{told}")
