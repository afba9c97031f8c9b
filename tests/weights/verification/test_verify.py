"""verify finds one bit, another dtype, another activation, and accepts what is the same in another format."""

from __future__ import annotations

import copy
import json
import sys
import warnings
from pathlib import Path

import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import zoo
from zoo.errors import FileFormatError, WeightsError, ZooError
from zoo.weights.parity import compare
from zoo.weights.verification.outputs import FACTOR, RunError, compare_outputs, in_torch
from zoo.weights.verification.probes import probes
from zoo.weights.verification.verify import verify


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory):
    """Give the folder of a model's files in each format; each model is exported once."""
    known: dict[str, Path] = {}

    def give(name: str, weights: str | None = None) -> Path:
        if name not in known:
            known[name] = tmp_path_factory.mktemp(name)
            model = zoo.build(name, weights=weights)
            for format_ in ("pt", "safetensors", "onnx"):
                zoo.save(model, known[name] / f"model.{format_}")
        return known[name]

    return give


@pytest.mark.parametrize("name", ["lenet", "resnet-lite", "vgg-lite"])
def test_one_model_in_two_formats_is_the_same(name: str, exported) -> None:
    folder = exported(name, "digits")
    report = zoo.verify(folder / "model.pt", folder / "model.onnx")
    assert report.ok, str(report)
    assert (report.equal, report.differences, report.failures, report.notes) == (report.total, (), (), ())
    assert {(o.inputs, o.run.rpartition(" in ")[2]) for o in report.outputs} == {
        (kind, run) for kind in ("random", "images") for run in ("torch", "onnxruntime")
    }
    for output in report.outputs:
        assert output.output == "logits"
        assert 0 < output.own < 1e-6
        assert output.error <= output.limit == pytest.approx(FACTOR * output.own + 8 * 2**-23)
    assert zoo.verify(folder / "model.onnx", folder / "model.safetensors").ok


def test_one_flipped_bit_is_found_named_and_measured(exported, tmp_path: Path) -> None:
    good = exported("lenet", "digits") / "model.safetensors"
    bad = tmp_path / "bad.safetensors"
    content = bytearray(good.read_bytes())
    state = zoo.load(good).state_dict()
    at = content.index(state["head.fc.weight"].numpy().tobytes())
    content[at + 40] ^= 1  # the lowest bit of the eleventh number
    bad.write_bytes(content)
    report = zoo.verify(good, bad)
    assert not report.ok
    (difference,) = report.differences
    assert (difference.name, difference.what, difference.elements, difference.total) == (
        "head.fc.weight", "values", 1, 840,
    )  # fmt: skip
    changed = zoo.load(bad).state_dict()["head.fc.weight"].double() - state["head.fc.weight"].double()
    assert difference.largest == changed.abs().max() > 0
    assert [f.claimed == f.found for f in report.fingerprints] == [True, False]
    assert "head.fc.weight: 1 of 840 elements differ, by" in str(report)
    assert str(report).endswith(f"{good} and {bad} are NOT the same")
    alone = zoo.verify(bad)
    assert not alone.ok
    assert "was changed: its tensors have sha256:" in str(alone)


def test_another_activation_is_found_though_all_tensors_are_equal(exported, tmp_path: Path) -> None:
    original = zoo.load(exported("lenet", "digits") / "model.pt")
    other = zoo.build("lenet", backbone={"activation": "relu"})
    other.load_state_dict(original.state_dict())
    changed = zoo.save(other, tmp_path / "relu.pt")
    report = zoo.verify(exported("lenet") / "model.pt", changed)
    assert (report.ok, report.equal, report.total) == (False, 10, 10)
    told = {(o.run.rpartition("/")[2], o.inputs): o for o in report.outputs}
    assert told["model.pt in torch", "random"].holds
    assert told["relu.pt in torch", "random"].error > 0.01
    assert not told["relu.pt in torch", "images"].holds
    assert "DIFFERS" in str(report)


def test_an_onnx_graph_that_computes_something_else_is_found(exported, tmp_path: Path) -> None:
    good = exported("lenet", "digits") / "model.onnx"
    proto = onnx.load(good)
    next(n for n in proto.graph.node if n.op_type == "Tanh").op_type = "Softsign"
    onnx.save(proto, tmp_path / "bad.onnx")
    report = zoo.verify(good, tmp_path / "bad.onnx")
    assert (report.ok, report.equal) == (False, report.total)
    assert {o.run.rpartition("/")[2] for o in report.outputs if not o.holds} == {"bad.onnx in onnxruntime"}


def test_a_weight_that_is_wrong_in_its_sixth_digit_is_outside_the_tolerance(exported, tmp_path: Path) -> None:
    good = exported("lenet", "digits") / "model.onnx"
    proto = onnx.load(good)
    bias = next(i for i in proto.graph.initializer if i.name == "head.fc.bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 1e-4, bias.name))
    onnx.save(proto, tmp_path / "bad.onnx")
    report = zoo.verify(good, tmp_path / "bad.onnx")
    assert [d.name for d in report.differences] == ["head.fc.bias"]
    assert not any(o.holds for o in report.outputs if "bad.onnx" in o.run)


def test_dtypes_shapes_and_names_are_compared(tmp_path: Path) -> None:
    left = {"a": torch.ones(2), "b": torch.ones(2, 3), "c": torch.ones(1), "e": torch.tensor([1.0, float("nan")])}
    right = {"a": torch.ones(2).half(), "b": torch.ones(3, 2), "d": torch.ones(1), "e": torch.tensor([1.0, 2.0])}
    torch.save(left, tmp_path / "a.pt")
    torch.save(right, tmp_path / "b.pt")
    report = zoo.verify(tmp_path / "a.pt", tmp_path / "b.pt")
    assert [str(d) for d in report.differences] == [
        "a: float32[2] ↔ float16[2]",
        "b: float32[2, 3] ↔ float32[3, 2]",
        "c: float32[1] ↔ nothing",
        "e: 1 of 2 elements differ, by inf at most",
        "d: nothing ↔ float32[1]",
    ]
    assert [d.what for d in report.differences] == ["dtype", "shape", "missing", "values", "missing"]
    assert "outputs: not compared, for nothing says of which model these are; say so: spec=, --spec" in str(report)
    assert not report.ok
    assert zoo.verify(tmp_path / "a.pt", tmp_path / "a.pt").ok
    json.dumps(report.to_json(), allow_nan=False)


def test_a_file_from_elsewhere_is_run_as_what_the_other_side_or_spec_says(exported, tmp_path: Path) -> None:
    folder = exported("lenet", "digits")
    torch.save(zoo.load(folder / "model.pt").state_dict(), tmp_path / "plain.pt")
    report = zoo.verify(tmp_path / "plain.pt", folder / "model.onnx")
    assert report.ok
    assert len(report.outputs) == 6
    assert report.fingerprints[0].claimed is None
    alone = zoo.verify(tmp_path / "plain.pt", tmp_path / "plain.pt", spec="lenet")
    assert (alone.ok, len(alone.outputs)) == (True, 2)


def test_an_onnx_file_from_elsewhere_is_judged_by_what_it_computes(exported, tmp_path: Path) -> None:
    folder = exported("lenet", "digits")
    proto = onnx.load(folder / "model.onnx")
    del proto.metadata_props[:]
    for initializer in proto.graph.initializer:
        for node in proto.graph.node:
            node.input[:] = [f"w{i}" if i == initializer.name else i for i in node.input]
        initializer.name = f"w{initializer.name}"
    onnx.save(proto, tmp_path / "foreign.onnx")
    renamed = onnx.load(tmp_path / "foreign.onnx")
    for node in renamed.graph.node:
        node.input[:] = [f"w{i}" if any(i == x.name[1:] for x in renamed.graph.initializer) else i for i in node.input]
    onnx.save(renamed, tmp_path / "foreign.onnx")
    report = zoo.verify(folder / "model.pt", tmp_path / "foreign.onnx")
    assert "tensors: not compared" in str(report)
    assert (report.equal, report.failures) == (None, ())


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Two graphs of one network by both exporters, and one of another network."""
    folder = tmp_path_factory.mktemp("graphs")

    def written(seed: int, dynamo: bool, name: str) -> Path:
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(1, 6, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2),
            nn.Flatten(), nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10),
        )  # fmt: skip
        with warnings.catch_warnings(action="ignore"):  # torch deprecates one exporter, and itself in the other
            torch.onnx.export(network.eval(), (torch.zeros(1, 1, 32, 32),), folder / name, dynamo=dynamo, verbose=False)
        return folder / name

    return written(0, True, "dynamo.onnx"), written(0, False, "legacy.onnx"), written(1, True, "other.onnx")


def test_two_graphs_from_elsewhere_are_compared_with_the_model_that_one_of_them_gives(graphs) -> None:
    dynamo, legacy, other = graphs
    report = zoo.verify(dynamo, legacy, spec="lenet")
    assert (report.ok, report.batches) == (True, (1,))
    assert [(o.run, o.holds) for o in report.outputs if o.inputs == "random"] == [
        (f"{dynamo} in torch", True),
        (f"{dynamo} in onnxruntime", True),
        (f"{legacy} in onnxruntime", True),
    ]
    assert "outputs, batches of 1: the error against a run in float64" in str(report)
    assert f"{dynamo}: gave the model that the outputs are compared with; {dynamo} became lenet" in str(report)
    report = zoo.verify(dynamo, other, spec="lenet")
    assert not report.ok
    assert {o.run for o in report.outputs if not o.holds} == {f"{other} in onnxruntime"}
    assert str(report).endswith(f"{dynamo} and {other} are NOT the same")


def test_graphs_that_end_in_a_softmax_are_compared_with_one(graphs, tmp_path: Path) -> None:
    def ended(path: Path) -> Path:
        proto = onnx.load(path)
        output = proto.graph.output[0]
        proto.graph.node.append(onnx.helper.make_node("Softmax", [output.name], ["probabilities"], axis=1))
        output.name = "probabilities"
        onnx.save(proto, tmp_path / path.name)
        return tmp_path / path.name

    dynamo, legacy, other = map(ended, graphs)
    report = zoo.verify(dynamo, legacy, spec="lenet")
    assert report.ok, str(report)
    assert "it ends in Softmax, which the model does not" in str(report)
    assert not zoo.verify(dynamo, other, spec="lenet").ok
    assert not zoo.verify(dynamo, graphs[1], spec="lenet").ok


def test_what_was_not_compared_is_not_called_different(graphs) -> None:
    dynamo, legacy, _ = graphs
    report = zoo.verify(dynamo, legacy)
    assert (report.ok, report.compared, report.to_json()["compared"]) == (False, False, False)
    assert "for nothing says of which model these are; say so: spec=, --spec" in str(report)
    last = str(report).splitlines()[-1]
    assert last == f"nothing tells whether {dynamo} and {legacy} are the same: nothing of them was compared"


def test_other_models_are_told_apart_without_a_traceback(exported) -> None:
    report = zoo.verify(exported("lenet", "digits") / "model.pt", exported("resnet-lite", "digits") / "model.pt")
    assert not report.ok
    assert report.equal == 0


def test_models_are_compared_too_and_stay_as_they_are(exported, tmp_path: Path) -> None:
    model = zoo.build("resnet-lite").train()
    model.freeze("backbone")
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    state = torch.get_rng_state()
    report = zoo.verify(model, zoo.save(model, tmp_path / "x.safetensors"))
    assert report.ok
    assert report.a == "a"
    assert compare(before, model.state_dict()).holds
    assert modes == [m.training for m in model.modules()]
    assert torch.equal(state, torch.get_rng_state())
    assert {t.dtype for t in model.parameters()} == {torch.float32}


def test_inputs_of_your_own_are_taken_as_they_are(exported) -> None:
    folder = exported("lenet", "digits")
    report = zoo.verify(folder / "model.pt", folder / "model.onnx", inputs=[torch.zeros(3, 1, 32, 32)])
    assert report.ok
    assert {o.inputs for o in report.outputs} == {"given"}


def test_a_model_of_any_input_size_is_run_at_one_that_is_told(tmp_path: Path) -> None:
    model = zoo.build("resnet-lite", input={"size": None})
    report = zoo.verify(model, zoo.save(model, tmp_path / "x.onnx"))
    assert report.ok, str(report)
    assert report.notes == ("the spec gives no size of the input: 64×64 was taken",)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_the_tolerance_follows_the_precision_of_the_model(dtype: torch.dtype, tmp_path: Path) -> None:
    model = zoo.build("lenet").to(dtype)
    report = zoo.verify(zoo.save(model, tmp_path / "x.pt"), zoo.save(model, tmp_path / "x.safetensors"))
    assert report.ok, str(report)
    eps = torch.finfo(dtype).eps
    assert all(8 * eps <= o.limit < 100 * eps for o in report.outputs)


def test_a_float64_model_may_be_wrong_by_float64_errors_alone(tmp_path: Path) -> None:
    model = zoo.build("mlp").double()
    report = zoo.verify(model, zoo.save(model, tmp_path / "x.onnx"))
    assert report.ok, str(report)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.head.fc.bias += 1e-12
    report = zoo.verify(model, other)
    assert [o.holds for o in report.outputs if o.run.startswith("b ")] == [False, False]


@pytest.mark.parametrize(("dtype", "loosest"), [(torch.float64, 1e-13), (torch.bfloat16, 0.2)])
def test_an_onnx_file_in_a_precision_that_onnxruntime_lacks_is_run_all_the_same(
    dtype: torch.dtype, loosest: float, tmp_path: Path
) -> None:
    model = zoo.build("lenet").to(dtype)
    path = zoo.save(model, tmp_path / "x.onnx")
    report = zoo.verify(model, path)
    assert report.ok, str(report)
    by_reference = [o for o in report.outputs if o.run == f"{path} in the reference implementation of onnx"]
    assert [o.inputs for o in by_reference] == ["random", "images"]
    assert all(o.limit < loosest for o in by_reference)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.head.fc.bias += 10
    other_path = zoo.save(other, tmp_path / "other.onnx")
    told = zoo.verify(model, other_path)
    assert {o.run for o in told.outputs if not o.holds} == {
        f"{other_path} in torch",
        f"{other_path} in the reference implementation of onnx",
    }


def test_an_onnx_file_that_cannot_be_run_is_not_called_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = zoo.build("lenet")
    path = zoo.save(model, tmp_path / "x.onnx")
    monkeypatch.setattr(sys, "executable", "")
    report = zoo.verify(model, path)
    assert (report.ok, report.differences) == (False, ())
    assert {o.run.rpartition(" ")[2]: o.holds for o in report.outputs} == {"torch": True}
    assert "there is no Python interpreter here to start one" in report.failures[0]


def test_a_file_alone_is_checked_against_its_fingerprint(exported, tmp_path: Path) -> None:
    file = exported("lenet", "digits") / "model.onnx"
    report = zoo.verify(file)
    assert report.ok
    assert str(report) == f"{file} is as it was saved, {zoo.fingerprint(file)}"
    torch.save({"a": torch.ones(1)}, tmp_path / "plain.pt")
    plain = zoo.verify(tmp_path / "plain.pt")
    assert not plain.ok
    assert "carries no fingerprint; it would be sha256:" in str(plain)
    with pytest.raises(ZooError, match="found one model to verify; expected a file, or two of either"):
        verify(zoo.build("lenet"))
    with pytest.raises(FileFormatError, match="there is no such file"):
        verify(tmp_path / "absent.pt", file)


def test_probes_are_the_same_every_time_and_images_are_no_noise() -> None:
    first, second = probes(3, (16, 24), None), probes(3, (16, 24), None)
    assert list(first) == ["random", "images"]
    for kind in first:
        assert [tuple(x.shape) for x in first[kind]] == [(n, 3, 16, 24) for n in (1, 2, 5)]
        assert all(torch.equal(a, b) for a, b in zip(first[kind], second[kind], strict=True))
    assert not torch.equal(first["random"][0], probes(3, (16, 24), None, seed=1)["random"][0])
    images = torch.cat(first["images"])
    assert (images.amin(), images.amax()) == (0, 1)

    def roughness(x: torch.Tensor) -> float:
        return float(x.diff(dim=-1).std() / x.std())

    assert roughness(images) < 0.5 * roughness(torch.cat(first["random"]))
    assert [tuple(x.shape) for x in probes(2, (8, 6, 4), None)["images"]] == [(n, 2, 8, 6, 4) for n in (1, 2, 5)]


class Answer(nn.Module):
    """Gives what it is told, whatever comes in."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.values.expand(x.shape[0], -1)


@pytest.mark.parametrize(
    ("reference", "other", "holds"),
    [
        ((1.0, 1e-9), (1.0, 2e-9), True),  # next to 1, both are nothing
        ((1.0, 1e-9), (1.0, 1e-5), False),
        ((0.0, 0.0), (0.0, 0.0), True),
        ((0.0, 0.0), (0.0, 1e-30), False),
        ((1.0, float("nan")), (1.0, float("nan")), True),
        ((1.0, 0.0), (1.0, float("nan")), False),
        ((1.0, float("inf")), (1.0, float("inf")), True),
        ((1.0, 0.0), (float("inf"), 0.0), False),
        ((1000.0, 1.0), (1000.0001, 1.0), True),
    ],
)
def test_errors_are_told_on_the_scale_of_the_output(
    reference: tuple[float, ...], other: tuple[float, ...], holds: bool
) -> None:
    (found,) = compare_outputs(Answer(*reference), {"other": in_torch(Answer(*other))}, {"x": [torch.zeros(2, 1)]}, ())
    assert (found.output, found.holds) == ("output 0", holds)


def test_what_does_not_run_or_has_another_shape_is_told() -> None:
    x = {"x": [torch.zeros(2, 1)]}
    with pytest.raises(RunError, match=r"other gives outputs of \[\(2, 3\)\]; the model in float64 gives \[\(2, 2\)\]"):
        compare_outputs(Answer(1.0, 2.0), {"other": in_torch(Answer(1.0, 2.0, 3.0))}, x, ())
    with pytest.raises(RunError, match=r"other does not run on an input of \(2, 1\): RuntimeError"):
        compare_outputs(Answer(1.0, 2.0), {"other": in_torch(nn.Linear(3, 2))}, x, ())


def test_what_is_neither_a_model_nor_a_path_is_refused() -> None:
    model = zoo.build("lenet")
    for pair, side in (((model, 3), "b"), ((3, model), "a"), ((model, model.state_dict()), "b")):
        with pytest.raises(
            WeightsError, match=rf"^{side}: found '\w+'; expected a model or the path of a weights file"
        ):
            zoo.verify(*pair)
