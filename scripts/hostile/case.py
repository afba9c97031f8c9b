"""Case: one hostile file, and what each way of reading it has to answer."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

WAYS = ("load", "load with a spec", "verify", "inspect", "fingerprint")
"""How a file is read: each of them has to keep its promise."""

LOADING = ("load", "verify")
"""The ways that believe what the file says of itself."""

MARK = "hostile-code-ran"
"""What the code in the files would make in the working directory if anything ran it."""

SPEC: Mapping[str, Any] = {
    "input": {"channels": 1, "size": [1, 2]},
    "backbone": {"type": "mlp", "hidden": [2]},
    "head": {"type": "linear", "num_classes": 2},
}
"""A model of four tensors, which most files claim to hold."""

TENSORS: Mapping[str, tuple[tuple[int, ...], bytes]] = {
    name: (shape, struct.pack(f"<{count}f", *(first + i for i in range(count))))
    for name, shape, count, first in (
        ("backbone.layers.0.linear.weight", (2, 2), 4, 1.0),
        ("backbone.layers.0.linear.bias", (2,), 2, 5.0),
        ("head.fc.weight", (2, 2), 4, 7.0),
        ("head.fc.bias", (2,), 2, 11.0),
    )
}
"""The tensors of that model: shape and bytes, all of them float32."""


class Case(NamedTuple):
    """One hostile file.

    Attributes:
        name: of the file; its suffix is the format.
        data: its content.
        error: the class of the error.
        phrase: what its message says, among other things.
        ways: which ways of reading answer so; with the others the file is fine.
        spec_phrase: what the ``SpecError`` says with which a file that is fine answers to ``load with a spec``, for it
            holds another model; empty if it holds that one.
    """

    name: str
    data: bytes
    error: str
    phrase: str
    ways: Iterable[str] = WAYS
    spec_phrase: str = ""

    def answer(self, way: str) -> tuple[str, str] | None:
        """Return the class of the error and what it says, or None if that way of reading finds nothing wrong."""
        if way in self.ways:
            return self.error, self.phrase
        return ("SpecError", self.spec_phrase) if way == "load with a spec" and self.spec_phrase else None


def fingerprint(aliases: Mapping[str, str] | None = None) -> str:
    """Return the fingerprint of the four tensors, computed from its definition."""
    lines = []
    for name, (shape, data) in TENSORS.items():
        if name in (aliases or {}):
            continue
        names = sorted([name, *(a for a, first in (aliases or {}).items() if first == name)])
        lines.append(json.dumps([names, "float32", list(shape), hashlib.sha256(data).hexdigest()]))
    return f"sha256:{hashlib.sha256(chr(10).join(sorted(lines)).encode()).hexdigest()}"


def description(**changes: Any) -> str:
    """Return the JSON that a file says of itself: honest, but for the changes."""
    return json.dumps({"zoo": 1, "spec": SPEC, "lock": {}, "fingerprint": fingerprint(), **changes})
