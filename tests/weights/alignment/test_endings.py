"""What owners put behind the end of a model is left off, and what is before it is what is proven."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import disguises
import onnx
import pytest
import strangers
import torch
from onnx import helper
from strangers import STRANGERS

import zoo
from zoo.errors import AlignmentError
from zoo.weights.alignment import align
from zoo.weights.alignment.endings import Cut, cut
from zoo.weights.alignment.graph import Graph, Node
from zoo.weights.alignment.unfolding import Unfolded

LENET = "LeNet-5 as nn.Sequential"
End = Callable[[torch.Tensor], object]


def exported(end: End, path: Path, exporter: str = "legacy") -> strangers.Deployed:
    stranger = STRANGERS[LENET]
    made = stranger._replace(make=lambda: strangers.Deployed(stranger.make(), end))
    model = strangers.exported(made, exporter, path)
    assert isinstance(model, strangers.Deployed)
    return model


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (lambda x: x.argmax(1), "ArgMax"),
        (lambda x: x.softmax(1), "Softmax"),
        (lambda x: x.log_softmax(1), "LogSoftmax"),
        (lambda x: x.softmax(1).topk(2), "Softmax → TopK"),
        (lambda x: x.softmax(1).max(1), "Softmax → ReduceMax, Softmax → ArgMax"),
        (lambda x: (x.softmax(1), x.argmax(1)), "Softmax, ArgMax"),
        (lambda x: (x, x.argmax(1)), "ArgMax"),
        (lambda x: 1000 * x.sigmoid().argmax(1), None),
    ],
)
@pytest.mark.parametrize("exporter", ["legacy", "dynamo"])
def test_what_was_left_off_is_told_and_what_is_before_it_proven(
    end: End, told: str | None, exporter: str, tmp_path: Path
) -> None:
    theirs = exported(end, tmp_path / "x.onnx", exporter)
    if told is None:  # it ends in an operator that says something of its own
        with pytest.raises(AlignmentError, match="cannot be proven"):
            zoo.load(tmp_path / "x.onnx", spec="lenet")
        return
    model = zoo.load(tmp_path / "x.onnx", spec="lenet")
    x = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(model(x), theirs.model(x))
    report = model.migration
    assert report.alignment.endings == (told,)
    assert f"it ends in {told}, which the model does not: it gives what is before that" in report.alignment.notes
    assert report.proofs[-1].claim.startswith(f"onnxruntime on the file, before its {told}, and the model agree")
    assert report.proofs[-1].difference <= report.proofs[-1].tolerance < 1e-5
    assert zoo.identify(tmp_path / "x.onnx").fits[0].model == "lenet"


def test_one_wrong_number_is_noticed_that_the_best_class_does_not_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = exported(lambda x: x.argmax(1), tmp_path / "x.onnx")
    wrong = theirs.model[11].bias.clone()
    wrong[3] -= 1e-3
    x = torch.randn(64, 1, 32, 32)
    assert torch.equal(theirs(x), (theirs.model(x) - theirs.model[11].bias + wrong).argmax(1))
    right = align.unfolded

    def unfolded(*args: object) -> Unfolded:
        found = right(*args)
        return Unfolded({**found.tensors, "head.fc.bias": wrong}, found.origins)

    monkeypatch.setattr(align, "unfolded", unfolded)
    with pytest.raises(AlignmentError, match="computes something else than the model with its weights"):
        zoo.load(tmp_path / "x.onnx", spec="lenet")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"backbone": {"activation": "relu"}}, "something else than the model.*after Tanh, AveragePool"),
        ({"head": {"num_classes": 11}}, r"Linear .*10×84.*'head.fc.weight' 11×84"),
    ],
)
def test_another_architecture_before_the_best_class_is_refused(
    changes: dict[str, dict[str, object]], told: str, tmp_path: Path
) -> None:
    exported(lambda x: x.softmax(1).argmax(1), tmp_path / "x.onnx")
    with pytest.raises(AlignmentError, match=told):
        zoo.load(tmp_path / "x.onnx", spec=strangers.spec_of("lenet", **changes))


def test_a_factor_before_the_ending_is_not_left_off(tmp_path: Path) -> None:
    exported(lambda x: (2 * x).softmax(1), tmp_path / "x.onnx")
    with pytest.raises(AlignmentError, match="computes something else than the model with its weights"):
        zoo.load(tmp_path / "x.onnx", spec="lenet")


def test_a_softmax_that_is_saturated_hides_nothing(tmp_path: Path) -> None:
    theirs = exported(lambda x: x.softmax(1), tmp_path / "x.onnx")
    theirs.model[11].weight.data *= 1e4
    torch.onnx.export(theirs, (torch.randn(2, 1, 32, 32),), tmp_path / "x.onnx", dynamo=True, verbose=False)
    x = torch.randn(2, 1, 32, 32)
    assert float(theirs(x).detach().max()) == 1
    torch.testing.assert_close(zoo.load(tmp_path / "x.onnx", spec="lenet").head.fc.weight, theirs.model[11].weight)


def test_an_ending_within_a_function_is_told(tmp_path: Path) -> None:
    exported(lambda x: x.softmax(1).argmax(1), tmp_path / "x.onnx")
    with pytest.raises(AlignmentError, match=r"ends in Softmax within a function.*inline it"):
        zoo.load(disguises.functions(tmp_path / "x.onnx"), spec="lenet")


def test_classes_of_pixels_are_left_off(tmp_path: Path) -> None:
    spec = strangers.spec_of("tiny-seg")
    ours = zoo.build(spec).eval()
    strangers.fill(ours)
    x = torch.randn(2, spec["input"]["channels"], 32, 32)
    end = strangers.Deployed(ours, lambda maps: maps.argmax(1)).eval()
    torch.onnx.export(end, (x,), tmp_path / "x.onnx", dynamo=True, verbose=False)
    assert len(onnx.load(tmp_path / "x.onnx").graph.output[0].type.tensor_type.shape.dim) == 3
    model = zoo.load(disguises.anonymous(tmp_path / "x.onnx"), spec=spec)
    assert model.migration.alignment.endings == ("ArgMax",)
    torch.testing.assert_close(model(x), ours(x))


def test_names_alone_are_proven_before_the_ending_too(tmp_path: Path) -> None:
    model = zoo.build("lenet").eval()
    strangers.fill(model)
    path = tmp_path / "x.onnx"
    end = strangers.Deployed(model, lambda x: x.argmax(1)).eval()
    torch.onnx.export(end, (torch.zeros(2, 1, 32, 32),), path, dynamo=True, optimize=False, verbose=False)
    proto = onnx.load(path)
    for each in proto.graph.initializer:
        each.name = each.name.removeprefix("model.")
    for each in proto.graph.node:
        each.input[:] = [name.removeprefix("model.") for name in each.input]
    first = next(each for each in proto.graph.node if each.op_type == "Gemm")
    again = onnx.NodeProto()
    again.CopyFrom(first)
    (made,) = first.output
    first.output[0], again.output[0], again.name = "once", "again", "again"
    place = list(proto.graph.node).index(first)
    proto.graph.node.insert(place + 1, again)
    proto.graph.node.insert(place + 2, helper.make_node("Mean", ["once", "again"], [made]))
    onnx.save(proto, path)
    found = zoo.load(path, spec="lenet")
    assert torch.equal(found.head.fc.weight, model.head.fc.weight)
    assert "it ends in ArgMax, which the model does not" in str(found.migration)


def graph(*ops: str, outputs: tuple[str, ...] = ()) -> Graph:
    nodes = [Node(op, op, "", (f"v{index}",), (f"v{index + 1}",)) for index, op in enumerate(ops)]
    return Graph(tuple(nodes), {}, {"v0": ()}, outputs or (f"v{len(ops)}",))


def test_only_what_the_model_does_not_end_in_is_left_off() -> None:
    def told(file: Graph, model: Graph) -> Cut:
        return cut(file, model, Path("x.onnx"))

    assert told(graph("Conv", "Softmax", "Cast", "ArgMax"), graph("Conv", "Softmax")).endings == ("ArgMax",)
    assert told(graph("Conv", "Softmax"), graph("Conv", "Softmax")).added == ()
    assert told(graph("Conv", "Sigmoid"), graph("Conv", "Softmax")).added == ()  # for the proof to refuse
    assert told(graph("Conv", "Softmax", "ArgMax"), graph("Conv")).added == ("v1",)
    assert told(graph("Conv", "ReduceMax"), graph("Conv")).added == ()  # a pooling
    assert told(graph("Conv", "Softmax", "Relu"), graph("Conv")).added == ()
    both = told(graph("Conv", "Softmax", "ArgMax", outputs=("v1", "v3")), graph("Conv"))
    assert (both.graph.outputs, both.endings, both.added) == (("v1",), ("Softmax → ArgMax",), ())
