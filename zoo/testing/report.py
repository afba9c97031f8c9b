"""Report: what each check found, by name; it is in order only if something ran and nothing failed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from zoo.errors import CheckError

Outcome = Literal["pass", "fail", "skip", "expected-failure"]
"""What came of a check; ``expected-failure`` is one that failed as its author said it would."""


class Fault(Exception):  # noqa: N818 - a finding, not an error: it never leaves this package
    """What a check found wrong."""


class Skip(Exception):  # noqa: N818 - as above
    """Why a check does not apply."""


def fail(why: str) -> NoReturn:
    """End a check: this is wrong."""
    raise Fault(why)


def skip(why: str) -> NoReturn:
    """End a check: there is nothing here that it could look at."""
    raise Skip(why)


def error_text(error: BaseException) -> str:
    r"""Return an error in one line: the first of its message, and of that of the error it goes back to.

    >>> error_text(ValueError("too large\nsee the manual"))
    'ValueError: too large'
    """
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    told = [f"{type(e).__name__}: {str(e).strip().partition(chr(10))[0][:300]}" for e in dict.fromkeys((error, root))]
    return "; from ".join(told)


@dataclass(frozen=True)
class Result:
    """What came of one check.

    Attributes:
        subject: what was checked, with its parameters: ``'backbone tiny {"width": 4}'``.
        name: the name of the check: ``"gradients"``.
        outcome: ``"pass"``, ``"fail"``, ``"skip"`` or ``"expected-failure"``.
        why: what was found and what would be right; empty for a pass.

    >>> print(Result("backbone tiny", "gradients", "fail", "no gradient reaches 'fc.bias'"))
    fail  gradients  no gradient reaches 'fc.bias'
    """

    subject: str
    name: str
    outcome: Outcome
    why: str = ""

    def __str__(self) -> str:
        return f"{self.outcome}  {self.name}  {self.why}".rstrip()


@dataclass(frozen=True)
class Report:
    """What came of several checks.

    >>> Report(()).ok
    False
    >>> Report((Result("backbone tiny", "gradients", "pass"),)).ok
    True
    """

    results: tuple[Result, ...]

    @property
    def ran(self) -> int:
        """How many checks looked at something: all but the skipped ones."""
        return sum(r.outcome != "skip" for r in self.results)

    @property
    def failures(self) -> tuple[Result, ...]:
        """The checks that failed without being expected to, or that were expected to and did not."""
        return tuple(r for r in self.results if r.outcome == "fail")

    @property
    def ok(self) -> bool:
        """True if something ran and nothing failed."""
        return self.ran > 0 and not self.failures

    def raise_for_failures(self) -> None:
        """Do nothing if this report is in order.

        Raises:
            CheckError: something failed, or nothing ran.
        """
        if not self.ok:
            raise CheckError(self.failures)

    def __add__(self, other: Report) -> Report:
        return Report((*self.results, *other.results))

    def __str__(self) -> str:
        width = max((len(r.name) for r in self.results), default=0)
        lines = []
        for subject in dict.fromkeys(r.subject for r in self.results):
            lines.append(subject)
            for r in self.results:
                if r.subject == subject:
                    lines.append(f"  {_MARKS[r.outcome]:<8}  {r.name:<{width}}  {r.why}".rstrip())
        return "\n".join([*lines, self.summary])

    @property
    def summary(self) -> str:
        """How many checks came out how, in one line."""
        counts = [(outcome, sum(r.outcome == outcome for r in self.results)) for outcome in _MARKS]
        told = ", ".join(f"{count} {_NOUNS[outcome]}" for outcome, count in counts if count)
        return told if self.ran else f"{told + '; ' if told else ''}nothing was checked, which is a failure"

    def to_json(self) -> dict[str, Any]:
        """Return this report as plain values."""
        results = [{"subject": r.subject, "name": r.name, "outcome": r.outcome, "why": r.why} for r in self.results]
        return {"ok": self.ok, "ran": self.ran, "results": results}

    @classmethod
    def of(cls, results: Iterable[Result]) -> Report:
        """Return the report of some results."""
        return cls(tuple(results))


_MARKS: dict[Outcome, str] = {"pass": "pass", "fail": "FAIL", "expected-failure": "expected", "skip": "skip"}
_NOUNS: dict[Outcome, str] = {
    "pass": "passed",
    "fail": "failed",
    "expected-failure": "failed as expected",
    "skip": "skipped",
}
