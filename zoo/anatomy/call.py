"""Call: one operation as the rules see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zoo.anatomy.reach import Reach

Results = Reach | list[Reach] | None
"""The reach of the one result that matters, of each of several, or None where no result depends on the input."""

Rule = Callable[["Call", Reach], Results]
"""An operation and the reach of its first tensor that has one → that of its results."""


class Call:
    """One operation: its name, what it was given, and what it made.

    Args:
        name: the name without its overload, ``"convolution"``.
        args: its positional arguments.
        kwargs: the others.
        shape: the shape of its first result.
        reaches: of each of its tensors that depends on the input, under its ``id``.
    """

    def __init__(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        shape: tuple[int, ...],
        reaches: Mapping[int, Reach],
    ) -> None:
        self.name = name
        self.args = args
        self.kwargs = kwargs
        self.shape = shape
        self.reaches = reaches

    def arg(self, number: int, otherwise: Any = None) -> Any:
        """Return a positional argument, or what it is where it was left out."""
        return self.args[number] if len(self.args) > number else otherwise

    def axes(self, number: int, dims: int, otherwise: int = 1) -> tuple[int, ...]:
        """Return an argument with one number for each spatial axis, or one for all."""
        given = self.arg(number, ())
        numbers = tuple(given) if isinstance(given, list | tuple) else (given,)
        return numbers * dims if len(numbers) == 1 else numbers or (otherwise,) * dims


def named(rule: Rule, *names: str) -> dict[str, Rule]:
    """Return a table in which several operations have one rule."""
    return dict.fromkeys(names, rule)
