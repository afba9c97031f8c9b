"""Spec files: a spec from JSON, TOML or YAML, read so that no file can run code, hang or exhaust the memory."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import SpecFileError

if TYPE_CHECKING:
    import yaml

SUFFIXES = (".json", ".toml", ".yaml", ".yml")
"""What the name of a spec file ends in."""

SIZE_LIMIT = 1_000_000
"""How many bytes a spec file may have; a real one has a few hundred."""

DEPTH_LIMIT = 32
"""How deep its values may be nested."""

VALUES_LIMIT = 10_000
"""How many values it may hold, each counted as often as YAML's aliases repeat it."""

TEXT_LIMIT = 4_096
"""How many characters one of its texts, names or numbers may have."""

_DOTS_LIMIT = 256  # on one line of TOML: tomllib takes time in the square of the parts of a dotted key


def is_spec_file(name: str | PathLike[str]) -> bool:
    """Tell whether a name is that of a spec file, going by its end; no file is looked at.

    >>> is_spec_file("models/small.yaml"), is_spec_file("resnet18")
    (True, False)
    """
    return Path(name).suffix.lower() in SUFFIXES


def read(path: str | PathLike[str]) -> dict[str, Any]:
    """Read a spec file; what it says is not checked yet.

    A top-level key ``$schema``, which is for editors, is left out.

    Args:
        path: a file whose name ends in ``.json``, ``.toml``, ``.yaml`` or ``.yml``.

    Raises:
        SpecFileError: it is missing, too large, too deep, not UTF-8, not what its suffix says, states a key twice, or
            holds something else than a mapping.
    """
    file = Path(path)
    if not is_spec_file(file):
        found = f"suffix {file.suffix!r}" if file.suffix else "no suffix"
        raise SpecFileError(file, f"{found} names no kind of spec file; expected one of {', '.join(SUFFIXES)}")
    try:
        spec = _PARSERS[file.suffix.lower()](_text(file))
        _require_moderate(spec, _items)
    except _UnfitError as unfit:
        raise SpecFileError(file, str(unfit)) from unfit.__cause__
    except RecursionError as cause:
        raise SpecFileError(file, f"is nested more than {DEPTH_LIMIT} deep") from cause
    except ValueError as cause:  # of all three parsers, and of a number with more digits than Python converts
        raise SpecFileError(file, f"is not {_LANGUAGES[file.suffix.lower()]}: {cause}") from cause
    if not isinstance(spec, dict):
        found = "nothing" if spec is None else f"a {type(spec).__name__}"
        raise SpecFileError(file, f"holds {found}; expected a mapping with a 'backbone'")
    spec.pop("$schema", None)
    return spec


class _UnfitError(Exception):
    """Something is wrong with a file; the message says what, and the caller which file."""


def _text(file: Path) -> str:
    try:
        if not file.is_file():  # a pipe or a device might never end
            found = "is a folder, not a file" if file.is_dir() else "is not a plain file"
            raise _UnfitError(found if file.exists() else "there is no such file")
        with file.open("rb") as opened:
            data = opened.read(SIZE_LIMIT + 1)
    except (OSError, ValueError) as cause:  # ValueError: a name with a null character
        raise _UnfitError(f"cannot be read: {getattr(cause, 'strerror', None) or cause}") from cause
    if len(data) > SIZE_LIMIT:
        raise _UnfitError(f"has more than {SIZE_LIMIT:,} bytes, too many for a spec")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise _UnfitError(f"is not UTF-8: {cause.reason} {data[cause.start]:#04x} at byte {cause.start}") from cause


def _parse_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_without_twins, parse_constant=_refuse_constant)


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _UnfitError(f"states the key {key!r} twice in one object")
        found[key] = value
    return found


def _refuse_constant(name: str) -> Any:
    raise _UnfitError(f"is not JSON: it has no {name}")


def _parse_toml(text: str) -> Any:
    if any(line.count(".") > _DOTS_LIMIT for line in text.splitlines()):
        raise _UnfitError(f"has a line with more than {_DOTS_LIMIT} dots, too many for a spec")
    return tomllib.loads(text)


def _parse_yaml(text: str) -> Any:
    import yaml  # 20 ms that only a YAML file has to pay

    class Loader(yaml.SafeLoader):
        """PyYAML's safe loader, which gives up on a file as soon as it has too many values."""

        composed = 0

        def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
            self.composed += 1
            if self.composed > VALUES_LIMIT:
                raise _too_many()
            return super().compose_node(parent, index)

    try:
        loader = Loader(text)
        node = loader.get_single_node()
        # Before anything is made of it: merge keys copy what their aliases stand for.
        _require_moderate(node, _nodes)
        return None if node is None else loader.construct_document(node)
    except yaml.YAMLError as cause:
        raise _UnfitError(f"is not YAML: {_yaml_reason(cause)}") from cause
    except (AttributeError, LookupError, TypeError) as cause:  # PyYAML on `!!bool maybe`, `!!int ""` and the like
        raise _UnfitError(f"is not YAML: a value does not fit its tag: {cause!r}") from cause


def _yaml_reason(cause: yaml.YAMLError) -> str:
    problem, mark = getattr(cause, "problem", None), getattr(cause, "problem_mark", None)
    return (
        f"{problem} (line {mark.line + 1} column {mark.column + 1})"
        if problem and mark
        else " ".join(str(cause).split())
    )


def _nodes(node: Any) -> Iterable[Any]:
    """Return what one node of a YAML document holds: nodes, or the text of a scalar."""
    if isinstance(node.value, str):
        return (node.value,)
    if node.id == "sequence":
        return node.value  # type: ignore[no-any-return]
    seen = set()
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
            raise _UnfitError(f"has a key that is not a text, in line {line}; put it in quotes")
        if key.value in seen:
            raise _UnfitError(f"states the key {key.value!r} twice in one mapping, again in line {line}")
        seen.add(key.value)
    return [node for pair in node.value for node in pair]


def _items(value: Any) -> Iterable[Any]:
    """Return what a plain value holds."""
    if isinstance(value, Mapping):
        return [*value, *value.values()]
    return value if isinstance(value, list) else ()


def _require_moderate(root: Any, within: Callable[[Any], Iterable[Any]]) -> None:
    """Refuse values that are too deep, too many or too long; what is there twice counts twice.

    Raises:
        _UnfitError: they are.
    """
    level, count = [root], 0
    for _ in range(DEPTH_LIMIT + 1):
        below: list[Any] = []
        for value in level:
            if isinstance(value, str):
                if len(value) > TEXT_LIMIT:
                    raise _UnfitError(f"has a text of {len(value):,} characters, too long for a spec")
            elif isinstance(value, int):
                if value.bit_length() > TEXT_LIMIT:  # in hexadecimal TOML and YAML take any
                    raise _UnfitError(f"has a number of {value.bit_length():,} bits, too long for a spec")
            elif value is not None:
                below += within(value)
            count += 1
            if count + len(below) > 2 * VALUES_LIMIT:
                raise _too_many()
        if not below:
            return
        level = below
    raise _UnfitError(f"is nested more than {DEPTH_LIMIT} deep")


def _too_many() -> _UnfitError:
    return _UnfitError(f"holds more than {VALUES_LIMIT:,} values, too many for a spec")


_PARSERS = {".json": _parse_json, ".toml": _parse_toml, ".yaml": _parse_yaml, ".yml": _parse_yaml}
_LANGUAGES = {".json": "JSON", ".toml": "TOML", ".yaml": "YAML", ".yml": "YAML"}
