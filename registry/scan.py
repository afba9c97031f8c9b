"""One lazy scan of the installed entry points, shared by every registry of the process; nothing of them is imported."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

from registry.names import canonical_provider

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint


@dataclass(frozen=True)
class Provider:
    """An installed distribution with entry points.

    Attributes:
        name: its name, normalised (PEP 503): ``"acme-zoo"``.
        version: its version.
        location: the folder that it is installed in.
        fault: what is wrong with its metadata, or nothing.
    """

    name: str
    version: str
    location: str
    fault: str = ""


@dataclass(frozen=True)
class Scan:
    """Everything that one look at the installed distributions found.

    Attributes:
        faults: distributions whose entry points cannot be read at all.
    """

    points: Mapping[str, Sequence[EntryPoint]]
    faults: tuple[Provider, ...] = ()
    _providers: dict[int, Provider] = field(default_factory=dict)

    def group(self, name: str) -> list[tuple[EntryPoint, Provider]]:
        """Return the entry points of one group, in an order that no hash seed changes.

        A distribution that is there twice (an editable install beside a stale egg-info) counts once.
        """
        found: dict[tuple[str, str, str], tuple[EntryPoint, Provider]] = {}
        for point in self.points.get(name, ()):
            provider = self._provider(point.dist)
            found.setdefault((point.name, provider.name, point.value), (point, provider))
        return [found[key] for key in sorted(found)]

    def _provider(self, dist: Distribution | None) -> Provider:
        known = self._providers.get(id(dist))
        if known is None:
            known = self._providers[id(dist)] = _read_provider(dist)
        return known


_lock = threading.Lock()  # held while reading metadata, never while a plugin is imported
_latest: Scan | None = None


def latest() -> Scan:
    """Return the scan of this process; the first caller makes it."""
    global _latest
    scan = _latest
    if scan is None:
        # It takes 50 ms to import: only a process that looks something up pays for it. Not under our lock, for an
        # import takes locks of its own.
        import importlib.metadata  # noqa: F401

        with _lock:
            scan = _latest
            if scan is None:
                scan = _latest = _read()
    return scan


def current() -> Scan | None:
    """Return the scan of this process if there has been one."""
    return _latest


def refresh() -> None:
    """Forget the scan, so that what was installed since is seen on the next look-up."""
    global _latest
    with _lock:
        _latest = None


def _read() -> Scan:
    from importlib.metadata import entry_points

    try:
        found: Any = entry_points()
    except Exception:  # one unreadable distribution spoils the whole call, with whatever its file provokes
        return _read_one_by_one()
    # Python 3.11 gives a dict of groups whose own methods warn, later ones a flat tuple.
    return Scan(_by_group(chain.from_iterable(dict.values(found)) if isinstance(found, dict) else found))


def _read_one_by_one() -> Scan:
    from importlib.metadata import distributions

    points: list[EntryPoint] = []
    faults: list[Provider] = []
    seen: set[tuple[str, str]] = set()
    for dist in distributions():
        provider = _read_provider(dist)
        try:
            own = list(dist.entry_points)
        except Exception as error:  # the same; what it is, is kept and shown
            reason = f"its entry points cannot be read: {type(error).__name__}: {error}"
            faults.append(Provider(provider.name, provider.version, provider.location, reason))
            continue
        key = (provider.name, "" if provider.name != "unknown" else provider.location)
        if key not in seen:  # the first on the path is the one that imports find
            seen.add(key)
            points += own
    return Scan(_by_group(points), tuple(faults))


def _by_group(points: Iterable[EntryPoint]) -> Mapping[str, Sequence[EntryPoint]]:
    groups: dict[str, list[EntryPoint]] = {}
    for point in points:
        groups.setdefault(point.group, []).append(point)
    return groups


_FIELD = re.compile(r"^(Name|Version):[ \t]*(\S+)[ \t]*$", re.MULTILINE)


def _read_provider(dist: Distribution | None) -> Provider:
    if dist is None:
        return Provider("unknown", "", "")
    location = str(dist.locate_file(""))
    try:
        # Ten times as fast as dist.name and dist.version, which each parse the whole file as an e-mail.
        text = dist.read_text("METADATA") or dist.read_text("PKG-INFO") or ""
    except (OSError, UnicodeError) as error:
        return Provider(_name_of_folder(dist), "", location, f"its metadata cannot be read: {error}")
    told = dict(reversed(_FIELD.findall(text.partition("\n\n")[0])))
    if "Name" not in told:
        return Provider(_name_of_folder(dist), told.get("Version", ""), location, "its metadata has no name")
    return Provider(canonical_provider(told["Name"]), told.get("Version", ""), location)


def _name_of_folder(dist: Distribution) -> str:
    """Return the name that the metadata folder has, ``acme_zoo-0.3.dist-info``, for want of a better one."""
    folder = getattr(dist, "_path", None)
    return canonical_provider(folder.name.partition("-")[0]) if folder is not None else "unknown"
