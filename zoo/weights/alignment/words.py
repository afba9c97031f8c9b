"""Words for what lies between layers, the same whichever exporter wrote it and with defaults said or left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from zoo.weights.alignment.arithmetic import small
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
        return _pooling(node)
    if op == "Pad" and not any(padding(node, inputs) or (1,)):
        return ""
    if op == "Transpose":
        return f"Transpose {','.join(map(str, node.ints('perm')))}".rstrip()
    if op in _GLOBAL:
        return f"global {_GLOBAL[op]}"
    if op == "Clip":
        bounds = [small(each) for each in inputs[1:]]
        low = bounds[0][0] if bounds and bounds[0] else node.number("min", float("-inf"))
        high = bounds[1][0] if len(bounds) > 1 and bounds[1] else node.number("max", float("inf"))
        return "Relu" if (low, high) == (0, float("inf")) else f"Clip {low:.4g} to {high:.4g}"
    name, default = _NUMBERS.get(op, ("", 0))
    return f"{op} {node.number(name, default):.4g}" if name else op


def padding(node: Node, inputs: Sequence[object]) -> tuple[float, ...]:
    """Return how much a ``Pad`` adds before and behind each axis; nothing where that is not known."""
    return node.ints("pads") or (small(inputs[1]) if len(inputs) > 1 else None) or ()


def _pooling(node: Node) -> str:
    kernel = node.ints("kernel_shape")
    told = window(node, len(kernel))
    kernel, told = _of_signals(node, kernel, told)
    if set(kernel) <= {1} and not told:
        return ""
    return " ".join([node.op, "×".join(map(str, kernel)), *told])


def undone(trail: Sequence[str]) -> bool:
    """Tell whether the last word of a trail turns back what the one before it turned."""
    orders = [word.removeprefix("Transpose ").split(",") for word in trail[-2:] if word.startswith("Transpose ")]
    return (
        len(orders) == 2
        and sorted(orders[0]) == sorted(orders[1])
        and [orders[0][int(n)] for n in orders[1]] == [str(n) for n in range(len(orders[0]))]
    )


def _of_signals(node: Node, kernel: tuple[int, ...], told: tuple[str, ...]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the window of a pooling without a first axis on which it does nothing: so torch pools signals."""
    dims = len(kernel)
    if dims < 2 or kernel[0] != 1:
        return kernel, told
    strides, dilations = (node.ints(name, (1,) * dims) for name in ("strides", "dilations"))
    pads = node.ints("pads", (0,) * 2 * dims)
    if strides[0] != 1 or pads[0] or pads[dims]:
        return kernel, told
    rest = {"strides": strides[1:], "dilations": dilations[1:], "pads": pads[1:dims] + pads[dims + 1 :]}
    return kernel[1:], window(replace(node, attributes={**node.attributes, **rest}), dims - 1)
