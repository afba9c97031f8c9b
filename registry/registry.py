"""Registry: the entries of one entry-point group, by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from registry import scan
from registry.entry import LOCAL, Entry
from registry.errors import AmbiguousNameError, BrokenEntryError, NameTakenError, UnknownNameError
from registry.names import canonical, canonical_provider, matches, nearest

FILTER = "ZOO_PLUGINS"
"""The environment variable that says whose entries count: ``none``, ``acme-zoo,other`` or ``-acme-zoo``."""


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
    """

    def __init__(
        self,
        group: str,
        *,
        kind: str,
        builtin: str,
        check: Callable[[Any], str | None] | None = None,
        namespaces: Registry | None = None,
    ) -> None:
        self.group = group
        self.kind = kind
        self._builtin = canonical_provider(builtin)
        self._check = check or _anything
        self._namespaces = namespaces
        self._local: dict[str, Entry] = {}
        self._loaded: dict[Entry, Any] = {}
        self._within: dict[Entry, tuple[Any, Mapping[str, Entry]]] = {}
        self._index: tuple[scan.Scan, Mapping[str, tuple[Entry, ...]]] | None = None

    def __repr__(self) -> str:
        return f"Registry({self.group!r}, kind={self.kind!r})"

    def __contains__(self, name: str) -> bool:
        return bool(self._candidates(name))

    def entries(self, pattern: str = "*") -> tuple[Entry, ...]:
        """Return the entries whose name fits a shell pattern, sorted by name; nothing is imported.

        The names of a library with models of its own are listed for a pattern that names it, ``"timm:*"``, alone, for
        that imports the library.
        """
        namespace, _, within = pattern.rpartition(":")
        if namespace and self._namespaces is not None and namespace in self._namespaces:
            named = self._of_namespace(namespace).values()
            return tuple(e for e in named if matches(e.name.partition(":")[2], within))
        every = [e for named in self._by_name().values() for e in named] + list(self._local.values())
        return tuple(
            sorted((e for e in every if matches(e.name, pattern)), key=lambda e: (canonical(e.name), e.provider))
        )

    def names(self, pattern: str = "*") -> list[str]:
        """Return the names that fit a shell pattern, each once, sorted; nothing is imported."""
        return list(dict.fromkeys(e.name for e in self.entries(pattern)))

    def find(self, name: str) -> Entry:
        """Return the entry that a name stands for; nothing is imported.

        Args:
            name: ``"tiny"``, or ``"acme-zoo:tiny"`` for the one of that distribution.

        Raises:
            UnknownNameError: no entry has this name.
            AmbiguousNameError: several distributions offer it.
        """
        candidates = self._candidates(name)
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            raise AmbiguousNameError(self.kind, name, candidates)
        known = self.names()
        namespace = name.rpartition(":")[0]
        if namespace and self._namespaces is not None and namespace in self._namespaces:
            alike = nearest(name, [e.name for e in self._of_namespace(namespace).values()])
            raise UnknownNameError(self.kind, name, known, alike, f", and the names of {namespace}")
        raise UnknownNameError(self.kind, name, known, nearest(name.rpartition(":")[2], known))

    def get(self, name: str) -> Any:
        """Return what a name stands for; the first call imports it.

        Raises:
            UnknownNameError: no entry has this name.
            AmbiguousNameError: several distributions offer it.
            BrokenEntryError: it cannot be imported or is not what this registry holds.
        """
        return self.load(self.find(name))

    def load(self, entry: Entry) -> Any:
        """Return what an entry of this registry stands for; the first call imports it.

        Raises:
            BrokenEntryError: it cannot be imported or is not what this registry holds.
        """
        if entry in self._loaded:
            return self._loaded[entry]
        # No lock: importlib has one a module, and holding ours around it would deadlock with a plugin that asks the
        # registry while it is being imported.
        if entry.namespace and self._namespaces is not None:
            loaded = self._namespaces.get(entry.namespace).component(self.kind, entry.name.partition(":")[2])
        else:
            loaded = entry.load()
        reason = self._check(loaded)
        if reason is not None:
            raise BrokenEntryError(entry, reason)
        return self._loaded.setdefault(entry, loaded)

    def register(self, name: str, target: object) -> Entry:
        """Register a name for this process alone: for notebooks and tests.

        Args:
            name: a name that nothing has yet.
            target: the object, or ``"package.module:attribute"`` to import it on first use.

        Raises:
            NameTakenError: an entry has this name already.
        """
        taken = self._candidates(name)
        if isinstance(target, str):
            entry = Entry(self.kind, name, target, LOCAL, "")
        else:
            where = f"{getattr(target, '__module__', '?')}:{getattr(target, '__qualname__', type(target).__name__)}"
            entry = Entry(self.kind, name, where, LOCAL, "")
        if any(t != entry for t in taken):
            raise NameTakenError(self.kind, name, taken[0])
        if not isinstance(target, str):
            reason = self._check(target)
            if reason is not None:
                raise BrokenEntryError(entry, reason)
            self._loaded[entry] = target
        self._local[canonical(name)] = entry
        return entry

    def unregister(self, name: str) -> None:
        """Take back what :meth:`register` did.

        Raises:
            UnknownNameError: nothing was registered by hand under this name.
        """
        entry = self._local.pop(canonical(name), None)
        if entry is None:
            local = [e.name for e in self._local.values()]
            raise UnknownNameError(self.kind, name, local, nearest(name, local))
        self._loaded.pop(entry, None)

    def _candidates(self, name: str) -> tuple[Entry, ...]:
        provider, _, short = name.rpartition(":")
        form = canonical(short)
        there = self._by_name().get(form, ())
        if form in self._local:
            there = (*there, self._local[form])
        if provider:
            wanted = canonical_provider(provider)
            found = tuple(e for e in there if canonical_provider(e.provider) == wanted)
            if not found and self._namespaces is not None and provider in self._namespaces:
                within = self._of_namespace(provider).get(form)
                found = (within,) if within else ()
            return found
        return tuple(e for e in there if canonical_provider(e.provider) == self._builtin) or there

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
            source = (library.distribution, version(library.distribution), told.name)
            entries = (
                Entry(self.kind, f"{told.name}:{model}", told.target, *source) for model in library.names(self.kind)
            )
            self._within[told] = (library, {canonical(e.name.partition(":")[2]): e for e in entries})
        return self._within[told][1]

    def _by_name(self) -> Mapping[str, tuple[Entry, ...]]:
        latest = scan.latest()
        index = self._index
        if index is None or index[0] is not latest:
            index = self._index = (latest, self._read(latest))
        return index[1]

    def _read(self, found: scan.Scan) -> Mapping[str, tuple[Entry, ...]]:
        wanted = _provider_filter(os.environ.get(FILTER, ""))
        named: dict[str, tuple[Entry, ...]] = {}
        for f in found.group(self.group):
            provider = canonical_provider(f.provider)
            if provider == self._builtin or wanted(provider):
                entry = Entry(self.kind, f.name, f.target, f.provider, f.version)
                named[canonical(f.name)] = (*named.get(canonical(f.name), ()), entry)
        return named


def _anything(_: Any) -> None:
    return None


def _provider_filter(text: str) -> Callable[[str], bool]:
    """Read the value of ``ZOO_PLUGINS``: unset is all, ``none`` is none, names are only those, ``-name`` is all but."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    blocked = {canonical_provider(word[1:]) for word in words if word.startswith("-")}
    allowed = {canonical_provider(word) for word in words if not word.startswith("-")}
    if "none" in allowed:
        return lambda _: False
    return lambda provider: provider not in blocked and (not allowed or provider in allowed)
