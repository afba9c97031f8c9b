"""What can go wrong with a registry, and the root of every error that this distribution raises.

The root lives on the lowest floor so that one ``except ZooError`` catches all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry.entry import Entry


class ZooError(Exception):
    """Root of every error that ``zoo`` and ``registry`` raise on purpose; the facts are attributes."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls the class with ``args`` alone, which no constructor below accepts: without this an error
        # that is raised in a DataLoader worker could not be sent to its parent.
        return _restore, (type(self), self.args, dict(self.__dict__))


def _restore(kind: type[ZooError], args: tuple[Any, ...], facts: dict[str, Any]) -> ZooError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(facts)
    return error


class RegistryError(ZooError):
    """Root of the errors about names, entries and providers."""


class UnknownNameError(RegistryError):
    """No entry has this name.

    Attributes:
        kind: what was asked for, ``"backbone"``, say.
        name: the name as it was given.
        known: the names that there are.
        nearest: those of them that look like it, the best first.
        elsewhere: what the name is instead, and what to write then; empty if it is nothing at all.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        known: Sequence[str],
        nearest: Sequence[str],
        hint: str = "",
        elsewhere: str = "",
    ) -> None:
        self.kind = kind
        self.name = name
        self.known = tuple(known)
        self.nearest = tuple(nearest)
        self.elsewhere = elsewhere
        guess = f" (did you mean {' or '.join(self.nearest)}?)" if self.nearest else ""
        there = ", ".join(self.known) if self.known else "none"
        super().__init__(elsewhere or f"unknown {kind} {name!r}{guess}; registered: {there}{hint}")


class AmbiguousNameError(RegistryError):
    """Several distributions offer one name and nothing says which one is meant.

    Attributes:
        kind: what was asked for.
        name: the name as it was given.
        candidates: the entries that have it.
    """

    def __init__(self, kind: str, name: str, candidates: Sequence[Entry]) -> None:
        self.kind = kind
        self.name = name
        self.candidates = tuple(candidates)
        offers = " and ".join(f"{e.source} ({e.target})" for e in self.candidates)
        picks = " or ".join(repr(e.qualified_name) for e in self.candidates)
        super().__init__(f"{kind} {name!r} is ambiguous: {offers} offer it; ask for {picks}")


class BrokenEntryError(RegistryError):
    """An entry exists, but what it points at cannot be used.

    Attributes:
        entry: the entry, with its distribution and version.
        reason: what is wrong, in words; the exception that it came from is ``__cause__``.
    """

    def __init__(self, entry: Entry, reason: str) -> None:
        self.entry = entry
        self.reason = reason
        super().__init__(
            f"{entry.kind} {entry.name!r} of {entry.source} ({entry.target}) is broken: {reason}; "
            f"update or remove {entry.provider}, everything else works without it"
        )


class NameTakenError(RegistryError):
    """A registration by hand would hide an entry that is there already.

    Attributes:
        kind: what was to be registered.
        name: the name as it was given.
        taken: the entry that has it.
    """

    def __init__(self, kind: str, name: str, taken: Entry) -> None:
        self.kind = kind
        self.name = name
        self.taken = taken
        super().__init__(f"{kind} {name!r} is taken by {taken.source} ({taken.target}); choose another name")


class SignatureError(RegistryError):
    """The signature of a component cannot serve as its schema.

    Attributes:
        target: the component, as ``module:name``.
        reason: which parameter is at fault, and why.
    """

    def __init__(self, target: str, reason: str) -> None:
        self.target = target
        self.reason = reason
        super().__init__(f"the signature of {target} cannot serve as a schema: {reason}")
