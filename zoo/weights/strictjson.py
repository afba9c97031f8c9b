"""JSON from a stranger, read strictly: no key twice, no NaN, no nesting that exhausts the stack, no lone surrogates."""

from __future__ import annotations

import json
from typing import Any, NoReturn

MAX_LENGTH = 10_000_000
"""How many bytes of JSON a file may carry: a hundred thousand tensors need less, and parsing takes far more memory."""


def strict_json(text: bytes) -> Any:
    """Parse JSON.

    Raises:
        ValueError: it is too long, no JSON in UTF-8, nested too deeply, or ambiguous; the message says which.

    >>> strict_json(b'{"a": 1, "a": 2}')
    Traceback (most recent call last):
      ...
    ValueError: the key 'a' is there twice
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"its JSON has {len(text)} bytes; at most {MAX_LENGTH} are read")
    try:
        parsed = json.loads(text.decode(), object_pairs_hook=_object, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"its JSON is not UTF-8: {error.reason} at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"its JSON is damaged: {error}") from None
    return parsed


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} is there twice")
    for key in found:
        if not key.isascii() and any("\ud800" <= letter <= "\udfff" for letter in key):
            raise ValueError(f"the key {key!r} is not Unicode text")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
