"""Registry: the entries of one entry-point group, by name."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from registry import scan
from registry.entry import LOCAL, Entry
from registry.errors import AmbiguousNameError, BrokenEntryError, NameTakenError, RegistryError, UnknownNameError
from registry.names import canonical, canonical_provider, matches, nearest
from registry.providers import FILTER, Contract, provider_filter
from registry.renamed import Renamed

T = TypeVar("T")

_NOTHING: Any = object()


@dataclass(frozen=True)
class _Index:
    """What one scan holds for one registry."""

    scan: scan.Scan
    every: tuple[Entry, ...]
    named: Mapping[str, tuple[Entry, ...]]


class Registry:
    """The entries of one entry-point group, by name.

    Names compare case-insensitively with ``-`` and ``_`` equal. Listing reads metadata alone; a module is imported on
    the first :meth:`get` of a name that it provides. Entries of ``builtin`` are never shadowed; a name that several
    other distributions offer is ambiguous until it is qualified, ``acme-zoo:tiny``.

    Args:
        group: the entry-point group, ``"zoo.backbones"``.
        kind: what one entry is called in messages, ``"backbone"``.
        builtin: the distribution whose names win.
        check: tells what is wrong with a loaded object, or None if it is fit for use.
        namespaces: a registry of libraries with models of their own: one called ``timm`` makes ``timm:resnet50d`` a
            name here. Each has ``names(kind)``, ``component(kind, name)`` and the name of its ``distribution``.
        contract: what plugins have to be written for; those written for another version are blocked.
        elsewhere: tells, of a kind and a name that is unknown, what has that name instead; empty if nothing has.
    """

    def __init__(
        self,
        group: str,
        *,
        kind: str,
        builtin: str,
        check: Callable[[Any], str | None] | None = None,
        namespaces: Registry | None = None,
        contract: Contract | None = None,
        elsewhere: Callable[[str, str], str] | None = None,
    ) -> None:
        self.group = group
        self.kind = kind
        self._builtin = canonical_provider(builtin)
        self._check = check
        self._namespaces = namespaces
        self._contract = contract
        self._elsewhere = elsewhere
        self._local: dict[str, Entry] = {}
        self._overrides: dict[str, Entry] = {}
        self._loaded: dict[Entry, Any] = {}
        self._broken: dict[Entry, BrokenEntryError] = {}
        self._within: dict[Entry, tuple[Any, Mapping[str, Entry]]] = {}
        self._known: _Index | None = None
        self._quick: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"Registry({self.group!r}, kind={self.kind!r})"

    def __contains__(self, name: str) -> bool:
        return bool(self.candidates(name))

    def entries(self, pattern: str = "*", *, blocked: bool = False) -> tuple[Entry, ...]:
        """Return the entries whose name fits a shell pattern, sorted by name; nothing is imported.

        The names of a library with models of its own are listed for a pattern that names it, ``"timm:*"``, alone, for
        that imports the library.

        Args:
            pattern: a shell pattern.
            blocked: whether to return those too that no name stands for, because their provider is blocked.
        """
        namespace, _, within = pattern.rpartition(":")
        if namespace and self._namespaces is not None and namespace in self._namespaces:
            named = self._of_namespace(namespace).values()
            return tuple(e for e in named if matches(e.name.partition(":")[2], within))
        every = self._index().every
        if self._local or self._overrides:
            own = (*self._local.values(), *self._overrides.values())
            every = tuple(sorted((*every, *own), key=lambda e: (canonical(e.name), e.provider)))
        return tuple(e for e in every if (blocked or not e.blocked) and (pattern == "*" or matches(e.name, pattern)))

    def names(self, pattern: str = "*") -> list[str]:
        """Return the names that fit a shell pattern, each once, sorted; nothing is imported."""
        return list(dict.fromkeys(e.name for e in self.entries(pattern)))

    def find(self, name: str) -> Entry:
        """Return the entry that a name stands for; nothing is imported, unless the name is one of a library's.

        Args:
            name: ``"tiny"``, or ``"acme-zoo:tiny"`` for the one of that distribution.

        Raises:
            UnknownNameError: no entry has this name.
            AmbiguousNameError: several distributions offer it.
        """
        candidates = self.candidates(name)
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            raise AmbiguousNameError(self.kind, name, candidates)
        raise self._unknown(name)

    def resolve(self, name: str) -> tuple[Entry, Any]:
        """Return the entry that a name stands for and what it points at.

        An old name leads to the new one, with a warning.

        Raises:
            UnknownNameError: no entry has this name.
            AmbiguousNameError: several distributions offer it.
            BrokenEntryError: it cannot be imported or is not what this registry holds.
        """
        passed: list[Entry] = []
        entry = self.find(name)
        while isinstance(loaded := self.load(entry), Renamed):
            passed.append(entry)
            since = f" since {entry.provider} {loaded.since}" if loaded.since else ""
            warnings.warn(f"{self.kind} {entry.name!r} is called {loaded.to!r}{since}", FutureWarning, stacklevel=3)
            entry = self.find(loaded.to)
            if entry in passed:
                raise BrokenEntryError(entry, f"its new names lead back to {entry.name!r}")
        return entry, loaded

    def get(self, name: str) -> Any:
        """Return what a name stands for; the first call imports it, the next ones look it up.

        Raises:
            UnknownNameError: no entry has this name.
            AmbiguousNameError: several distributions offer it.
            BrokenEntryError: it cannot be imported or is not what this registry holds.
        """
        if self._known is not None and self._known.scan is scan.current():
            found = self._quick.get(name, _NOTHING)
            if found is not _NOTHING:
                return found
        entry, loaded = self.resolve(name)
        if not entry.namespace and not isinstance(self._loaded.get(self.find(name)), Renamed):
            self._quick[name] = loaded
        return loaded

    def load(self, entry: Entry) -> Any:
        """Return what an entry of this registry stands for; the first call imports it.

        A failure is remembered too, until :func:`registry.refresh`: a broken plugin is imported once.

        Raises:
            BrokenEntryError: it cannot be imported or is not what this registry holds.
        """
        if entry in self._loaded:
            return self._loaded[entry]
        if entry in self._broken:
            raise BrokenEntryError(entry, self._broken[entry].reason) from self._broken[entry].__cause__
        # No lock: importlib has one a module, and holding ours around it would deadlock with a plugin that asks the
        # registry while it is being imported.
        try:
            if entry.namespace and self._namespaces is not None:
                loaded = self._namespaces.get(entry.namespace).component(self.kind, entry.name.partition(":")[2])
            else:
                loaded = entry.load()
            self._refuse_unfit(entry, loaded)
        except BrokenEntryError as error:
            self._broken[entry] = error
            raise
        return self._loaded.setdefault(entry, loaded)

    @overload
    def register(self, name: str, target: object, *, override: bool = False) -> Entry: ...
    @overload
    def register(self, name: str, *, override: bool = False) -> Callable[[T], T]: ...
    def register(self, name: str, target: Any = _NOTHING, *, override: bool = False) -> Any:
        """Register a name for this process alone: for notebooks and tests. Without a target it is a decorator.

        Args:
            name: a name that nothing has yet.
            target: the object, or ``"package.module:attribute"`` to import it on first use.
            override: whether to take a name that is there already, a built-in one too; :meth:`unregister` gives it
                back.

        Raises:
            NameTakenError: an entry has this name already and ``override`` was not asked for. The same target again,
                from a module that is loaded anew, is no conflict.
            BrokenEntryError: the target is not what this registry holds.
        """
        if target is _NOTHING:

            def decorate(decorated: T) -> T:
                self.register(name, decorated, override=override)
                return decorated

            return decorate
        if ":" in name:
            raise RegistryError(f"{self.kind} {name!r} cannot be registered: ':' stands between a provider and a name")
        entry = Entry(self.kind, name, target if isinstance(target, str) else _where(target), LOCAL, "")
        taken = [e for e in self.candidates(name) if (e.name, e.target, e.provider) != (name, entry.target, LOCAL)]
        if taken and not override:
            raise NameTakenError(self.kind, name, taken[0])
        if not isinstance(target, str):
            self._refuse_unfit(entry, target)
            self._loaded[entry] = target
        (self._overrides if override else self._local)[canonical(name)] = entry
        self._quick.clear()
        return entry

    def unregister(self, name: str) -> None:
        """Take back what :meth:`register` did.

        Raises:
            UnknownNameError: nothing was registered by hand under this name.
        """
        form = canonical(name)
        entry = self._overrides.pop(form, None) or self._local.pop(form, None)
        if entry is None:
            local = [e.name for e in (*self._local.values(), *self._overrides.values())]
            raise UnknownNameError(self.kind, name, local, nearest(name, local))
        self._loaded.pop(entry, None)
        self._broken.pop(entry, None)
        self._quick.clear()

    @contextmanager
    def overriding(self, name: str, target: object) -> Iterator[Entry]:
        """Let a name stand for something else within a ``with`` block; after it, all is as before, on errors too.

        Args:
            name: any name, a built-in one too.
            target: the object, or ``"package.module:attribute"``.

        Raises:
            BrokenEntryError: the target is not what this registry holds.
        """
        before = self._overrides.get(canonical(name))
        kept = None if before is None else self._loaded.get(before, _NOTHING)
        entry = self.register(name, target, override=True)
        try:
            yield entry
        finally:
            self.unregister(name)
            if before is not None:
                self._overrides[canonical(name)] = before
                if kept is not _NOTHING:
                    self._loaded[before] = kept
                self._quick.clear()

    def candidates(self, name: str) -> tuple[Entry, ...]:
        """Return the entries that a name could stand for: one if it is clear, none if it is unknown."""
        provider, _, short = name.rpartition(":")
        form = canonical(short)
        if form in self._overrides and (not provider or provider == LOCAL):
            return (self._overrides[form],)
        there = tuple(e for e in self._index().named.get(form, ()) if not e.blocked)
        if form in self._local:
            there = (*there, self._local[form])
        if not provider:
            return tuple(e for e in there if e.provider == self._builtin) or there
        wanted = canonical_provider(provider)
        found = tuple(e for e in there if e.provider == wanted)
        if not found and self._namespaces is not None and provider in self._namespaces:
            within = self._of_namespace(provider).get(form)
            found = (within,) if within else ()
        return found

    def state(self, entry: Entry) -> tuple[str, str]:
        """Tell how an entry of this registry stands, and why; nothing is imported.

        Returns:
            ``ok``, ``not loaded``, ``broken``, ``blocked``, ``ambiguous`` or ``shadowed``, and the reason, which may
            be empty.
        """
        if entry.blocked:
            return "blocked", entry.blocked
        if entry in self._broken or entry.malformed:
            return "broken", self._broken[entry].reason if entry in self._broken else entry.malformed
        winners = self.candidates(entry.name) if not entry.namespace else (entry,)
        if entry not in winners:
            return "shadowed", f"{winners[0].qualified_name} comes first; ask for {entry.qualified_name}"
        if len(winners) > 1:
            others = " and ".join(w.provider for w in winners if w != entry)
            return "ambiguous", f"{others} offers it too; ask for {entry.qualified_name}"
        return ("ok" if entry in self._loaded else "not loaded"), ""

    def _unknown(self, name: str) -> UnknownNameError:
        known = self.names()
        namespace, _, short = name.rpartition(":")
        stopped = [e for e in self._index().named.get(canonical(short), ()) if e.blocked]
        if stopped:
            hint = "".join(f"; {e.provider} {e.version} offers it, but {e.blocked}" for e in stopped)
            return UnknownNameError(self.kind, name, known, (), hint)
        elsewhere = self._elsewhere(self.kind, name) if self._elsewhere else ""
        if namespace and self._namespaces is not None and namespace in self._namespaces:
            alike = nearest(name, [e.name for e in self._of_namespace(namespace).values()])
            return UnknownNameError(self.kind, name, known, alike, f", and the names of {namespace}", elsewhere)
        return UnknownNameError(self.kind, name, known, nearest(short, known), elsewhere=elsewhere)

    def _of_namespace(self, name: str) -> Mapping[str, Entry]:
        """Return the entries of a library with models of its own, by the canonical form of their name within it.

        The first call imports the library.
        """
        from importlib.metadata import version

        if self._namespaces is None:
            return {}
        told = self._namespaces.find(name)
        library = self._namespaces.load(told)
        if told not in self._within or self._within[told][0] is not library:
            source = (canonical_provider(library.distribution), version(library.distribution))
            entries = [
                Entry(self.kind, f"{told.name}:{model}", told.target, *source, namespace=told.name)
                for model in library.names(self.kind)
            ]
            self._within[told] = (library, {canonical(e.name.partition(":")[2]): e for e in entries})
        return self._within[told][1]

    def _refuse_unfit(self, entry: Entry, loaded: Any) -> None:
        reason = self._check(loaded) if self._check and not isinstance(loaded, Renamed) else None
        if reason is not None:
            raise BrokenEntryError(entry, reason)

    def _index(self) -> _Index:
        latest = scan.latest()
        known = self._known
        if known is None or known.scan is not latest:
            if known is not None:  # what was broken may have been mended since
                self._broken.clear()
                self._quick.clear()
            known = self._known = self._read(latest)
        return known

    def _read(self, found: scan.Scan) -> _Index:
        text = os.environ.get(FILTER, "")
        wanted = provider_filter(text)
        contract = self._contract
        stated = {p.name: point.name for point, p in found.group(contract.group)} if contract else {}
        reasons = {self._builtin: ""}
        entries = []
        for point, provider in found.group(self.group):
            if provider.name not in reasons:
                by_filter = "" if wanted(provider.name) else f"it is blocked by {FILTER}={text}"
                reasons[provider.name] = by_filter or (contract.fault(stated.get(provider.name)) if contract else "")
            source = (point.value, provider.name, provider.version)
            entries.append(Entry(self.kind, point.name, *source, blocked=reasons[provider.name]))
        named: dict[str, list[Entry]] = {}
        for entry in entries:
            named.setdefault(canonical(entry.name), []).append(entry)
        named = {form: sorted(named[form], key=lambda e: e.provider) for form in sorted(named)}
        every = tuple(entry for same in named.values() for entry in same)
        return _Index(found, every, {form: tuple(same) for form, same in named.items()})


def _where(target: object) -> str:
    return f"{getattr(target, '__module__', '?')}:{getattr(target, '__qualname__', type(target).__name__)}"
