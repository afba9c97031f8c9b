"""Files in float64, most of which onnxruntime does not run, come home as closely as float64 tells."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import strangers
import torch
from onnx import TensorProto, helper, numpy_helper
from strangers import STRANGERS

import zoo
from zoo.errors import AlignmentError, RunawayGraphError
from zoo.weights.alignment import align
from zoo.weights.alignment.unfolding import Unfolded
from zoo.weights.verification.apart import outputs_apart
from zoo.weights.verification.bounds import Bounds

LENET = "LeNet-5 as nn.Sequential"
REFERENCE = "the reference implementation of onnx"


@pytest.fixture
def lenet(tmp_path: Path) -> Path:
    strangers.exported(STRANGERS[LENET], "dynamo, float64", tmp_path / "x.onnx")
    return tmp_path / "x.onnx"


def test_a_file_in_float64_becomes_a_model_in_float64_and_it_is_told_what_ran_it(lenet: Path) -> None:
    model = zoo.load(lenet, spec="lenet")
    assert {each.dtype for each in model.parameters()} == {torch.float64}
    proof = model.migration.proofs[-1]
    assert proof.claim.startswith(f"{REFERENCE} on the file and the model agree")
    assert proof.difference <= proof.tolerance < 1e-14
    assert zoo.load(lenet, spec="lenet", dtype="float32").head.fc.weight.dtype == torch.float32


def test_one_number_that_float32_would_not_tell_apart_is_noticed(lenet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = align.unfolded

    def wrong(*args: object) -> Unfolded:
        found = right(*args)
        tensor = found.tensors["backbone.stages.0.conv.weight"].clone()
        tensor[0, 0, 0, 0] *= 1 + 1e-10
        return Unfolded({**found.tensors, "backbone.stages.0.conv.weight": tensor}, found.origins)

    monkeypatch.setattr(align, "unfolded", wrong)
    with pytest.raises(AlignmentError, match="computes something else than the model with its weights"):
        zoo.load(lenet, spec="lenet")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"backbone": {"pool": "max"}}, "something else than the model.*AveragePool.*MaxPool"),
        ({"head": {"num_classes": 11}}, "'head.fc.weight' 11×84"),
    ],
)
def test_another_architecture_is_refused(changes: dict[str, dict[str, object]], told: str, lenet: Path) -> None:
    with pytest.raises(AlignmentError, match=told):
        zoo.load(lenet, spec=strangers.spec_of("lenet", **changes))


def test_what_is_before_the_best_class_is_looked_at_by_the_reference_too(tmp_path: Path) -> None:
    theirs = strangers.exported(STRANGERS["LeNet-5, best three"], "dynamo, float64", tmp_path / "x.onnx")
    model = zoo.load(tmp_path / "x.onnx", spec="lenet")
    assert model.migration.proofs[-1].claim.startswith(f"{REFERENCE} on the file, before its Softmax → TopK, and")
    assert torch.equal(model.head.fc.weight, theirs.model[11].weight)


def test_onnxruntime_runs_what_it_can(tmp_path: Path) -> None:
    spec = {
        "input": {"channels": 3, "size": [4, 4]},
        "backbone": {"type": "mlp", "hidden": [8]},
        "head": {"type": "linear", "num_classes": 3},
    }
    ours = zoo.build(spec).double().eval()
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    torch.onnx.export(ours, (x,), tmp_path / "x.onnx", dynamo=True, verbose=False)
    model = zoo.load(tmp_path / "x.onnx", spec=spec)
    assert model.migration.proofs[-1].claim.startswith("onnxruntime on the file")
    assert model.migration.proofs[-1].tolerance < 1e-14


def test_the_reference_implementation_is_held_to_its_bounds(tmp_path: Path) -> None:
    double = TensorProto.DOUBLE
    graph = helper.make_graph(
        [helper.make_node("Tile", ["x", "times"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", double, [1, 4])],
        [helper.make_tensor_value_info("y", double, None)],
        [numpy_helper.from_array(torch.tensor([1 << 28, 1]).numpy(), "times")],
    )
    path = tmp_path / "x.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    x = torch.ones(1, 4, dtype=torch.float64)
    with pytest.raises(RunawayGraphError, match="wants more than 1,024 MB of memory"):
        outputs_apart(path, [x], Bounds(1 << 30, 1 << 40, 20), reference=True)


def test_a_file_in_bfloat16_comes_home(tmp_path: Path) -> None:
    theirs = STRANGERS["LeNet-5 as nn.Sequential"].make().eval().bfloat16()
    x = torch.randn(2, 1, 32, 32, dtype=torch.bfloat16)
    torch.onnx.export(theirs, (x,), tmp_path / "x.onnx", dynamo=True, verbose=False)
    model = zoo.load(tmp_path / "x.onnx", spec="lenet")
    assert model.migration.proofs[-1].claim.startswith(f"{REFERENCE} on the file and the model agree")
    assert torch.equal(model.head.fc.weight, theirs[-1].weight)
    with pytest.raises(AlignmentError, match=r"is no graph of this model|computes something else"):
        zoo.load(tmp_path / "x.onnx", spec=strangers.spec_of("lenet", backbone={"activation": "relu"}))
