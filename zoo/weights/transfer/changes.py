"""Changes: how a model differs on purpose from the one that weights are of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from registry import nearest
from zoo import kinds
from zoo.errors import UnknownNameError, ZooError

ASKED = "asked for"
"""Why a part starts anew that was not changed."""


def stated_parts(stated: str | Iterable[str], parameter: str) -> tuple[str, ...]:
    """Return the names of parts that a call states: of one, or of several.

    Args:
        stated: what is stated.
        parameter: the parameter that states it, for errors.

    Raises:
        UnknownNameError: no part has such a name.
        ZooError: it is no name at all.

    >>> stated_parts("head", "fresh")
    ('head',)
    """
    if not isinstance(stated, Iterable):
        known = ", ".join(kinds.SECTIONS)
        raise ZooError(f"found {parameter}={stated!r}; expected the name of a part, or several: {known}")
    names = (stated,) if isinstance(stated, str) else tuple(stated)
    for name in names:
        if name not in kinds.SECTIONS:
            raise UnknownNameError("part", name, kinds.SECTIONS, nearest(name, kinds.SECTIONS))
    return names


@dataclass(frozen=True)
class Changes:
    """How a model differs on purpose from the one that weights are of.

    Attributes:
        changed: parts that were changed, each with what changed: a tensor of theirs that does not fit starts anew, one
            that is left over is dropped.
        fresh: parts, or modules below them, that start anew altogether, each with the reason.
        channels: of how many input channels the weights are, where the model takes another number.
        places: the places in the spec that may differ, ``"head.num_classes"`` or ``"head"``.
    """

    changed: Mapping[str, str] = field(default_factory=dict)
    fresh: Mapping[str, str] = field(default_factory=dict)
    channels: int | None = None
    places: frozenset[str] = frozenset()

    @property
    def free(self) -> frozenset[str]:
        """The parts that need nothing of the weights."""
        return frozenset({*self.changed, *self.fresh})

    def __bool__(self) -> bool:
        return bool(self.changed or self.fresh or self.channels is not None)

    @classmethod
    def between(
        cls,
        before: Mapping[str, Any],
        after: Mapping[str, Any],
        stated: Sequence[Mapping[str, Any]],
        fresh: Iterable[str] = (),
    ) -> Changes:
        """Find out what stated changes did.

        Args:
            before: the normalised spec that the weights are of; empty if nobody knows.
            after: the normalised spec of the model.
            stated: changes as :func:`zoo.spec.merge` takes them: what else differs was not meant.
            fresh: parts that are to start anew by request.

        >>> specs = ({"head": {"type": "linear", "num_classes": n}} for n in (10, 3))
        >>> Changes.between(*specs, stated=[{"head": {"num_classes": 3}}]).changed
        {'head': 'head.num_classes 10 → 3'}
        """
        named = list(dict.fromkeys(kind for change in stated for kind in change))
        anew = {**dict(_replaced(named, before, after)), **dict.fromkeys(fresh, ASKED)}
        old, new = ((spec.get("input") or {}).get("channels") for spec in (before, after))
        return cls(
            {kind: _told(kind, before, after) for kind in named if kind != "input"},
            anew,
            old if old != new else None,
            frozenset({*anew, *_places(stated)}),
        )


def _places(changes: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Give the places in the spec that changes are about."""
    for change in changes:
        for kind, what in change.items():
            yield from [f"{kind}.{key}" for key in what] if isinstance(what, Mapping) else [kind]


def _replaced(named: Iterable[str], before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Give the parts, and the auxiliary heads, that became other components or hold one that did, and how."""
    for kind in named:
        old, new = (spec.get(kind) or {} for spec in (before, after))
        if kind == kinds.AUX:
            found = {f"{kind}.{name}": (old[name], new[name]) for name in old if name in new}
        else:
            found = {kind: (old, new)} if before and kind in kinds.PARTS else {}
        for where, (former, present) in found.items():
            why = _retyped(where, former, present)
            if why:
                yield where, why


def _retyped(where: str, old: Any, new: Any) -> str:
    """Return where in a part a component became another one, and how; nothing if none did."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return ""
    types = [each.get("type", "none") for each in (old, new)]
    if types[0] != types[1] and any(_is_component(each) for each in types):
        return f"{where} {types[0]} → {types[1]}"
    return next((why for key in old if key in new if (why := _retyped(f"{where}.{key}", old[key], new[key]))), "")


def _is_component(name: Any) -> bool:
    """Tell whether a type is that of a component; of a norm, say, it is not."""
    return isinstance(name, str) and any(name in registry for registry in kinds.COMPONENTS.values())


def _told(kind: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return in words what changed in a part."""
    old, new = (spec.get(kind) or {} for spec in (before, after))
    if before and kind in kinds.PARTS and bool(old) != bool(new):
        return f"{kind} {old.get('type', 'none')} → {new.get('type', 'none')}"
    keys = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
    plain = [key for key in keys if not any(isinstance(each.get(key), Mapping) for each in (old, new))]
    if not before or not plain:
        return f"{kind} was changed"
    return ", ".join(f"{kind}.{key} {old.get(key, 'none')} → {new.get(key, 'none')}" for key in plain)
