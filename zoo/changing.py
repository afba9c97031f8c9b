"""Changing: what a call changes of a spec, with what its short forms stand for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any, Final

from registry import Problem
from zoo.errors import SpecError
from zoo.spec import Spec, aux_heads, merge, of_classes

Change = Mapping[str, Any] | str | None
"""What a part becomes: parameters to merge, the name of another component, or None for no such part."""

AS_IT_IS: Final[Any] = object()
"""What a parameter of a call has that changes nothing: None removes a part."""


def stated_changes(
    spec: Spec, stated: Mapping[str, Any], *, num_classes: int | None, in_channels: int | None
) -> list[dict[str, Any]]:
    """Return what a call changes of a spec, as :func:`zoo.spec.merge` takes it, one after the other.

    Args:
        spec: what is changed.
        stated: the changes to each part, or ``AS_IT_IS``.
        num_classes: short for that of the head, and of auxiliary heads that state theirs.
        in_channels: short for those of the input.

    Raises:
        SpecError: a short form and a change say different things, or there is no head to have classes.

    >>> stated_changes({"backbone": "mlp", "head": "linear"}, {"neck": AS_IT_IS}, num_classes=5, in_channels=1)
    [{}, {'input': {'channels': 1}}, {'head': {'num_classes': 5}}]
    """
    plain = {kind: change for kind, change in stated.items() if change is not AS_IT_IS}
    changes, problems = [plain], []
    if in_channels is not None:
        problems += _unlike("in_channels", in_channels, "input", plain.get("input"), "channels")
        changes.append({"input": {"channels": in_channels}})
    if num_classes is not None:
        merged = reduce(merge, changes, spec)
        if merged.get("head") is None:
            why = "head=None" if "head" in plain else "its spec has none"
            remedy = f"expected one, such as head={{'type': 'linear', 'num_classes': {num_classes!r}}}"
            problems.append(
                Problem("num_classes", f"found {num_classes!r} for a model without a head ({why}); {remedy}")
            )
        problems += _unlike("num_classes", num_classes, "head", plain.get("head"), "num_classes")
        for name, head in aux_heads(plain).items():
            problems += _unlike("num_classes", num_classes, f"aux[{name!r}]['head']", head, "num_classes")
        changes.append(of_classes(merged, num_classes))
    if problems:
        raise SpecError(problems)
    return changes


def _unlike(short: str, value: int, where: str, change: Any, key: str) -> list[Problem]:
    other = change.get(key, value) if isinstance(change, Mapping) else value
    if other == value:
        return []
    return [Problem(short, f"found {value!r}, and {other!r} in {where}={{{key!r}: …}}; expected one of them alone")]
