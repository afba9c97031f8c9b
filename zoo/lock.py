"""The lock: which versions of which distributions a model was made with, and what of them is here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from registry.entry import LOCAL


class LockWarning(UserWarning):
    """A file was made with other versions of its providers than are installed here."""


@dataclass(frozen=True)
class LockComparison:
    """What of a lock is not here as it was.

    Attributes:
        missing: distributions that are not installed, with the version that the lock names.
        changed: those of which another version is installed: the one in the lock and the one here.
        by_hand: whether the lock names something that was registered by hand, in the program that made it.
    """

    missing: Mapping[str, str]
    changed: Mapping[str, tuple[str, str]]
    by_hand: bool

    @property
    def requirements(self) -> tuple[str, ...]:
        """What pip would have to install for all to be as it was, ``acme-zoo==0.3``; the missing ones first."""
        wanted = {**self.missing, **{name: locked for name, (locked, _) in self.changed.items()}}
        return tuple(f"{name}=={locked}" for name, locked in wanted.items())

    def __str__(self) -> str:
        lines = [f"{name} {locked} is not installed" for name, locked in self.missing.items()]
        lines += [f"{name} was {locked}, here is {here}" for name, (locked, here) in self.changed.items()]
        return "; ".join(lines)


def compare_lock(lock: Mapping[str, str]) -> LockComparison:
    """Compare a lock with what is installed.

    >>> compare_lock({"no-such-zoo": "0.3"}).requirements
    ('no-such-zoo==0.3',)
    """
    missing: dict[str, str] = {}
    changed: dict[str, tuple[str, str]] = {}
    for name, locked in lock.items():
        if name == LOCAL:
            continue
        try:
            here = version(name)
        except PackageNotFoundError:
            missing[name] = locked
        else:
            if here != locked:
                changed[name] = (locked, here)
    return LockComparison(missing, changed, LOCAL in lock)
