"""The plugins: which distributions offer what, how each entry stands, and why a name means what it means."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from registry import Entry, Registry, RegistryError, UnknownNameError, nearest, scan
from registry.names import canonical_provider
from zoo.kinds import KINDS


@dataclass(frozen=True)
class EntryState:
    """How one entry stands.

    Attributes:
        kind: ``"backbone"``, ``"model"``, ….
        name: its name.
        provider: the distribution that it comes from.
        version: the version of that distribution.
        target: where it is, ``package.module:attribute``.
        state: ``ok`` (loaded), ``not loaded``, ``broken``, ``blocked``, ``ambiguous`` or ``shadowed``.
        reason: why, and what to do; empty where there is nothing to say.
    """

    kind: str
    name: str
    provider: str
    version: str
    target: str
    state: str
    reason: str


@dataclass(frozen=True)
class Plugin:
    """A distribution that offers something.

    Attributes:
        name: its name, normalised.
        version: its version.
        location: the folder that it is installed in; empty for what was registered by hand.
        state: the worst state of its entries, or ``broken`` where its metadata cannot be read.
        reason: what is wrong with its metadata, or nothing.
        entries: everything that it offers.
    """

    name: str
    version: str
    location: str
    state: str
    reason: str
    entries: tuple[EntryState, ...]


@dataclass(frozen=True)
class Explanation:
    """Why a name means what it means, for one kind.

    Attributes:
        kind: ``"backbone"``, ``"model"``, ….
        name: the name that was asked for.
        chosen: the entry that the name stands for, ``provider:name``; None if no single one does.
        why: the rule that decided.
        candidates: every entry of that name, those of blocked providers too.
    """

    kind: str
    name: str
    chosen: str | None
    why: str
    candidates: tuple[EntryState, ...]


_WORST_FIRST = ("broken", "ambiguous", "blocked", "shadowed", "not loaded", "ok")


def plugins(*, load: bool = False) -> list[Plugin]:
    """Return every distribution that offers something, zoo itself included, by name.

    Args:
        load: whether to import every entry, to find out which are broken; nothing is imported otherwise.
    """
    entries = [(registry, entry) for registry in KINDS.values() for entry in registry.entries(blocked=True)]
    if load:
        for registry, entry in entries:
            _try(registry, entry)
    by_provider: dict[tuple[str, str], list[EntryState]] = {}
    for registry, entry in entries:
        by_provider.setdefault((entry.provider, entry.version), []).append(_state(registry, entry))
    found = scan.latest()
    places = {(p.name, p.version): p for group in (r.group for r in KINDS.values()) for _, p in found.group(group)}
    unread = [Plugin(p.name, p.version, p.location, "broken", p.fault, ()) for p in found.faults]
    return sorted(
        (*unread, *(_plugin(key, states, places.get(key)) for key, states in by_provider.items())),
        key=lambda plugin: (plugin.name != "zoo-torch", plugin.name, plugin.version),
    )


def explain(name: str) -> list[Explanation]:
    """Tell for each kind that knows a name which candidates there are, and why which one is meant; nothing is imported.

    Raises:
        UnknownNameError: no entry of any kind has this name.
    """
    provider, _, short = name.rpartition(":")
    told, meant = [], []
    for kind, registry in KINDS.items():
        named = registry.entries(short, blocked=True)
        chosen = registry.candidates(name)
        if named or chosen:
            told.append(_explanation(kind, name, registry, chosen, {*named, *chosen}))
            if chosen or any(entry.provider == canonical_provider(provider) for entry in named):
                meant.append(told[-1])
    if not told:
        known = sorted({n for registry in KINDS.values() for n in registry.names()})
        raise UnknownNameError("name", name, known, nearest(short, known))
    return meant or told  # the same name of other providers is told where nothing else is


def _explanation(
    kind: str, name: str, registry: Registry, chosen: tuple[Entry, ...], named: Iterable[Entry]
) -> Explanation:
    states = tuple(_state(registry, e) for e in sorted(named, key=lambda e: (e.provider, e.target)))
    if not chosen:
        return Explanation(kind, name, None, "every candidate is blocked or of another provider", states)
    if len(chosen) > 1:
        picks = " or ".join(e.qualified_name for e in chosen)
        return Explanation(
            kind, name, None, f"several distributions offer it, and none comes first; ask for {picks}", states
        )
    (one,) = chosen
    others = [s for s in states if s.provider != one.provider and s.state != "blocked"]
    if ":" in name:
        why = "the name says whose it is"
    elif one.provider == "local":
        why = "it was registered by hand in this process"
    elif not others:
        why = "it is the only one"
    else:
        why = "zoo's own names are never shadowed"
    return Explanation(kind, name, one.qualified_name, why, states)


def _state(registry: Registry, entry: Entry) -> EntryState:
    return EntryState(entry.kind, entry.name, entry.provider, entry.version, entry.target, *registry.state(entry))


def _plugin(key: tuple[str, str], states: list[EntryState], place: scan.Provider | None) -> Plugin:
    reason = place.fault if place else ""
    worst = "broken" if reason else next(w for w in _WORST_FIRST if any(s.state == w for s in states))
    return Plugin(*key, place.location if place else "", worst, reason, tuple(states))


def _try(registry: Registry, entry: Entry) -> None:
    if entry.blocked:
        return
    try:
        registry.load(entry)
    except RegistryError:
        return  # the registry remembers it, and its state tells
