"""inlined: a graph whose operators sit in functions of its own, as one without.

A function is told once and may be called any number of times, by others too, so that a small file can say a vast
graph. How large it is follows from how often each function is called, before anything is made of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from zoo.errors import AlignmentError
from zoo.weights.alignment.graph import MAX_NODES, Attribute, Node, Reference, holding

RESERVED = "\0"
"""What the names begin with that are made here; no name of a file that has functions may."""

MAX_NAMES = 1_000_000
"""How many names all nodes together may have once no function is left, as many as a file without functions can say."""

_RUNTIMES = ("ai.onnx", "com.microsoft", "com.ms.", "org.pytorch.aten")  # what onnxruntime has operators of
_Key = tuple[str, str, str]


@dataclass(frozen=True)
class Function:
    """A function that a file has of its own.

    Attributes:
        key: its domain, its name, and which of several of that name it is.
        inputs: what it calls what it is given.
        outputs: what it calls what it gives.
        defaults: the attributes that a call may leave out.
        nodes: what it does.
        held: the constants within nodes of it: for what they are called there, what they are called in the file.
    """

    key: _Key
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    defaults: Mapping[str, Attribute]
    nodes: Sequence[Node]
    held: Mapping[str, str]

    @property
    def told(self) -> str:
        """What to call it in messages."""
        return "function " + repr(".".join(part for part in self.key if part))


class Inlined(NamedTuple):
    """Nodes without calls, and for each constant within a function what it is called now: ``{new: in the file}``."""

    nodes: list[Node]
    constants: dict[str, str]


@dataclass
class _Scope:
    """One call of a function: what its values and attributes are."""

    function: Function
    attributes: Mapping[str, Attribute]
    names: dict[str, str] = field(default_factory=dict)


def inlined(nodes: Sequence[Node], functions: Sequence[Function], path: Path) -> Inlined:
    """Put what functions do in the place of each call.

    Args:
        nodes: those of the graph.
        functions: what it may call.
        path: the file, for errors.

    Raises:
        AlignmentError: functions call themselves, have the name of another or of an operator of onnxruntime, make more
            of the graph than can be, or are not called as they are told.
    """
    known = _by_key(functions, path)
    _refuse_vast(nodes, known, path)
    return _Inlining(known, path).of(nodes)


def _by_key(functions: Sequence[Function], path: Path) -> dict[_Key, Function]:
    known: dict[_Key, Function] = {}
    for each in functions:
        domain = each.key[0]
        if not domain or domain.startswith(_RUNTIMES):
            raise AlignmentError(path, "has a function of its own by the name of an operator of onnxruntime", each.told)
        if known.setdefault(each.key, each) is not each:
            raise AlignmentError(path, "has two functions of one name", each.told)
    return known


class _Size(NamedTuple):
    nodes: int
    names: int


def _refuse_vast(nodes: Sequence[Node], known: Mapping[_Key, Function], path: Path) -> None:
    """Refuse a graph that would have too many nodes without functions, or never come to an end."""
    calls = {key: known.keys() & {key_of(node) for node in each.nodes} for key, each in known.items()}
    callers: dict[_Key, list[_Key]] = {key: [] for key in known}
    for key, called in calls.items():
        for each in called:
            callers[each].append(key)
    waiting = {key: len(called) for key, called in calls.items()}
    ready = [key for key, count in waiting.items() if not count]
    sizes: dict[_Key, _Size] = {}
    while ready:
        key = ready.pop()
        sizes[key] = _size(known[key].nodes, sizes)
        for caller in callers[key]:
            waiting[caller] -= 1
            if not waiting[caller]:
                ready.append(caller)
    if endless := [key for key in known if key not in sizes]:
        first = known[_in_circle(endless[0], calls, sizes)]
        raise AlignmentError(path, "has functions that call themselves", first.told)
    size = _size(nodes, sizes)
    for count, most, what in ((size.nodes, MAX_NODES, "nodes"), (size.names, MAX_NAMES, "names")):
        if count > most:
            largest = max(known.values(), key=lambda each: sizes[each.key].nodes)
            raise AlignmentError(path, f"has functions that make more than {most} {what} of it", largest.told)


def _size(nodes: Sequence[Node], sizes: Mapping[_Key, _Size]) -> _Size:
    """Return how large nodes are without calls; a call counts as one node besides, for it takes time as well."""
    count = names = 0
    for node in nodes:
        inner = sizes.get(key_of(node), _Size(0, 0))
        count += 1 + inner.nodes
        names += 1 + len(node.inputs) + len(node.outputs) + len(node.attributes) + inner.names
    return _Size(min(count, 1 << 62), min(names, 1 << 62))  # it doubles with each function that calls another twice


def _in_circle(key: _Key, calls: Mapping[_Key, set[_Key]], finite: Mapping[_Key, _Size]) -> _Key:
    """Return a function that calls itself, from one that calls such a one."""
    seen: set[_Key] = set()
    while key not in seen:
        seen.add(key)
        key = next(each for each in calls[key] if each not in finite)
    return key


def key_of(node: Node) -> _Key:
    """Return which function a node calls, if it calls one."""
    return (node.domain, node.op, node.overload)


class _Inlining:
    def __init__(self, known: Mapping[_Key, Function], path: Path) -> None:
        self.known, self.path = known, path
        self.made = Inlined([], {})
        self.count = 0
        self.left: list[tuple[Node, _Scope | None]] = []

    def of(self, nodes: Sequence[Node]) -> Inlined:
        self.left = [(node, None) for node in reversed(nodes)]
        while self.left:
            node, scope = self.left.pop()
            told = node if scope is None else self._within(node, scope)
            function = self.known.get(key_of(told))
            if function is not None:
                self._call(told, function)
                continue
            self.made.nodes.append(told)
            name = holding(node)
            if scope is not None and name in scope.function.held:
                self.made.constants[holding(told)] = scope.function.held[name]
        return self.made

    def _call(self, node: Node, function: Function) -> None:
        """Put what a function does next, with the values of one call."""
        if len(node.inputs) > len(function.inputs) or len(node.outputs) > len(function.outputs):
            raise AlignmentError(
                self.path,
                f"calls a function of {len(function.inputs)} inputs and {len(function.outputs)} outputs with "
                f"{len(node.inputs)} and {len(node.outputs)}",
                function.told,
            )
        scope = _Scope(function, {**function.defaults, **node.attributes})
        scope.names.update(dict.fromkeys(function.inputs, ""))
        scope.names.update(zip(function.inputs, node.inputs, strict=False))
        again = []
        for inner, outer in zip(function.outputs, node.outputs, strict=False):
            if inner in scope.names:  # it gives what it took, or one value twice
                again.append(Node(node.name, "Identity", "", (scope.names[inner],), (outer,)))
            elif outer:
                scope.names[inner] = outer
        self.left += [(each, None) for each in reversed(again)]
        self.left += [(each, scope) for each in reversed(function.nodes)]

    def _within(self, node: Node, scope: _Scope) -> Node:
        """Return a node of a function as it is in one call of it."""
        attributes: dict[str, Attribute] = {}
        for name, value in node.attributes.items():
            if not isinstance(value, Reference):
                attributes[name] = value
            elif value.name in scope.attributes:
                attributes[name] = given = scope.attributes[value.name]
                if given is None:
                    told = f"{scope.function.told}, {value.name!r}"
                    raise AlignmentError(self.path, "gives a tensor to a function as an attribute of a call", told)
        inputs, outputs = (tuple(self._name(each, scope) for each in names) for names in (node.inputs, node.outputs))
        return replace(node, inputs=inputs, outputs=outputs, attributes=attributes)

    def _name(self, name: str, scope: _Scope) -> str:
        if not name:
            return ""
        if name not in scope.names:
            self.count += 1
            scope.names[name] = f"{RESERVED}{self.count}"
        return scope.names[name]
