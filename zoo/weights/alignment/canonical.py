"""canonical: a graph as its layers, the same for all the ways in which exporters and optimisers write one model.

``Gemm`` is ``MatMul`` and ``Add``; a bias that is added belongs to what it is added to, a BatchNorm to the convolution
before it; ``FusedConv`` and ``FusedGemm`` of onnxruntime are taken apart; ``Mul`` and ``Add`` of one number a channel
are a norm, and so is what a norm of other statistics multiplies and adds; what only passes numbers on is left out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from zoo.errors import AlignmentError
from zoo.weights.alignment.arithmetic import small
from zoo.weights.alignment.constants import MAX_TURNS, Computed, folded
from zoo.weights.alignment.fused import unfused
from zoo.weights.alignment.graph import Constant, Graph, Node
from zoo.weights.alignment.layers import FIRST, TRANSPOSE, Edge, Held, Layer, Layout, Number, Step
from zoo.weights.alignment.order import ordered
from zoo.weights.alignment.words import undone, window, word

_PASSING = {"Identity", "Dropout", "Cast", "CastLike", "Reshape", "Flatten", "Squeeze", "Unsqueeze"}
_COMMUTATIVE = {"Add", "Mul", "Max", "Min", "Sum", "Mean"}
_JOINING = {"Sum": "Add", "FusedMatMul": "MatMul"}
_CONVOLUTIONS = {"Conv", "FusedConv", "ConvTranspose"}
_PRODUCTS = {"Gemm", "FusedGemm", "MatMul", "FusedMatMul"}
_WITHOUT_WEIGHTS = {"Resize", "Upsample", "Pad", "Clip", "Slice", "Gather", "Split", "Tile", "TopK", "Dropout"}
_MAX_LETTERS = 1 << 24  # of all trails together: words that go into words may double each time
_MOST_NUMBERS = 64  # on one way: each value remembers those before it
_MOST_COMPARED, _MOST_COMPARED_IN_ALL = 1 << 24, 1 << 28  # numbers of one constant, and of all that nodes take
_MOST_CHANNELS = 1 << 16  # a graph may fill a constant with any number of ones without holding them
_NORM = ("scale", "shift", "mean", "var")
_NORMS = {
    "InstanceNormalization": "InstanceNormalization",
    "GroupNormalization": "InstanceNormalization",  # of groups, which are laid out as channels before
    "LayerNormalization": "LayerNormalization",
}


class _Data(NamedTuple):
    """What depends on the input: from which layer, by which words, and whether nobody else takes it."""

    layer: int
    trail: tuple[str, ...] = ()
    sole: bool = True
    numbers: tuple[Number, ...] = ()

    def then(self, word: str, *numbers: Number) -> _Data:
        """Return it with one word more, and the numbers in that."""
        return self._replace(trail=(*self.trail, word), numbers=(*self.numbers, *numbers)[:_MOST_NUMBERS])


_Value = _Data | Held | Computed


def canonical(graph: Graph, path: Path) -> Layout:
    """Return the layers of a graph.

    Raises:
        AlignmentError: it is no graph of one input, or not in order.
    """
    if len(graph.inputs) != 1:
        raise AlignmentError(path, f"takes {len(graph.inputs)} inputs ({', '.join(graph.inputs)}); expected one")
    return _Walk(graph, path).layout()


class _Walk:
    def __init__(self, graph: Graph, path: Path) -> None:
        self.graph, self.path = graph, path
        self.constants = dict(graph.constants)
        self.values: dict[str, _Value] = {name: Held(each) for name, each in self.constants.items()}
        self.layers: list[Layer] = [Layer("input", "the input")]
        self.values.update({name: _Data(0) for name in graph.inputs})
        self.nodes = [each for node in ordered(graph, path) for each in unfused(node)]
        self.uses = Counter(name for node in self.nodes for name in node.operands)
        self.uses.update(graph.outputs)
        self.takers: dict[str, set[str]] = {}  # which operators take a value
        self.letters = 0
        self.to_compare = _MOST_COMPARED_IN_ALL
        self.nothing: dict[tuple[str, str], bool] = {}  # whether a weight in a role leaves everything as it is
        self.behind_affine: set[int] = set()  # what only multiplies, right behind a layer with weights
        for node in self.nodes:
            for name in node.operands:
                self.takers.setdefault(name, set()).add(node.op)

    def layout(self) -> Layout:
        for node in self.nodes:
            self._take(node)
        outputs = []
        for index, name in enumerate(self.graph.outputs):
            value = self.values[name]
            if not isinstance(value, _Data):  # a detector gives the sizes of its maps as well
                continue
            outputs.append(index)
            self.layers.append(Layer("output", f"the output {name!r}", inputs=[self._edge(value)]))
        if not outputs:
            raise AlignmentError(self.path, "gives nothing that depends on the input")
        return _pruned(self.layers, tuple(outputs))

    def _take(self, node: Node) -> None:
        given = [self.values[name] if name else None for name in node.operands]
        data = [each for each in given if isinstance(each, _Data)]
        if not data or node.op in ("Shape", "Size"):
            made = folded(node, [each for each in given if not isinstance(each, _Data)], self.constants)
            if isinstance(made, Held) and len(made.steps) > MAX_TURNS:
                raise AlignmentError(
                    self.path,
                    f"turns or reshapes one constant more than {MAX_TURNS} times",
                    f"{node.op} {node.name!r}",
                )
            for name in node.outputs:
                self.values[name] = made
        elif node.op in _PASSING:
            self._give(node, data[0])
        elif node.op in _CONVOLUTIONS and _is(given, 0, _Data) and _is(given, 1, Held):
            self._convolution(node, given)
        elif node.op in _PRODUCTS and _is_product(node, given):
            self._product(node, given)
        elif node.op == "BatchNormalization" and len(given) == 5 and all(_is(given, n, Held) for n in range(1, 5)):
            self._batchnorm(node, given)
        elif node.op in _NORMS and _is(given, 0, _Data):
            self._norm(node, given)
        elif node.op in ("Add", "Mul", "BiasGelu") and len(given) == 2 and len(data) == 1:
            self._by_constant(node, data[0], next(each for each in given if not isinstance(each, _Data)))
        else:
            self._other(node, given, data)

    def _give(self, node: Node, data: _Data, output: int = 0) -> None:
        name = node.outputs[output]
        self._count(node, data)
        self.values[name] = data._replace(sole=data.sole and self.uses[name] <= 1)

    def _count(self, node: Node, *data: _Data) -> None:
        """Refuse a graph whose trails would take much memory: each value has one of its own."""
        self.letters += sum(len(each) for part in data for each in part.trail)
        if self.letters > _MAX_LETTERS:
            raise AlignmentError(
                self.path, "has too many operators in a row without weights", f"{node.op} {node.name!r}"
            )

    def _add(self, node: Node, layer: Layer, *trail: str, numbers: tuple[Number, ...] = ()) -> None:
        self.layers.append(layer)
        self._give(node, _Data(len(self.layers) - 1, trail, numbers=numbers))

    def _edge(self, data: _Data) -> Edge:
        return Edge(data.layer, data.trail, data.numbers)

    def _convolution(self, node: Node, given: list[_Value | None]) -> None:
        op = "Conv" if node.op == "FusedConv" else node.op
        layer = Layer("affine", op, node, group=int(node.number("group", 1)))
        layer.inputs = [self._edge(_data(given[0]))]
        layer.slots["weight"] = weight = _held(given[1])
        layer.window = window(node, len(weight.shape) - 2)
        self._set_bias(layer, given[2] if len(given) > 2 else None)
        words = [node.text("activation")] if node.op == "FusedConv" and node.text("activation") else []
        added = given[3] if len(given) > 3 else None
        if isinstance(added, _Data):
            self.layers.append(layer)
            edges = [Edge(len(self.layers) - 1), self._edge(added)]
            layer = Layer("join", "Add", node, edges, ordered=False, nodes=0)
        self._add(node, layer, *words)

    def _product(self, node: Node, given: list[_Value | None]) -> None:
        data = _data(given[0])
        data = data.then("Transpose") if node.number("transA", 0) else data
        layer = Layer("affine", "Linear", node, inputs=[self._edge(data)])
        weight = _held(given[1])
        turned = node.op != "MatMul" and node.number("transB", 0)
        layer.slots["weight"] = weight if turned else weight.then(Step(TRANSPOSE, (1, 0)))
        bias = given[2] if len(given) > 2 else None
        words = [node.text("activation")] if node.text("activation") else []
        if isinstance(bias, _Data):
            self.layers.append(layer)
            edges = [Edge(len(self.layers) - 1), self._edge(bias)]
            layer = Layer("join", "Add", node, edges, ordered=False, nodes=0)
        else:
            self._set_bias(layer, bias)
        factors = [node.number("alpha", 1.0)] if node.op == "FusedMatMul" else []
        held = [Held(Constant(node.name, (), lambda: torch.tensor(factors))) for factor in factors if factor != 1]
        numbers = tuple(Number("Mul", each, node.outputs[0]) for each in held)
        self._add(node, layer, *words, *("Mul" for _ in numbers), numbers=numbers)

    def _set_bias(self, layer: Layer, bias: _Value | None) -> None:
        if isinstance(bias, Held):
            layer.slots["bias"] = bias
        elif isinstance(bias, Computed) and bias.parameters:
            layer.unknown["bias"] = bias.parameters

    def _batchnorm(self, node: Node, given: list[_Value | None]) -> None:
        data = _data(given[0])
        slots = {role: _held(each) for role, each in zip(_NORM, given[1:], strict=True)}
        eps = node.number("epsilon", 1e-5)
        before = self.layers[data.layer]
        alone = data.sole or self.takers[node.inputs[0]] == {"BatchNormalization"}
        if before.kind == "affine" and not data.trail and alone and not (before.normed and data.sole):
            layer, place = before, data.layer
            if not data.sole:  # one convolution under several norms: one layer for each
                slots = {**{role: before.slots[role] for role in ("weight", "bias") if role in before.slots}, **slots}
                layer = Layer(
                    before.kind, before.op, before.node, list(before.inputs), window=before.window, group=before.group
                )
                place = len(self.layers)
                self.layers.append(layer)
            layer.slots.update(slots)
            layer.eps, layer.normed, layer.nodes = eps, True, layer.nodes + 1
            self._give(node, _Data(place))
            return
        self._add(node, Layer("norm", node.op, node, [self._edge(data)], slots=slots, eps=eps, normed=True))

    def _norm(self, node: Node, given: list[_Value | None]) -> None:
        """Take a norm that computes its statistics: a word, and behind it one number a channel where it has weights."""
        data = _data(given[0]).then(_NORMS[node.op])
        weights = {role: each for role, each in zip(_NORM, given[1:3], strict=False) if isinstance(each, Held)}
        if all(self._does_nothing(role, each) for role, each in weights.items()):
            self._give(node, data)
        else:
            self._add(node, Layer("norm", node.op, node, [self._edge(data)], slots=weights))

    def _does_nothing(self, role: str, held: Held) -> bool:
        """Tell whether a weight that is no parameter leaves everything as it is: scale 1, shift 0.

        It is read once, however many nodes take it.
        """
        unknown = held.constant.parameter is not None or held.constant.values is None
        if unknown or held.count > _MOST_CHANNELS or held.index is not None:
            return False
        key = (role, held.constant.name)
        if key not in self.nothing:
            self.nothing[key] = bool((held.values() == (1 if role == "scale" else 0)).all())
        return self.nothing[key]

    def _by_constant(self, node: Node, data: _Data, constant: _Value | None) -> None:
        """Add or multiply what does not depend on the input: a bias, half a norm, or a plain number."""
        before = self.layers[data.layer]
        words = ("Gelu",) if node.op == "BiasGelu" else ()
        if isinstance(constant, Computed) and (not constant.parameters or constant.number):
            self._give(node, data.then(node.op, Number(node.op, None, node.outputs[0])))
            return
        if not isinstance(constant, Held):
            self._other(node, [data, constant], [data])
            return
        ours = data.sole and not data.trail
        vector = constant.count in constant.shape
        beside = ours and vector and before.kind == "affine" and not before.normed and constant.count == before.out
        bias = beside and node.op == "Add" and "bias" not in before.slots  # of one channel, too
        normed = before.kind == "norm" if not data.trail else data.trail[-1] in _NORMS.values()  # of one channel
        if constant.count == 1 and not bias and not (normed and constant.constant.parameter is not None):
            numbers = small(constant) or ()
            told = f"{node.op} {numbers[0]:.4g}" if numbers else node.op
            self._give(node, data.then(told, Number(node.op, constant, node.outputs[0])))
            return
        role = "scale" if node.op == "Mul" else "shift"
        if beside and role == "shift":
            before.normed = "bias" in before.slots
            before.slots["shift" if before.normed else "bias"] = constant
            before.nodes += 1
            self._give(node, _Data(data.layer, words))
            return
        if ours and before.kind == "norm" and role == "shift" and "shift" not in before.slots:
            before.slots["shift"] = constant
            before.nodes += 1
            self._give(node, _Data(self._with_affine(data.layer), words))
            return
        if beside and role == "scale":
            self.behind_affine.add(len(self.layers))
        self._add(node, Layer("norm", node.op, node, [self._edge(data)], slots={role: constant}), *words)

    def _with_affine(self, place: int) -> int:
        """Make a norm that multiplies and adds part of the layer with weights right before it; return what is left."""
        norm = self.layers[place]
        if place not in self.behind_affine:
            return place
        (edge,) = norm.inputs
        affine = self.layers[edge.source]
        affine.slots.update(norm.slots)
        affine.normed, affine.nodes = True, affine.nodes + norm.nodes
        return edge.source

    def _other(self, node: Node, given: list[_Value | None], data: list[_Data]) -> None:
        """Take any other operator: with weights, joining several paths, or a word on the trail."""
        weights = {
            str(slot): self._of_one_sample(each)
            for slot, each in enumerate(given)
            if isinstance(each, Held) and node.op not in _WITHOUT_WEIGHTS and each.constant.floating and each.count > 1
        }
        unknown = {
            str(slot): each.parameters
            for slot, each in enumerate(given)
            if isinstance(each, Computed) and each.parameters and not each.shape_like and not each.number
        }
        op = _JOINING.get(node.op, node.op)
        if weights or unknown:
            edges = [self._edge(each) for each in data]
            layer = Layer("other", op, node, edges, slots=weights, unknown=unknown, eps=node.number("epsilon", 1e-5))
            self.layers.append(layer)
            for output in range(len(node.outputs)):
                self._give(node, _Data(len(self.layers) - 1), output)
            return
        if len({each.layer for each in data}) > 1:
            edges = [self._edge(each) for each in data]
            self.layers.append(Layer("join", op, node, edges, ordered=node.op not in _COMMUTATIVE))
            for output in range(len(node.outputs)):
                self._give(node, _Data(len(self.layers) - 1), output)
            return
        told = word(node, given)
        self._count(node, *data)
        numbers = self._numbers(node, given)
        if len(data) > 1:
            told = f"{op}({'|'.join(sorted(','.join(each.trail) for each in data))})"
            numbers = tuple(dict.fromkeys((*(n for each in data for n in each.numbers), *numbers)))
        first = data[0] if len(data) == 1 else data[0]._replace(trail=(), numbers=())
        made = first.then(told, *numbers) if told else first
        if undone(made.trail):
            made = made._replace(trail=made.trail[:-2])
        for output in range(len(node.outputs)):
            self._give(node, made.then(f"#{output}") if output else made, output)

    def _of_one_sample(self, held: Held) -> Held:
        """Return a constant of which a graph for a fixed batch holds the same for each sample, as it is for one."""
        (shape,) = self.graph.inputs.values()
        batch = shape[0] if shape else None
        if batch is None or batch == 1 or held.shape[:1] != (batch,) or held.constant.values is None:
            return held
        if held.index is not None or held.parts or held.count > min(_MOST_COMPARED, self.to_compare):
            return held
        self.to_compare -= held.count
        return held.then(Step(FIRST)) if bool((held.values() == held.values()[:1]).all()) else held

    def _numbers(self, node: Node, given: list[_Value | None]) -> tuple[Number, ...]:
        """Return the single numbers that an operator takes."""
        if node.op in _WITHOUT_WEIGHTS or not node.outputs:
            return ()
        told = [
            Number(node.op, each if isinstance(each, Held) else None, node.outputs[0])
            for each in given
            if (isinstance(each, Held) and each.count == 1 and (each.constant.floating or node.op == "Pow"))
            or (isinstance(each, Computed) and not each.shape_like)
        ]
        return tuple(told)


def _pruned(layers: list[Layer], outputs: tuple[int, ...]) -> Layout:
    """Leave out layers that nothing takes from, and put each after those that it takes from."""
    needed = set()
    wanted = [index for index, layer in enumerate(layers) if layer.kind == "output"]
    while wanted:
        index = wanted.pop()
        if index not in needed:
            needed.add(index)
            wanted += [edge.source for edge in layers[index].inputs]
    kept = sorted(needed | {0})
    places = {index: place for place, index in enumerate(kept)}
    for index in kept:
        layers[index].inputs = [replace(edge, source=places[edge.source]) for edge in layers[index].inputs]
    return Layout([layers[index] for index in kept], outputs)


def _is(given: list[_Value | None], index: int, kind: type) -> bool:
    return index < len(given) and isinstance(given[index], kind)


def _is_product(node: Node, given: list[_Value | None]) -> bool:
    """Tell whether it is a linear layer: the input times a matrix that the graph holds."""
    scaled = node.op != "FusedMatMul" and not node.number("alpha", 1.0) == node.number("beta", 1.0) == 1.0
    keys = ("transBatchA", "transBatchB") if node.op == "FusedMatMul" else ("transA",)
    turned = any(node.number(key, 0) for key in keys)
    return (
        not scaled and not turned and _is(given, 0, _Data) and _is(given, 1, Held) and len(_held(given[1]).shape) == 2
    )


def _data(value: _Value | None) -> _Data:
    if not isinstance(value, _Data):
        raise TypeError(f"found {value!r}; expected what depends on the input")
    return value


def _held(value: _Value | None) -> Held:
    if not isinstance(value, Held):
        raise TypeError(f"found {value!r}; expected a constant")
    return value
