"""Patterns of parameter names: parsed, matched, filled in and compared; nothing here knows tensors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice, pairwise, product

from zoo.errors import RuleError

Binding = Mapping[str, int | str]
"""What the placeholders of a rule stand for in one key."""


@dataclass(frozen=True)
class Index:
    """``{i}``, ``{i+1}``, ``{3*i+1}``: a number, alone in a component or beside text, as in ``layer{i}``.

    Attributes:
        name: one letter.
        times: the number in the key is ``times`` · i + ``offset``.
        offset: see above.
        least: the smallest i, so that no number of the rule is negative.
    """

    name: str
    times: int = 1
    offset: int = 0
    least: int = 0

    def number(self, i: int) -> int:
        """Return what stands in a key for an i."""
        return self.times * i + self.offset

    def value(self, number: int) -> int | None:
        """Return the i of a number in a key, or None if it has none."""
        i, rest = divmod(number - self.offset, self.times)
        return i if rest == 0 and i >= self.least else None


@dataclass(frozen=True)
class Word:
    """``{name}``, ``{leaf:weight|bias}``: one whole component, any or one of those listed."""

    name: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rest:
    """``{rest...}``: one or more whole components."""

    name: str


Component = tuple[str | Index, ...] | Word | Rest
"""What stands between two dots."""

_PLACEHOLDER = re.compile(
    r"\{(?:(?P<times>[1-9][0-9]?)\*)?(?P<name>[a-z][a-z0-9_]*)"
    r"(?:(?P<offset>[+-][0-9]{1,3})|(?P<dots>\.\.\.)|:(?P<choices>[^{}.]+))?\}"
)
_NUMBER = "0|[1-9][0-9]{0,8}"  # as it is written back: 07 would come back as 7
_TRIED = 30
"""How many numbers are tried for an index to find a key that two patterns share."""


@dataclass(frozen=True)
class Pattern:
    """Names of parameters with placeholders: ``layer{i}.{rest...}``.

    >>> pattern = Pattern.parse("layer{i+1}.{name}")
    >>> pattern.match("layer4.weight")
    {'i': 3, 'name': 'weight'}
    >>> pattern.render({"i": 3, "name": "weight"})
    'layer4.weight'
    """

    text: str
    components: tuple[Component, ...]

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Read a pattern.

        Raises:
            RuleError: it is none, or a key could match it in two ways.
        """
        if not isinstance(text, str):
            raise RuleError(repr(text), f"found {type(text).__name__!r}; expected a name, with placeholders or without")
        components = tuple(_component(text, tokens) for tokens in _split(text))
        names = [p.name for p in _placeholders(components)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise RuleError(repr(text), f"{{{twice[0]}}} stands in it twice; give the second another name")
        if sum(isinstance(c, Rest) for c in components) > 1:
            raise RuleError(repr(text), "it has two placeholders with dots, so that a key could be cut in two ways")
        return cls(text, components)

    @property
    def placeholders(self) -> tuple[Index | Word | Rest, ...]:
        """The placeholders, in order."""
        return tuple(_placeholders(self.components))

    def limited(self, least: Mapping[str, int], choices: Mapping[str, tuple[str, ...]]) -> Pattern:
        """Return this pattern with the limits that the other patterns of its rule set."""

        def limit(part: str | Index) -> str | Index:
            return replace(part, least=least[part.name]) if isinstance(part, Index) else part

        components: list[Component] = []
        for component in self.components:
            if isinstance(component, Word):
                components.append(replace(component, choices=choices.get(component.name, ())))
            elif isinstance(component, Rest):
                components.append(component)
            else:
                components.append(tuple(limit(part) for part in component))
        return Pattern(self.text, tuple(components))

    def match(self, key: str) -> dict[str, int | str] | None:
        """Return what the placeholders stand for in a key, or None if the pattern does not match it."""
        return _match(self.components, key)

    def render(self, binding: Binding) -> str:
        """Return the key in which the placeholders stand for something."""
        return ".".join(_render(component, binding) for component in self.components)


def shared_key(left: Pattern, right: Pattern) -> str | None:
    """Return a key that both patterns match, or None if none was found.

    Small numbers are tried for indices: what is returned is matched by both, but of patterns such as ``a{i}`` and
    ``a1{j}b`` a shared key may go unseen; then it is found when it turns up in a file.

    >>> shared_key(Pattern.parse("layer{i}.{rest...}"), Pattern.parse("{name}.0.weight"))
    'layer0.0.weight'
    >>> shared_key(Pattern.parse("conv.{3*i}.weight"), Pattern.parse("conv.{3*i+1}.weight"))
    """
    found = _meet(left.components, right.components)
    return None if found is None else ".".join(found)


def _split(text: str) -> list[list[str | Index | Word | Rest]]:
    """Cut a pattern at its dots, those of placeholders excepted."""
    components: list[list[str | Index | Word | Rest]] = [[]]
    place = 0
    for found in [*_PLACEHOLDER.finditer(text), None]:
        literal = text[place : found.start() if found else len(text)]
        if "{" in literal or "}" in literal:
            expected = "{i}, {i+1}, {3*i}, {name}, {name:weight|bias} or {rest...}"
            raise RuleError(repr(text), f"{literal!r} in it holds a brace of no placeholder; expected {expected}")
        first, *others = literal.split(".")
        components[-1] += [first] if first else []
        components += [[part] if part else [] for part in others]
        if found:
            components[-1].append(_placeholder(text, found))
            place = found.end()
    return components


def _placeholder(text: str, found: re.Match[str]) -> Index | Word | Rest:
    name = found["name"]
    choices = tuple(found["choices"].split("|")) if found["choices"] else ()
    if "" in choices or len(set(choices)) < len(choices):
        raise RuleError(repr(text), f"{found[0]}: expected different words with '|' between them")
    if found["dots"] and not found["times"]:
        return Rest(name)
    if len(name) == 1 and not found["dots"] and not found["choices"]:
        return Index(name, int(found["times"] or 1), int(found["offset"] or 0))
    if found["times"] or found["offset"] or len(name) == 1:
        raise RuleError(repr(text), f"{found[0]}: one letter stands for a number, a longer name for text")
    return Word(name, choices)


def _component(text: str, tokens: list[str | Index | Word | Rest]) -> Component:
    if not tokens:
        raise RuleError(repr(text), "a name in it is empty: it begins or ends with a dot, or has two in a row")
    parts: list[str | Index] = []
    for token in tokens:
        if isinstance(token, Word | Rest):
            if len(tokens) > 1:
                raise RuleError(repr(text), f"{{{token.name}}} has text beside it; it stands for all between two dots")
            return token
        parts.append(token)
    places = [place for place, part in enumerate(parts) if isinstance(part, Index)]
    for before, after in pairwise(places):
        if all(str(part).isdigit() for part in parts[before + 1 : after]):
            raise RuleError(repr(text), "two indices in it have only digits between them: put a letter or a dot there")
    return tuple(parts)


def _placeholders(components: Sequence[Component]) -> Iterator[Index | Word | Rest]:
    for component in components:
        if isinstance(component, Word | Rest):
            yield component
        else:
            yield from (part for part in component if isinstance(part, Index))


@cache
def _regex(components: tuple[Component, ...]) -> re.Pattern[str]:
    texts = []
    for component in components:
        match component:
            case Rest(name):
                texts.append(rf"(?P<{name}>[^.]+(?:\.[^.]+)*)")
            case Word(name, choices):
                texts.append(rf"(?P<{name}>{'|'.join(re.escape(c) for c in choices) or '[^.]+'})")
            case _:
                texts.append(
                    "".join(f"(?P<{p.name}>{_NUMBER})" if isinstance(p, Index) else re.escape(p) for p in component)
                )
    return re.compile(r"\.".join(texts))


def _match(components: tuple[Component, ...], key: str) -> dict[str, int | str] | None:
    found = _regex(components).fullmatch(key)
    if found is None:
        return None
    binding: dict[str, int | str] = {}
    for placeholder in _placeholders(components):
        text = found[placeholder.name]
        value = placeholder.value(int(text)) if isinstance(placeholder, Index) else text
        if value is None:
            return None
        binding[placeholder.name] = value
    return binding


def _render(component: Component, binding: Binding) -> str:
    if isinstance(component, Word | Rest):
        return str(binding[component.name])
    return "".join(p if isinstance(p, str) else str(p.number(int(binding[p.name]))) for p in component)


def _meet(left: tuple[Component, ...], right: tuple[Component, ...]) -> tuple[str, ...] | None:
    """Return components that both sequences match, or None."""
    if not left or not right:
        return () if not left and not right else None
    one = _shared(left[0], right[0])
    if one is None:
        return None
    # A placeholder with dots takes one component more as often as the other side has some left.
    nexts = [(left[1:], right[1:])]
    nexts += [(left, right[1:])] if isinstance(left[0], Rest) else []
    nexts += [(left[1:], right)] if isinstance(right[0], Rest) else []
    for ahead in nexts:
        others = _meet(*ahead)
        if others is not None:
            return (one, *others)
    return None


def _shared(left: Component, right: Component) -> str | None:
    for ours, theirs in ((left, right), (right, left)):
        for text in _examples(ours):
            if _match((theirs,), text) is not None:
                return text
    return None


def _examples(component: Component) -> Iterator[str]:
    if isinstance(component, Word | Rest):
        yield from component.choices if isinstance(component, Word) and component.choices else ("x",)
        return
    ways = [[str(p.number(p.least + n)) for n in range(_TRIED)] if isinstance(p, Index) else [p] for p in component]
    for texts in islice(product(*ways), _TRIED**2):
        yield "".join(texts)
