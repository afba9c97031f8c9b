"""matches: which layer of one graph is which of the other, by what each is and by what lies before and behind it.

Colours are refined as in Weisfeiler and Lehman, "The reduction of a graph to canonical form and the algebra which
appears therein", 1968: a layer's colour becomes that of itself and of its neighbours, until nothing changes. Where
several layers keep one colour, as in parallel branches that are alike, a pair of them is fixed and colours are refined
again, so that a branch is paired as a whole.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from zoo.weights.alignment.layers import Layer, Layout

MAX_ROUNDS = 64
"""How often colours are refined: as far as a layer sees beside the paths before and behind it."""


@dataclass(frozen=True)
class Level:
    """How much has to be the same.

    Attributes:
        told: what is, for reports.
        trails: whether activations, poolings and all else without weights have to be.
        windows: whether strides, paddings and kernels have to be.
    """

    told: str
    trails: bool
    windows: bool


LEVELS = (
    Level("operator for operator", trails=True, windows=True),
    Level("by the operators with weights", trails=False, windows=True),
    Level("by the sizes of the weights alone", trails=False, windows=False),
)
"""From the strictest to the loosest; what a loose one finds is proven no less."""

Pairs = Sequence[tuple[int, int]]
"""Pairs of layers: of the model, of the file."""


class _Colours:
    """One table of colours for both graphs."""

    def __init__(self) -> None:
        self.known: dict[object, int] = {}

    def of(self, what: object) -> int:
        return self.known.setdefault(what, len(self.known))


def matches(model: Layout, file: Layout, level: Level) -> Iterator[tuple[Pairs, frozenset[int]]]:
    """Give every way to lay one graph over the other, the likeliest first.

    Args:
        model: the layers of the model.
        file: those of the file.
        level: how much has to be the same.

    Returns:
        The pairs, and those layers of the model that have more than one counterpart.
    """
    if len(model.layers) != len(file.layers):
        return
    table = _Colours()
    colours = [_both(layout, level, table) for layout in (model, file)]
    classes = Counter(colours[0])
    unsure = frozenset(index for index, colour in enumerate(colours[0]) if classes[colour] > 1)
    for pairs in _fixed((model, file), colours, level, table):
        yield pairs, unsure


def first_differences(model: Layout, file: Layout, level: Level) -> tuple[Layer | None, Layer | None]:
    """Return the first layer of each graph that has no counterpart in the other, by what lies before it."""
    table = _Colours()
    ahead = [_forward(layout, level, table) for layout in (model, file)]
    found: list[Layer | None] = []
    for here, there, layout in ((0, 1, model), (1, 0, file)):
        others = Counter(ahead[there])
        first = None
        for index, colour in enumerate(ahead[here]):
            if not others[colour]:
                first = layout.layers[index]
                break
            others[colour] -= 1
        found.append(first)
    return found[0], found[1]


def _label(layer: Layer, level: Level) -> object:
    windows = (layer.op, layer.window, layer.slots["weight"].shape) if level.windows and layer.kind == "affine" else ()
    return (layer.label, windows)


def _forward(layout: Layout, level: Level, table: _Colours) -> list[int]:
    """Colour each layer by itself and all that lies before it."""
    colours: list[int] = []
    outputs = 0
    for layer in layout.layers:
        before: list[object] = [(colours[edge.source], edge.trail if level.trails else ()) for edge in layer.inputs]
        which = outputs if layer.kind == "output" else 0
        outputs += layer.kind == "output"
        if layer.kind == "output":  # how the two end is for the proof to tell
            before = [each[:1] for each in before if isinstance(each, tuple)]
        label = _label(layer, level) if layer.kind != "output" else ("output", which)
        colours.append(table.of((label, tuple(before if layer.ordered else sorted(before, key=repr)))))
    return colours


def _both(layout: Layout, level: Level, table: _Colours) -> list[int]:
    """Colour each layer by all that lies before it and all that lies behind it."""
    ahead = _forward(layout, level, table)
    behind = [0] * len(layout.layers)
    consumers = layout.consumers()
    for index in reversed(range(len(layout.layers))):
        after = sorted(_seen_by(layout, taker, slot, behind, level) for taker, slot in consumers[index])
        label = _label(layout.layers[index], level) if layout.layers[index].kind != "output" else "output"
        behind[index] = table.of(("behind", label, tuple(after)))
    return [table.of(("both", a, b)) for a, b in zip(ahead, behind, strict=True)]


def _seen_by(layout: Layout, taker: int, slot: int, colours: list[int], level: Level) -> tuple[int, int, str]:
    layer = layout.layers[taker]
    trail = layer.inputs[slot].trail if level.trails and layer.kind != "output" else ()
    return colours[taker], slot if layer.ordered else -1, " ".join(trail)


def _refined(layout: Layout, colours: list[int], level: Level, table: _Colours) -> list[int]:
    consumers = layout.consumers()
    for _ in range(MAX_ROUNDS):
        new = []
        for index, layer in enumerate(layout.layers):
            before = [colours[edge.source] for edge in layer.inputs]
            after = sorted(_seen_by(layout, taker, slot, colours, level) for taker, slot in consumers[index])
            new.append(
                table.of(("round", colours[index], tuple(before if layer.ordered else sorted(before)), tuple(after)))
            )
        same = len(set(new)) == len(set(colours))
        colours = new
        if same:
            break
    return colours


def _fixed(layouts: tuple[Layout, Layout], colours: list[list[int]], level: Level, table: _Colours) -> Iterator[Pairs]:
    """Fix pairs among layers of one colour, until each has a colour of its own."""
    rounds = [_refined(layout, colour, level, table) for layout, colour in zip(layouts, colours, strict=True)]
    members: list[dict[int, list[int]]] = []
    for colour in rounds:
        by_colour: dict[int, list[int]] = defaultdict(list)
        for index, each in enumerate(colour):
            by_colour[each].append(index)
        members.append(by_colour)
    ours, theirs = members
    if any(len(theirs.get(colour, ())) != len(indices) for colour, indices in ours.items()):
        return
    several = [indices for indices in ours.values() if len(indices) > 1]
    if not several:
        yield [(indices[0], theirs[colour][0]) for colour, indices in ours.items()]
        return
    first = min(several)[0]
    for other in theirs[rounds[0][first]]:
        fixed = [list(colour) for colour in rounds]
        fixed[0][first] = fixed[1][other] = table.of(("fixed", len(table.known)))
        yield from _fixed(layouts, fixed, level, table)
