"""Words for what lies between layers, the same whichever exporter wrote it and with defaults said or left out."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.weights.alignment.constants import small
from zoo.weights.alignment.graph import Node

_POOLS = {"MaxPool", "AveragePool", "LpPool"}
_GLOBAL = {"GlobalAveragePool": "mean", "ReduceMean": "mean", "GlobalMaxPool": "max", "ReduceMax": "max"}
_NUMBERS = {"LeakyRelu": ("alpha", 0.01), "Elu": ("alpha", 1.0), "ThresholdedRelu": ("alpha", 1.0), "LRN": ("size", 0)}


def window(node: Node, dims: int) -> tuple[str, ...]:
    """Return how a window moves, as words; what is as it is by default is left out.

    Args:
        node: a convolution or a pooling.
        dims: how many axes the window has.
    """
    ones, zeros = (1,) * dims, (0,) * 2 * dims
    told = [
        f"{name}={','.join(map(str, value))}"
        for name, value, usual in (
            ("strides", node.ints("strides", ones), ones),
            ("pads", node.ints("pads", zeros), zeros),
            ("dilations", node.ints("dilations", ones), ones),
        )
        if value != usual
    ]
    padding = node.text("auto_pad", "NOTSET")
    return (*told, *([] if padding in ("NOTSET", "VALID", "") else [padding]))


def word(node: Node, inputs: Sequence[object]) -> str:
    """Return the word for an operator without weights; nothing for one that does nothing."""
    op = node.op
    if op in _POOLS:
        kernel = node.ints("kernel_shape")
        told = window(node, len(kernel))
        if set(kernel) <= {1} and not told:
            return ""
        return " ".join([op, "×".join(map(str, kernel)), *told])
    if op in _GLOBAL:
        return f"global {_GLOBAL[op]}"
    if op == "Clip":
        bounds = [small(each) for each in inputs[1:]]
        low = bounds[0][0] if bounds and bounds[0] else node.number("min", float("-inf"))
        high = bounds[1][0] if len(bounds) > 1 and bounds[1] else node.number("max", float("inf"))
        return "Relu" if (low, high) == (0, float("inf")) else f"Clip {low:.4g} to {high:.4g}"
    if op in _NUMBERS:
        name, default = _NUMBERS[op]
        return f"{op} {node.number(name, default):.4g}"
    return op
