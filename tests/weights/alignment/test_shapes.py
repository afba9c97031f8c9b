"""Sizes: what a graph asks for is what onnxruntime would answer, or stays a question."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import disguises
import numpy as np
import onnx
import onnxruntime
import pytest
import strangers
import timm
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper
from strangers import Stranger

from zoo.weights.alignment.graph import Graph
from zoo.weights.alignment.reading import read_graph
from zoo.weights.alignment.shapes import sized
from zoo.weights.onnx.reading import read_onnx

node = helper.make_node
SHAPE = (2, 4, 9, 6)

HELD = {
    "w": np.zeros((8, 4, 3, 2), "float32"),
    "m": np.zeros((6, 5), "float32"),
    "v": np.zeros((6,), "float32"),
    "n": np.array(2.0, "float32"),
    "one": np.array(1),
    "two": np.array([1, 1, 0]),
    "pads": np.array([0, 1, 2, 0, 0, 0, 3, 0]),
    "to": np.array([0, -1, 3]),
    "starts": np.array([-1, 1]),
    "ends": np.array([-100, 100]),
    "axes": np.array([2, 3]),
    "steps": np.array([-2, 2]),
    "wide": np.array([7, 5, 1]),
    "hundred": np.array(100),
    "minus": np.array(-2),
    "halves": np.array([2, 7]),
    "start": np.array(0.0, "float32"),
    "end": np.array(4.0, "float32"),
    "broken": np.array(1.5, "float32"),
}

NODES = [
    node("Relu", ["x"], ["y"]),
    node("Conv", ["x", "w"], ["y"], strides=[2, 1], pads=[1, 0, 0, 2], dilations=[2, 3]),
    node("MaxPool", ["x"], ["y"], kernel_shape=[3, 2], strides=[3, 2], pads=[1, 0, 1, 0]),
    node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2]),
    node("Transpose", ["x"], ["y"], perm=[2, 0, 3, 1]),
    node("Transpose", ["x"], ["y"]),
    node("Reshape", ["x", "to"], ["y"]),
    node("Unsqueeze", ["x", "axes"], ["y"]),
    node("Flatten", ["x"], ["y"], axis=2),
    node("MatMul", ["x", "m"], ["y"]),
    node("Add", ["v", "x"], ["y"]),
    node("Mul", ["x", "n"], ["y"]),
    node("Concat", ["x", "x", "x"], ["y"], axis=-2),
    node("Gather", ["x", "one"], ["y"], axis=1),
    node("Gather", ["x", "two"], ["y"], axis=-1),
    node("Slice", ["x", "starts", "ends", "axes", "steps"], ["y"]),
    node("Slice", ["x", "starts", "ends", "axes"], ["y"]),
    node("Split", ["x", "halves"], ["y", "z"], axis=2),
    node("Split", ["x"], ["y", "z"], axis=2, num_outputs=2),
    node("Pad", ["x", "pads"], ["y"]),
    node("ReduceMean", ["x", "axes"], ["y"], keepdims=0),
    node("ReduceMean", ["x", "axes"], ["y"]),
    node("LayerNormalization", ["x", "v"], ["y"]),
    node("Expand", ["v", "wide"], ["y"]),
    node("ConstantOfShape", ["wide"], ["y"]),
    node("Range", ["hundred", "one", "minus"], ["y"]),
    node("Range", ["start", "end", "n"], ["y"]),
    node("Equal", ["x", "v"], ["y"]),
    node("FusedMatMul", ["x", "x"], ["y"], domain="com.microsoft", transB=1, alpha=2.0),
    node("FusedMatMul", ["x", "x"], ["y"], domain="com.microsoft", transA=1),
    node("BiasGelu", ["x", "v"], ["y"], domain="com.microsoft"),
]


def graph_of(path: Path) -> Graph:
    return read_graph(path, read_onnx(path, mapped=False).state_dict(), mapped=False)


def written(nodes: list[NodeProto], outputs: list[str], path: Path, shape: tuple[Any, ...] = SHAPE) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.INT64, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in HELD.items()],
    )
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=9), path)
    return path


def told(path: Path, shape: tuple[int, ...]) -> dict[str, list[int]]:
    """Return the sizes that are answered, by the name of what asked."""
    graph = graph_of(path)
    asked = {each.outputs[0] for each in graph.nodes if each.op == "Shape"}
    found = sized(graph, shape, path)
    return {
        name: each.values().tolist()
        for name, each in found.constants.items()
        if name in asked and each.values is not None
    }


@pytest.mark.parametrize("each", NODES, ids=[f"{index} {each.op_type}" for index, each in enumerate(NODES)])
def test_a_size_is_what_onnxruntime_says(each: NodeProto, tmp_path: Path) -> None:
    names = [f"{name} size" for name in each.output]
    asking = [node("Shape", [name], [f"{name} size"]) for name in each.output]
    path = written([each, *asking], names, tmp_path / "x.onnx")
    wanted = onnxruntime.InferenceSession(path).run(None, {"x": np.zeros(SHAPE, "float32")})
    assert told(path, SHAPE) == {name: array.tolist() for name, array in zip(names, wanted, strict=True)}


def test_all_sizes_of_a_swin_are_those_that_onnxruntime_sees(tmp_path: Path) -> None:
    def swin() -> torch.nn.Module:
        return timm.models.swin_transformer.SwinTransformer(
            img_size=32, patch_size=2, window_size=4, embed_dim=16, depths=(2, 2), num_heads=(2, 4), num_classes=5
        )

    strangers.exported(Stranger(swin, dict), "legacy", tmp_path / "x.onnx")
    for path in (tmp_path / "x.onnx", disguises.anonymous(tmp_path / "x.onnx")):
        found = told(path, (2, 3, 32, 32))
        model = onnx.load(path)
        model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.INT64, None) for name in found)
        session = onnxruntime.InferenceSession(model.SerializeToString())
        (source,) = session.get_inputs()
        seen = session.run(list(found), {source.name: np.zeros((2, 3, 32, 32), "float32")})
        assert len(found) > 30
        assert list(found.values()) == [array.tolist() for array in seen]


def chain(one: NodeProto, count: int) -> list[NodeProto]:
    """Return a node as often, each taking what the one before it gives."""
    made = []
    for place in range(count):
        taken, given = f"c{place}" if place else "x", f"c{place + 1}" if place < count - 1 else "y"
        again = NodeProto()
        again.CopyFrom(one)
        again.input[:] = [taken if name == "x" else name for name in one.input]
        again.output[:] = [given]
        made.append(again)
    return made


@pytest.mark.parametrize(
    "nodes",
    [
        [node("NonZero", ["x"], ["y"])],
        [node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER")],
        [node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 4], ceil_mode=1)],
        [node("MatMul", ["x", "v"], ["y"])],
        [node("MatMul", ["x", "w"], ["y"])],
        [node("Gather", ["x", "one"], ["y"], axis=9)],
        [node("Range", ["start", "end", "broken"], ["y"])],
        [node("Acme", ["x"], ["y"], domain="acme")],
        chain(node("Unsqueeze", ["x", "axes"], ["y"]), 8),
        chain(node("Concat", ["x", "x"], ["y"], axis=0), 60),
    ],
    ids=[
        "of values",
        "padding",
        "ceil",
        "a vector",
        "other lengths",
        "no axis",
        "parts",
        "of others",
        "axes",
        "doubled",
    ],
)
def test_what_cannot_be_told_stays_a_question(nodes: list[NodeProto], tmp_path: Path) -> None:
    path = written([*nodes, node("Shape", ["y"], ["size"])], ["size"], tmp_path / "x.onnx")
    assert told(path, SHAPE) == {}
