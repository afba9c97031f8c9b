"""Weights that a graph computes with before it takes them, and single numbers between layers, come home too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import disguises
import onnx
import pytest
import strangers
import torch
from onnx import helper, numpy_helper
from strangers import STRANGERS, Stranger
from torch import nn

import zoo
from zoo.errors import AlignmentError
from zoo.weights.alignment import align
from zoo.weights.alignment.unfolding import Unfolded

RETRIEVAL = STRANGERS["retrieval network, GeM and cosines"]


class Rows(nn.Module):
    """A perceptron whose last layer may be divided by the lengths of its rows."""

    def __init__(self, unit: bool = False, length: float = 1.0, angles: bool = True) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3, bias=False)
        self.unit, self.angles = unit, angles
        with torch.no_grad():
            self.last.weight.copy_(nn.functional.normalize(self.last.weight, dim=1) * length)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x.flatten(1)))
        weight = self.last.weight
        if not self.angles:
            return nn.functional.linear(x, weight / weight.norm(dim=1, keepdim=True))
        weight = nn.functional.normalize(weight, dim=1) if self.unit else weight
        return 5.0 * nn.functional.linear(nn.functional.normalize(x, dim=1), weight)


def rows(head: str, **changes: Any) -> dict[str, Any]:
    return {
        "input": {"channels": 4, "size": [1, 1]},
        "backbone": {"type": "mlp", "hidden": [6]},
        "head": {"type": head, "num_classes": 3, **changes},
    }


def exported(model: nn.Module, path: Path, **options: Any) -> Path:
    torch.onnx.export(model.eval(), (torch.randn(2, 4, 1, 1),), path, dynamo=True, verbose=False, **options)
    return path


def changed(path: Path, change: Callable[[onnx.GraphProto], None]) -> Path:
    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, path)
    return path


def test_what_the_graph_computes_with_comes_back_bit_for_bit(tmp_path: Path) -> None:
    theirs = strangers.exported(RETRIEVAL, "dynamo, unfolded", tmp_path / "x.onnx")
    model = zoo.load(disguises.anonymous(tmp_path / "x.onnx"), spec=RETRIEVAL.spec())
    assert torch.equal(model.head.fc.weight, theirs.weight)
    assert torch.equal(model.neck.exponent, theirs.p)
    assert model.head.scale.item() == theirs.scale
    origins = {each.name: each for each in model.migration.alignment.origins}
    assert not any(origins[name].note for name in ("head.fc.weight", "head.scale", "neck.exponent"))


def test_a_direction_whose_length_is_lost_is_told_so(tmp_path: Path) -> None:
    theirs = strangers.exported(RETRIEVAL, "dynamo", tmp_path / "x.onnx")
    model = zoo.load(tmp_path / "x.onnx", spec=RETRIEVAL.spec())
    torch.testing.assert_close(model.head.fc.weight, nn.functional.normalize(theirs.weight, dim=1))
    (origin,) = [each for each in model.migration.alignment.origins if each.name == "head.fc.weight"]
    assert origin.note == "of which the model takes the direction alone; the file has that length"


@pytest.mark.parametrize("learned", [True, False])
def test_a_scale_that_is_learnt_or_not_is_that_of_the_file(learned: bool, tmp_path: Path) -> None:
    model = zoo.load(exported(Rows(), tmp_path / "x.onnx"), spec=rows("cosine", learned=learned, scale=64.0))
    assert model.head.scale.item() == 5.0


@pytest.mark.parametrize("name", ["head.fc.weight", "head.scale", "neck.exponent"])
def test_one_number_that_came_out_wrong_is_noticed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strangers.exported(RETRIEVAL, "legacy", tmp_path / "x.onnx")
    assert zoo.load(tmp_path / "x.onnx", spec=RETRIEVAL.spec()).migration.proven
    right = align.unfolded

    def wrong(*args: object) -> Unfolded:
        found = right(*args)
        tensor = found.tensors[name].clone()
        tensor.reshape(-1)[0] += 1e-3
        return Unfolded({**found.tensors, name: tensor}, found.origins)

    monkeypatch.setattr(align, "unfolded", wrong)
    with pytest.raises(AlignmentError, match="computes something else than the model with its weights"):
        zoo.load(tmp_path / "x.onnx", spec=RETRIEVAL.spec())


def test_rows_that_are_no_units_are_not_those_of_a_head_of_cosines(tmp_path: Path) -> None:
    assert zoo.load(exported(Rows(), tmp_path / "x.onnx"), spec=rows("cosine")).migration.proven
    with pytest.raises(AlignmentError, match="computes something else than the model with its weights"):
        zoo.load(exported(Rows(length=1.01), tmp_path / "x.onnx"), spec=rows("cosine"))


def test_units_that_the_graph_makes_are_no_weights_of_a_plain_layer(tmp_path: Path) -> None:
    theirs = exported(Rows(unit=True, length=2.0), tmp_path / "x.onnx", optimize=False)
    assert zoo.load(theirs, spec=rows("cosine")).migration.proven
    theirs = exported(Rows(length=2.0, angles=False), tmp_path / "x.onnx", optimize=False)
    with pytest.raises(AlignmentError, match="computes weights in its graph"):
        zoo.load(theirs, spec=rows("linear", bias=False))


def test_rows_that_are_divided_by_something_else_are_refused(tmp_path: Path) -> None:
    def lengths(graph: onnx.GraphProto) -> None:
        """Write the lengths as an optimiser does that folds them and nothing else, one of them wrong."""
        weight = next(each for each in graph.initializer if each.name == "last.weight")
        array = numpy_helper.to_array(weight)
        node = next(each for each in graph.node if each.op_type == "ReduceL2" and each.input[0] == weight.name)
        found = (array**2).sum(1, keepdims=True) ** 0.5
        found[1] *= factor
        graph.initializer.append(numpy_helper.from_array(found.astype("float32"), node.output[0]))
        graph.node.remove(node)

    for factor in (1.0, 1.001):
        path = changed(exported(Rows(unit=True, length=2.0), tmp_path / "x.onnx", optimize=False), lengths)
        if factor == 1:
            assert zoo.load(path, spec=rows("cosine")).migration.proven
            continue
        with pytest.raises(AlignmentError, match="computes something else than the model with its weights"):
            zoo.load(path, spec=rows("cosine"))


def test_a_power_whose_root_is_another_is_refused(tmp_path: Path) -> None:
    strangers.exported(RETRIEVAL, "dynamo", tmp_path / "x.onnx")

    def other(graph: onnx.GraphProto) -> None:
        last = [node for node in graph.node if node.op_type == "Pow"][-1]
        graph.initializer.append(helper.make_tensor("root", onnx.TensorProto.FLOAT, [1], [0.3]))
        last.input[1] = "root"

    with pytest.raises(AlignmentError, match="computes something else than the model with its weights"):
        zoo.load(changed(tmp_path / "x.onnx", other), spec=RETRIEVAL.spec())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"neck": {"type": "gap"}}, "computes something else"),
        ({"neck": {"type": "gmp"}}, "computes something else"),
        ({"head": {"type": "linear", "num_classes": 10, "bias": False}}, "that the model does not have.*Expand"),
        ({"head": {"type": "cosine", "num_classes": 11}}, "'head.fc.weight' 11×512"),
    ],
)
def test_another_pooling_or_head_is_refused(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    strangers.exported(RETRIEVAL, "dynamo", tmp_path / "x.onnx")
    with pytest.raises(AlignmentError, match=told):
        zoo.load(tmp_path / "x.onnx", spec={**RETRIEVAL.spec(), **changes})


def test_a_file_without_the_number_is_refused(tmp_path: Path) -> None:
    """A mean is a generalised one of the exponent 1, but nothing says so."""
    plain = Stranger(STRANGERS["torchvision ResNet, basic blocks"].make, dict)
    strangers.exported(plain, "dynamo", tmp_path / "x.onnx")
    spec = {**STRANGERS["torchvision ResNet, basic blocks"].spec(), "neck": {"type": "gem"}}
    with pytest.raises(AlignmentError, match=r"has no values for 1 tensors of the model.*\(neck\.exponent\)"):
        zoo.load(tmp_path / "x.onnx", spec=spec)
