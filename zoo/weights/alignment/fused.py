"""unfused: a node that onnxruntime made of several, as those again, where it holds weights and joins paths at once."""

from __future__ import annotations

from zoo.weights.alignment.graph import Node


def unfused(node: Node) -> list[Node]:
    """Return the nodes that a node was made of; itself if that is one alone.

    ``SkipLayerNormalization`` adds two values, and a bias of the first one where it has one, and norms the sum. What it
    gives as its fourth is the sum.

    >>> [each.op for each in unfused(Node("n", "SkipLayerNormalization", "com.microsoft", ("x", "y", "g"), ("z",)))]
    ['Add', 'LayerNormalization']
    """
    if (node.domain, node.op) != ("com.microsoft", "SkipLayerNormalization") or len(node.inputs) < 3:
        return [node]
    left, right, scale, shift, bias = (*node.inputs, "", "")[:5]
    given = node.outputs[3] if len(node.outputs) > 3 and node.outputs[3] else f"{node.outputs[0]}\0sum"
    made = []
    if bias:
        made.append(Node(node.name, "Add", "", (left, bias), (f"{given}\0biased",)))
        left = f"{given}\0biased"
    made.append(Node(node.name, "Add", "", (left, right), (given,)))
    weights = (scale, shift) if shift else (scale,)
    made.append(Node(node.name, "LayerNormalization", "", (given, *weights), node.outputs[:1], node.attributes))
    return made
