"""cut: a graph without what its owner put behind the end of the model: a softmax, the best class, the best few.

What is left off says little of what is before it: the best class is one whole number for a thousand. So the file is
run with the values before it as a further output, and these are what the model is compared with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from zoo.errors import AlignmentError
from zoo.weights.alignment.functions import RESERVED
from zoo.weights.alignment.graph import Graph, Node

_ENDINGS = {"Softmax", "LogSoftmax", "Hardmax", "Sigmoid", "ArgMax", "TopK", "ReduceMax"}
_BETWEEN = {"Identity", "Dropout", "Cast", "CastLike", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"}
_Stages = list[tuple[str, str]]  # the values that an ending takes and its operator, the innermost first


@dataclass(frozen=True)
class Cut:
    """A graph that ends where the model does.

    Attributes:
        graph: the graph, whose outputs are the values before what was left off.
        endings: for each output, what was left off: ``"Softmax → ArgMax"``, or nothing.
        added: those of its outputs that the file itself does not give.
    """

    graph: Graph
    endings: tuple[str, ...]
    added: tuple[str, ...]

    @property
    def told(self) -> str:
        """What was left off of any output, or nothing."""
        return ", ".join(dict.fromkeys(each for each in self.endings if each))

    @property
    def notes(self) -> list[str]:
        """What was left off, as a sentence."""
        return [f"it ends in {self.told}, which the model does not: it gives what is before that"] if self.told else []

    @property
    def before(self) -> str:
        """Where in the file that is which was compared, for the middle of a sentence."""
        return f", before its {self.told}," if self.told else ""


def cut(file: Graph, model: Graph, path: Path) -> Cut:
    """Leave off what a file does behind the end of a model.

    Args:
        file: the graph of the file.
        model: that of the model, which may end in a softmax itself.
        path: the file, for errors.

    Raises:
        AlignmentError: what is before the ending lies within a function, where onnxruntime cannot give it.
    """
    theirs, ours = _stages(file), _stages(model)
    found: dict[str, list[str]] = {}
    for index, (name, stages) in enumerate(zip(file.outputs, theirs, strict=True)):
        own = _words((ours if len(ours) == len(theirs) else ours[:1] * len(theirs))[index])
        left_off = stages[len(own) :] if _words(stages)[: len(own)] == own else []
        before = left_off[0][0] if left_off else name
        if before.startswith(RESERVED):
            told = f"ends in {left_off[0][1]} within a function, and what is before it cannot be looked at; inline it"
            raise AlignmentError(path, told)
        endings = found.setdefault(before, [])
        if left_off and (word := " → ".join(_words(left_off))) not in endings:
            endings.append(word)
    added = tuple(name for name in found if name not in file.outputs)
    return Cut(replace(file, outputs=tuple(found)), tuple(", ".join(each) for each in found.values()), added)


def _stages(graph: Graph) -> list[_Stages]:
    """Return, for each output of a graph, the endings that it goes through."""
    makers = {name: node for node in graph.nodes for name in node.outputs if name}
    best = {node.inputs[0] for node in graph.nodes if node.op == "ArgMax" and node.inputs}
    return [_behind(name, makers, best) for name in graph.outputs]


def _behind(name: str, makers: Mapping[str, Node], best: set[str]) -> _Stages:
    found: _Stages = []
    seen = set()
    while (node := makers.get(name)) is not None and node.inputs and name not in seen and not node.domain:
        seen.add(name)
        name = node.inputs[0]
        if node.op in _ENDINGS and (node.op != "ReduceMax" or name in best):  # a maximum over a map is a pooling
            found.append((name, node.op))
        elif node.op not in _BETWEEN:
            break
    return found[::-1]


def _words(stages: _Stages) -> list[str]:
    return [word for _, word in stages]
