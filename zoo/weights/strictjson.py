"""JSON from a stranger, read strictly: no key twice, no NaN, no nesting that exhausts the stack, no lone surrogates."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

MAX_LENGTH = 10_000_000
"""How many bytes of JSON a file may carry: a hundred thousand tensors need less, and parsing takes far more memory."""

MAX_VALUES = 600_000
"""How many brackets, braces and commas it may have: a tensor takes about ten, and each makes 90 bytes of memory."""

_BRIEF = 200
_DIGITS = 100
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


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
    values = sum(map(text.count, (b"[", b"{", b",")))
    if values > MAX_VALUES:
        raise ValueError(f"its JSON has {values} brackets and commas; at most {MAX_VALUES} are read")
    try:
        parsed = json.loads(
            text.decode(),
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_integer,
        )
        if _ESCAPED_SURROGATE.search(text):
            json.dumps(parsed, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("its JSON holds what is not Unicode text") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"its JSON is not UTF-8: {error.reason} at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"its JSON is damaged: {error}") from None
    return parsed


def brief(value: Any) -> str:
    """Return what a stranger's value looks like, short enough for a message.

    >>> brief("n" * 1000)[-5:]
    "nnn…'"
    """
    if isinstance(value, str):
        return repr(value if len(value) <= _BRIEF else f"{value[:_BRIEF]}…")
    if isinstance(value, int) and value.bit_length() > 1000:
        return f"a number of {value.bit_length()} bits"
    return repr(value) if isinstance(value, int | float | None) else type(value).__name__


def is_unicode(text: str) -> bool:
    """Tell whether a text can be written: a lone surrogate can not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {brief(twice)} is there twice")
    for key in found:
        if not is_unicode(key):
            raise ValueError(f"the key {brief(key)} is not Unicode text")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:_BRIEF]} is no number that can be held")
    return value


def _integer(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"a number of {len(text)} digits is more than anything can mean")
    return int(text)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
