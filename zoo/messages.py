"""How names and what strangers wrote are quoted in messages: briefly, and as a terminal can show it."""

from __future__ import annotations

from collections.abc import Sequence


def some(names: Sequence[str], most: int = 5) -> str:
    """Return names for a message, at most so many of them.

    >>> some(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def printable(message: str, most: int = 4000) -> str:
    """Return a message that may quote a stranger's file as a terminal can show it: no escape sequences, no novels.

    A line that is indented, as those of our own lists are, stays a line.
    """
    shown = message if len(message) <= most else f"{message[:most]}…"
    lines = ("".join(each if each.isprintable() else repr(each)[1:-1] for each in line) for line in shown.split("\n  "))
    return "\n  ".join(lines)
