"""Small ONNX files that ask for far more than their size: of memory, of time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

node = helper.make_node


def written(nodes: Sequence[NodeProto], path: Path, **held: np.ndarray) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in held.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def vast(path: Path) -> Path:
    """Write a graph that makes 4 GiB of two small rows of ones."""
    tall, wide = np.ones((1 << 15, 1), "float32"), np.ones((1, 1 << 15), "float32")
    nodes = [
        node("Add", ["tall", "wide"], ["vast"]),
        node("ReduceMax", ["vast"], ["m"]),
        node("Add", ["x", "m"], ["y"]),
    ]
    return written(nodes, path, tall=tall, wide=wide)


def endless(path: Path, *, side: int = 1 << 12, sines: int = 10_000) -> Path:
    """Write a graph that computes 10¹¹ sines, and holds no more than ``side`` × ``side`` of them at a time."""
    nodes = [node("Add", ["tall", "wide"], ["s0"])]
    nodes += [node("Sin", [f"s{i}"], [f"s{i + 1}"]) for i in range(sines)]
    nodes += [node("ReduceMax", [f"s{sines}"], ["m"]), node("Add", ["x", "m"], ["y"])]
    tall, wide = np.ones((side, 1), "float32"), np.ones((1, side), "float32")
    return written(nodes, path, tall=tall, wide=wide)
