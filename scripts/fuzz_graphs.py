"""Foreign ONNX graphs to be damaged, and the promise that reading them keeps: everything but the run by onnxruntime."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

SPECS: Mapping[str, Mapping[str, Any]] = {
    "perceptron": {
        "input": {"channels": 4, "size": [1, 1]},
        "backbone": {"type": "mlp", "hidden": [4]},
        "head": {"type": "linear", "num_classes": 3},
    },
    "network": {
        "input": {"channels": 1, "size": [8, 8]},
        "backbone": {"type": "vgg_lite", "layers": [1, 1], "channels": [2, 3], "norm": "batch"},
        "neck": {"type": "gap"},
        "head": {"type": "linear", "num_classes": 3},
    },
}
"""What the files are of, and are aligned with."""


def seeds(folder: Path) -> list[bytes]:
    """Return small honest files: of both exporters, folded and not, and with what a graph can make of constants.

    Args:
        folder: where files may be made.
    """
    import onnx
    import torch

    import zoo

    torch.manual_seed(0)
    found = [by_hand()]
    for name, spec in SPECS.items():
        model = zoo.build(dict(spec)).eval()
        ours = onnx.load(zoo.save(model, folder / f"{name}.onnx"))
        del ours.metadata_props[:]
        found.append(ours.SerializeToString())
        x = torch.zeros(1, spec["input"]["channels"], *spec["input"]["size"])
        with warnings.catch_warnings(action="ignore"):  # torch deprecates the exporter that most files are made by
            torch.onnx.export(model, (x,), folder / "legacy.onnx", dynamo=False, verbose=False)
        found.append((folder / "legacy.onnx").read_bytes())
    return found


def by_hand() -> bytes:
    """Return a perceptron whose graph has a function, an ending, and sizes that are computed of others."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    node = helper.make_node
    nodes = [
        node("Shape", ["d"], ["three"]),
        node("Constant", [], ["one"], value_ints=[1]),
        node("Concat", ["one", "three"], ["dims"], axis=0),
        node("ConstantOfShape", ["dims"], ["zeros"], value=helper.make_tensor("v", TensorProto.FLOAT, [1], [0.0])),
        node("Range", ["start", "end", "step"], ["few"]),
        node("Cast", ["few"], ["floats"], to=TensorProto.FLOAT),
        node("ReduceMin", ["floats"], ["zero"], keepdims=0),
        node("Flatten", ["x"], ["f"]),
        node("Gemm", ["f", "a", "b"], ["h"], transB=1, alpha=1.0),
        node("Linear", ["h"], ["h1"], domain="own"),
        node("Add", ["h1", "zero"], ["h2"]),
        node("Transpose", ["c"], ["t"], perm=[1, 0]),
        node("MatMul", ["h2", "t"], ["m"]),
        node("Add", ["m", "d"], ["s"]),
        node("ReduceSum", ["zeros"], ["none"], keepdims=0),
        node("Add", ["s", "none"], ["logits"]),
        node("Softmax", ["logits"], ["p"], axis=1),
        node("ArgMax", ["p"], ["y"], axis=1, keepdims=0),
    ]
    random = np.random.default_rng(0)
    shapes = {"a": (4, 4), "b": (4,), "c": (3, 4), "d": (3,)}
    held = {name: random.standard_normal(shape).astype("float32") for name, shape in shapes.items()}
    held |= {"start": np.array(0), "end": np.array(3), "step": np.array(1)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4, 1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, ["n"])],
        [numpy_helper.from_array(array, name) for name, array in held.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    own = helper.make_function("own", "Linear", ["i"], ["o"], [node("Relu", ["i"], ["o"])], opsets[:1])
    model: Any = helper.make_model(graph, opset_imports=opsets, functions=[own], ir_version=9)
    return bytes(model.SerializeToString())


def check(path: Path) -> bool:
    """Lay a file beside every model, and tell whether it fits one; what onnxruntime would give is taken as right."""
    import torch

    import zoo
    from zoo.spec import parse
    from zoo.weights.alignment import align
    from zoo.weights.alignment.identifying import models_of_graph
    from zoo.weights.alignment.proof import Observed
    from zoo.weights.onnx.reading import read_onnx
    from zoo.weights.verification.outputs import OutputParity

    def observe(*_: object) -> Observed:
        return Observed(torch.zeros(2, 1), [torch.arange(2.0)], "nobody")

    def prove(*_: object) -> list[OutputParity]:
        return [OutputParity("", "", "", 0.0, 1.0, 0.0)]

    models = {name: parse(dict(spec)) for name, spec in SPECS.items()}
    fits = False
    try:
        checkpoint = read_onnx(path, mapped=True)
        models_of_graph(path, checkpoint, models)
    except zoo.ZooError:
        return False
    with mock.patch.multiple(align, observe=observe, prove=prove):
        for parsed in models.values():
            try:
                found = align.aligned(path, checkpoint, parsed)
            except zoo.ZooError:
                continue
            str(found.report)
            fits = True
    return fits
