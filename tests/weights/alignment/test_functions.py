"""Files whose operators sit in functions of their own come home, and none of them grows in memory beyond bounds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import disguises
import numpy as np
import onnx
import pytest
import strangers
import torch
from onnx import FunctionProto, NodeProto, TensorProto, helper, numpy_helper
from strangers import STRANGERS

import zoo
from zoo.errors import AlignmentError, FileFormatError, ZooError
from zoo.weights.alignment import functions
from zoo.weights.alignment.reading import read_graph

node = helper.make_node
SPEC = {
    "input": {"channels": 4, "size": [1, 1]},
    "backbone": {"type": "mlp", "hidden": [4]},
    "head": {"type": "linear", "num_classes": 3},
}
IMPORTS = [helper.make_opsetid("", 18), helper.make_opsetid("acme", 1)]


def weights() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    shapes = {"a": (4, 4), "b": (4,), "c": (3, 4), "d": (3,)}
    return {name: random.standard_normal(shape).astype("float32") for name, shape in shapes.items()}


def function(
    name: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    nodes: Sequence[NodeProto],
    attributes: Sequence[str] = (),
    domain: str = "acme",
    opset: int = 18,
    **defaults: Any,
) -> FunctionProto:
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("acme", 1)]
    protos = [helper.make_attribute(key, value) for key, value in defaults.items()]
    return helper.make_function(domain, name, inputs, outputs, nodes, imports, list(attributes), protos)


def call(name: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> NodeProto:
    return node(name, inputs, outputs, domain="acme", **attributes)


def referring(made: NodeProto, **names: str) -> NodeProto:
    """Make attributes of a node those of the call of the function that it is in."""
    for name, (outer, kind) in {key: value.split(":") for key, value in names.items()}.items():
        number = onnx.AttributeProto.AttributeType.Value(kind)
        made.attribute.append(onnx.AttributeProto(name=name, ref_attr_name=outer, type=number))
    return made


LINEAR = function(
    "linear", ["x", "w", "b"], ["y"], [referring(node("Gemm", ["x", "w", "b"], ["y"]), transB="turned:INT")], turned=1
)
LAYERS = [
    node("Flatten", ["x"], ["f"]),
    call("linear", ["f", "a", "b"], ["h"]),
    node("Relu", ["h"], ["h1"]),
    call("linear", ["h1", "c", "d"], ["y"], turned=1),
]


def written(
    path: Path, nodes: Sequence[NodeProto], used: Sequence[FunctionProto], held: dict[str, np.ndarray] | None = None
) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4, 1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(array, name) for name, array in (weights() if held is None else held).items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=IMPORTS, ir_version=10, functions=used), path)
    return path


def check(path: Path) -> zoo.Model:
    model = zoo.load(path, spec=SPEC)
    assert model.migration.proven
    held, x = weights(), torch.randn(2, 4, 1, 1)
    a, b, c, d = (torch.from_numpy(held[name]) for name in "abcd")
    torch.testing.assert_close(model(x), torch.relu(x.flatten(1) @ a.T + b) @ c.T + d)
    assert torch.equal(model.head.fc.weight, c)
    return model


def test_a_function_with_attributes_and_their_defaults_is_followed(tmp_path: Path) -> None:
    path = written(tmp_path / "x.onnx", LAYERS, [LINEAR])
    assert check(path).migration.alignment.notes == ("the graphs fit operator for operator",)
    assert zoo.load_into(zoo.build(SPEC), path).fits


def test_identify_tells_the_model_of_a_file_of_functions(tmp_path: Path) -> None:
    strangers.exported(STRANGERS["LeNet-5 as nn.Sequential"], "legacy", tmp_path / "x.onnx")
    path = disguises.functions(tmp_path / "x.onnx")
    assert {each.op_type.partition("_")[0] for each in onnx.load(path).graph.node} == {"run"}
    assert zoo.identify(path).fits[0].model == "lenet"


def test_tensors_within_functions_are_weights_too(tmp_path: Path) -> None:
    held = weights()
    stated = [node("Constant", [], [name], value=numpy_helper.from_array(held[name])) for name in "cd"]
    last = function("last", ["x"], ["y"], [*stated, node("Gemm", ["x", "c", "d"], ["y"], transB=1)])
    layers = [*LAYERS[:-1], call("last", ["h1"], ["y"])]
    model = check(written(tmp_path / "x.onnx", layers, [LINEAR, last], {name: held[name] for name in "ab"}))
    assert {each.source for each in model.migration.alignment.origins} == {"a", "b", "last/c", "last/d"}


def test_what_is_left_out_of_a_call_is_left_out_within(tmp_path: Path) -> None:
    body = [node("Clip", ["x", "low", "high"], ["y"]), node("Identity", ["y"], ["z"])]
    clip = function("clip", ["x", "low", "high"], ["y", "z"], body)
    layers = [*LAYERS[:2], call("clip", ["h", "zero"], ["", "h1"]), LAYERS[3]]
    zero = {"zero": np.array(0, "float32")}
    check(written(tmp_path / "x.onnx", layers, [LINEAR, clip], weights() | zero))


def test_functions_of_one_name_are_told_apart_by_their_overload(tmp_path: Path) -> None:
    tanh, relu = (function("act", ["x"], ["y"], [node(op, ["x"], ["y"])]) for op in ("Tanh", "Relu"))
    relu.overload = "relu"
    layers = [*LAYERS[:2], call("act", ["h"], ["h1"]), LAYERS[3]]
    layers[2].overload = "relu"
    path = written(tmp_path / "x.onnx", layers, [LINEAR, tanh, relu])
    model = onnx.load(path)
    model.ir_version = 10
    onnx.save(model, path)
    check(path)


def test_a_function_of_an_older_opset_is_read_as_it_runs(tmp_path: Path) -> None:
    relu = function("act", ["x"], ["y"], [node("Relu", ["x"], ["y"])], opset=13)
    layers = [*LAYERS[:2], call("act", ["h"], ["h1"]), LAYERS[3]]
    check(written(tmp_path / "x.onnx", layers, [LINEAR, relu]))
    gone = function("act", ["x"], ["y"], [node("Squeeze", ["u"], ["y"], axes=[0])], opset=11)
    gone.node.insert(0, node("Unsqueeze", ["x"], ["u"], axes=[0]))
    layers.insert(3, call("act", ["h1"], ["h2"]))
    layers[2:4] = [node("Relu", ["h"], ["h0"]), call("act", ["h0"], ["h1"])]
    with pytest.raises(AlignmentError, match="cannot be proven: onnxruntime does not run"):
        zoo.load(written(tmp_path / "x.onnx", layers, [LINEAR, gone]), spec=SPEC)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ([node("Tanh", ["x"], ["y"])], "computes something else than the model with its weights"),
        ([node("Relu", ["x"], ["z"]), node("Add", ["z", "z"], ["y"])], "something else than the model"),
        ([node("Thing", ["x"], ["y"], domain="other")], r"has an operator of 'other', .* other.Thing"),
        ([node("Tile", ["x", "x"], ["y"])], "has an operator that the model does not have"),
        ([node("Relu", ["a"], ["y"])], r"needs '\\x00\d+', which nothing gives"),
        ([node("Relu", ["x"], ["y"]), node("Relu", ["x"], ["y"])], "has two values called 'h1'"),
        ([node("If", ["x"], ["y"], then_branch=helper.make_graph([], "g", [], []))], "has graphs within a node"),
    ],
    ids=["other activation", "twice as much", "unknown", "enlarging", "from outside", "two values", "graph"],
)
def test_a_function_that_does_something_else_is_refused(body: list[NodeProto], told: str, tmp_path: Path) -> None:
    layers = [*LAYERS[:2], call("act", ["h"], ["h1"]), LAYERS[3]]
    relu = function("act", ["x"], ["y"], [node("Relu", ["x"], ["y"])])
    check(written(tmp_path / "x.onnx", layers, [LINEAR, relu]))
    with pytest.raises(AlignmentError, match=told):
        zoo.load(written(tmp_path / "x.onnx", layers, [LINEAR, function("act", ["x"], ["y"], body)]), spec=SPEC)


def test_another_architecture_in_functions_is_refused(tmp_path: Path) -> None:
    strangers.exported(STRANGERS["LeNet-5 as nn.Sequential"], "legacy", tmp_path / "x.onnx")
    path = disguises.functions(tmp_path / "x.onnx")
    with pytest.raises(AlignmentError, match=r"Linear .*120×400.*'bottleneck.layers.0.linear.weight' 84×400"):
        zoo.load(path, spec=strangers.spec_of("lenet", bottleneck={"hidden": [84, 120]}))
    with pytest.raises(AlignmentError, match=r"after Tanh, AveragePool 2×2 strides=2,2; .*after Tanh, MaxPool 2×2"):
        zoo.load(path, spec=strangers.spec_of("lenet", backbone={"pool": "max"}))


def chain(count: int, times: int, last: Sequence[NodeProto]) -> list[FunctionProto]:
    """Make functions of which each calls the next one several times."""
    found = [function(f"f{count}", ["x"], ["y"], last)]
    for depth in range(count):
        names = ["x", *(f"t{n}" for n in range(1, times)), "y"]
        calls = [call(f"f{depth + 1}", [a], [b]) for a, b in pairwise(names)]
        found.append(function(f"f{depth}", ["x"], ["y"], calls))
    return found


@pytest.mark.parametrize(
    ("used", "told"),
    [
        (chain(60, 2, [node("Relu", ["x"], ["y"])]), r"make more than 50000 nodes of it.* function 'acme.f\d+'"),
        (chain(60, 2, []), "make more than 50000 nodes of it"),
        (chain(9, 3, [node("Sum", ["x"] * 500, ["y"])]), "make more than 1000000 names of it"),
        (
            [
                function("f0", ["x"], ["y"], [call("f1", ["x"], ["y"])]),
                function("f1", ["x"], ["y"], [call("f2", ["x"], ["y"])]),
                function("f2", ["x"], ["y"], [call("f1", ["x"], ["y"])]),
            ],
            "has functions that call themselves.*function 'acme.f[12]'",
        ),
        ([function("f0", ["x"], ["y"], [call("f0", ["x"], ["y"])])], "call themselves.*function 'acme.f0'"),
    ],
    ids=["doubling", "doubling nothing", "names", "circle", "itself"],
)
def test_functions_that_would_explode_are_refused_before_anything_is_made(
    used: list[FunctionProto], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(functions._Inlining, "of", lambda *_: pytest.fail("it was inlined"))
    layers = [*LAYERS[:2], call("f0", ["h"], ["h1"]), LAYERS[3]]
    path = written(tmp_path / "x.onnx", layers, [LINEAR, *used])
    with pytest.raises(AlignmentError, match=told):
        zoo.load(path, spec=SPEC)
    assert zoo.identify(path).fits == ()


def test_functions_as_deep_as_a_graph_may_be_large_are_followed(tmp_path: Path) -> None:
    layers = [*LAYERS[:2], call("f0", ["h"], ["h1"]), LAYERS[3]]
    path = written(tmp_path / "x.onnx", layers, [LINEAR, *chain(20_000, 1, [node("Relu", ["x"], ["y"])])])
    graph = read_graph(path, {name: torch.from_numpy(each) for name, each in weights().items()}, mapped=True)
    assert [each.op for each in graph.nodes] == ["Flatten", "Gemm", "Relu", "Gemm"]


@pytest.mark.parametrize(
    ("layers", "used", "told"),
    [
        (LAYERS, [LINEAR, LINEAR], "has two functions of one name"),
        (
            [*LAYERS[:2], node("Relu", ["h"], ["h1"]), LAYERS[3]],
            [LINEAR, function("Relu", ["x"], ["y"], [node("Tanh", ["x"], ["y"])], domain="")],
            "by the name of an operator of onnxruntime.*function 'Relu'",
        ),
        ([*LAYERS[:3], call("linear", ["h1", "c", "d", "d"], ["y"])], [LINEAR], "3 inputs and 1 outputs with 4 and 1"),
        (
            [*LAYERS[:3], call("other", ["h1", "c", "d"], ["y"])],
            [LINEAR],
            "has an operator of 'acme', which is unknown",
        ),
        (
            [*LAYERS[:3], call("made", ["h1"], ["y"], what=numpy_helper.from_array(weights()["c"]))],
            [
                LINEAR,
                function(
                    "made",
                    ["x"],
                    ["y"],
                    [referring(node("Constant", [], ["c"]), value="what:TENSOR"), node("MatMul", ["x", "c"], ["y"])],
                    ["what"],
                ),
            ],
            "gives a tensor to a function as an attribute of a call.*function 'acme.made', 'what'",
        ),
        (
            [*LAYERS[:2], node("Relu", ["h"], ["\0001"]), call("linear", ["\0001", "c", "d"], ["y"])],
            [LINEAR],
            "zero byte",
        ),
    ],
    ids=["two", "an operator's", "many inputs", "unknown", "a tensor", "reserved"],
)
def test_what_calls_badly_is_told(
    layers: list[NodeProto], used: list[FunctionProto], told: str, tmp_path: Path
) -> None:
    with pytest.raises(AlignmentError, match=told):
        zoo.load(written(tmp_path / "x.onnx", layers, used), spec=SPEC)


def test_an_attribute_of_a_function_is_damage_where_there_is_no_function(tmp_path: Path) -> None:
    last = referring(node("Gemm", ["h1", "c", "d"], ["y"]), transB="turned:INT")
    with pytest.raises(FileFormatError, match="takes an attribute of a function, and is in none"):
        zoo.load(written(tmp_path / "x.onnx", [*LAYERS[:3], last], [LINEAR]), spec=SPEC)


def test_a_tensor_within_a_function_is_there_once_however_often_it_is_called(tmp_path: Path) -> None:
    large = numpy_helper.from_array(np.ones((512, 512), "float32"))
    body = [node("Constant", [], ["c"], value=large), node("ReduceSum", ["c"], ["s"]), node("Mul", ["x", "s"], ["y"])]
    calls = [call("f", [f"v{n}"], [f"v{n + 1}"]) for n in range(1000)]
    nodes = [node("Flatten", ["x"], ["v0"]), *calls, node("Gemm", ["v1000", "c", "d"], ["y"], transB=1)]
    path = written(tmp_path / "x.onnx", nodes, [function("f", ["x"], ["y"], body)])
    graph = read_graph(path, {name: torch.from_numpy(each) for name, each in weights().items()}, mapped=True)
    assert len(graph.constants) > 1000
    assert sum(each.shape == (512, 512) for each in graph.tensors.values()) == 1
    with pytest.raises(ZooError):
        zoo.load(path, spec=SPEC)
