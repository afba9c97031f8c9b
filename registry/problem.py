"""Problem: one thing that is wrong with a spec, where, and what would be right."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a value somewhere in a spec.

    Attributes:
        path: where, from the root: ``spec.neck.channels``.
        message: what was found, what was expected, what to do.
        error: the error that it came from, if it came from one.

    >>> print(Problem("spec.neck.chanels", "unknown parameter"))
    spec.neck.chanels: unknown parameter
    """

    path: str
    message: str
    error: Exception | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"
