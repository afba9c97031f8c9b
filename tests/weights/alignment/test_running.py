"""A file with our names whose graph cannot be followed is believed if it computes what the model does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import strangers
import torch
from onnx import helper, numpy_helper

import zoo
from zoo.errors import AlignmentError

SPEC = strangers.spec_of("lenet", bottleneck={"hidden": [84, 84]}, head={"num_classes": 84})
"""Its last two matrices are of one shape."""


@pytest.fixture
def lenet(tmp_path: Path) -> tuple[Path, zoo.Model]:
    """A file with our names, in which one layer is there two times."""
    model = zoo.build(SPEC).eval()
    strangers.fill(model)
    path = tmp_path / "x.onnx"
    torch.onnx.export(model, (torch.zeros(2, 1, 32, 32),), path, dynamo=True, optimize=False, verbose=False)
    return _changed(path, _twice), model


def _changed(path: Path, change: Callable[[onnx.GraphProto], None]) -> Path:
    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, path)
    return path


def _twice(graph: onnx.GraphProto) -> None:
    """Apply the last layer of the bottleneck two times to the same, and take the mean."""
    weight = "bottleneck.layers.1.linear.weight"
    index, layer = next((i, node) for i, node in enumerate(graph.node) if weight in node.input)
    again = onnx.NodeProto()
    again.CopyFrom(layer)
    (made,) = layer.output
    layer.output[0], again.output[0], again.name = "once", "again", "again"
    graph.node.insert(index + 1, again)
    graph.node.insert(index + 2, helper.make_node("Mean", ["once", "again"], [made]))


def _swap(graph: onnx.GraphProto) -> None:
    """Exchange the names of two tensors of one shape, in the nodes as well, so that it computes what it did."""
    names = ["bottleneck.layers.1.linear.weight", "head.fc.weight"]
    other = dict(zip(names, reversed(names), strict=True))
    for each in graph.initializer:
        each.name = other.get(each.name, each.name)
    for node in graph.node:
        node.input[:] = [other.get(name, name) for name in node.input]


def _end_in(op: str, number: float) -> Callable[[onnx.GraphProto], None]:
    def change(graph: onnx.GraphProto) -> None:
        (output,) = graph.output
        last = next(node for node in graph.node if output.name in node.output)
        last.output[0] = "before"
        graph.node.append(helper.make_node("Constant", [], ["number"], value_float=number))
        graph.node.append(helper.make_node(op, ["before", "number"], [output.name], name="end"))

    return change


def test_it_is_run_and_believed(lenet: tuple[Path, zoo.Model]) -> None:
    path, model = lenet
    ours = zoo.load(path, spec=SPEC)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in ours.state_dict().items())
    told = ours.migration
    assert told.proven
    assert told.alignment is None
    assert told.proofs[-1].claim.startswith(
        "onnxruntime on the file and the model agree on random numbers and an image"
    )
    assert 0 <= told.proofs[-1].difference <= told.proofs[-1].tolerance < 1e-5
    assert told.uncertain[0].startswith("its graph was not laid beside the model's: it is no graph of this model")
    assert zoo.build(SPEC, weights=path).migration.proven
    assert zoo.load_into(zoo.build(SPEC), path).fits


def test_names_that_were_swapped_are_found_out(lenet: tuple[Path, zoo.Model]) -> None:
    path, _ = lenet
    with pytest.raises(AlignmentError) as caught:
        zoo.load(_changed(path, _swap), spec=SPEC)
    names = "it is not believed by its names alone, for it computes something else than the model with these tensors"
    assert str(caught.value).startswith(f"{path}: is no graph of this model, and {names}: ")
    assert "Linear 'again' 84×84" in caught.value.in_file


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_end_in("Add", 1.0), "computes something else than the model with these tensors"),
        (_end_in("Mul", 0.0), "gives the same for every input that was tried, which proves nothing"),
        (_end_in("Mul", float("nan")), "what it computes is not finite"),
    ],
    ids=["more", "constant", "nan"],
)
def test_what_computes_something_else_or_nothing_is_refused(
    lenet: tuple[Path, zoo.Model], change: Callable[[onnx.GraphProto], None], reason: str
) -> None:
    with pytest.raises(AlignmentError, match=reason):
        zoo.load(_changed(lenet[0], change), spec=SPEC)


def test_what_is_not_safe_is_not_run(lenet: tuple[Path, zoo.Model], monkeypatch: pytest.MonkeyPatch) -> None:
    def enlarge(graph: onnx.GraphProto) -> None:
        graph.initializer.append(numpy_helper.from_array(np.array([1, 1 << 20]), "times"))
        graph.node.append(helper.make_node("Tile", ["before", "times"], ["vast"], name="bomb"))

    _changed(lenet[0], _end_in("Mul", 1.0))
    _changed(lenet[0], enlarge)
    monkeypatch.setattr("zoo.weights.alignment.running.observe", lambda *_: pytest.fail("it was run"))
    with pytest.raises(AlignmentError) as caught:
        zoo.load(lenet[0], spec=SPEC)
    assert str(caught.value).count("has an operator that the model does not have: the first in the file is Tile") == 1
