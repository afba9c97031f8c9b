"""Conversions without some parts of the model, of files that lack them, have others there, or have just those."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn
from torchvision.models import resnet18, resnet50
from torchvision.models.segmentation import fcn_resnet50
from weights_support import Trunk

import zoo
from zoo.cli import main
from zoo.errors import AlignmentError, KeymapError, MissingSpecError, TensorMismatchError, UnknownNameError, ZooError
from zoo.record import Record
from zoo.weights.conversion.advice import _FLAGS

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    torch.manual_seed(0)
    return resnet18(num_classes=9).eval()


@pytest.fixture(scope="module")
def trunk(theirs: nn.Module) -> State:
    return {name: each for name, each in theirs.state_dict().items() if not name.startswith("fc.")}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: nn.Module, trunk: State) -> Path:
    """A folder with a trunk alone, one with another head, and a whole model of 9 classes."""
    monkeypatch.chdir(tmp_path)
    torch.save(trunk, "trunk.pth")
    torch.save({"state_dict": {**trunk, "fc.0.weight": torch.ones(4, 512), "fc.0.bias": torch.ones(4)}}, "other.pth")
    torch.save(theirs.state_dict(), "whole.pth")
    return tmp_path


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def run_what_is_told(told: str) -> Result:
    """Run the command that an error ends in, as a shell would take it."""
    command = told.strip().rpartition(" converts it without")[0].partition("zoo convert ")
    return run(*shlex.split("".join(command[1:]))[1:])


def same(model: zoo.Model, state: Mapping[str, torch.Tensor]) -> None:
    own = model.state_dict()
    assert own.keys() == {f"backbone.{name}" for name in state}
    assert all(own[f"backbone.{name}"].equal(tensor) for name, tensor in state.items())


@pytest.mark.parametrize("file", ["trunk.pth", "other.pth", "whole.pth"])
def test_only_what_the_file_gives_is_written(file: str, here: Path, trunk: State) -> None:
    done = run("convert", file, "a.safetensors", "--spec", "resnet18", "--without", "head")
    assert done.exit_code == 0, done.output
    model = zoo.load("a.safetensors")
    assert model.spec == zoo.normalise({**zoo.normalise("resnet18"), "head": None})
    same(model, trunk)
    assert {
        "trunk.pth": "nothing is taken for the head",
        "other.pth": "left out: fc.0.weight",
        "whole.pth": "left out (2)",
    }[file] in done.output
    report = zoo.convert(file, "b.safetensors", spec="resnet18", without="head")
    assert report.left_out == (("head.fc.weight", "head.fc.bias") if file == "whole.pth" else ())
    assert report.fingerprint == zoo.fingerprint("a.safetensors")


@pytest.mark.parametrize("file", ["trunk.pth", "other.pth"])
def test_the_command_that_an_error_gives_runs(file: str, here: Path, trunk: State) -> None:
    Path("my models").mkdir()
    options = ("--dtype", "float64", "--within", "state_dict") if file == "other.pth" else ("--no-verify", "--force")
    failed = run("convert", file, "my models/a b.safetensors", "--spec", "resnet18", *options)
    assert failed.exit_code == 1
    assert "without='head'" not in failed.output
    done = run_what_is_told(failed.output)
    assert done.exit_code == 0, done.output
    precision = torch.float64 if file == "other.pth" else torch.float32
    written = zoo.load("my models/a b.safetensors")
    same(written, {n: each.to(precision) if each.is_floating_point() else each for n, each in trunk.items()})
    assert ("not verified" in done.output) == (file == "trunk.pth")


def test_of_many_files_each_is_told_its_command(here: Path, trunk: State) -> None:
    failed = run("convert", "trunk.pth", "other.pth", "--to", "safetensors", "--spec", "resnet18")
    assert failed.exit_code == 1
    for line in failed.output.splitlines()[1:3]:
        assert run_what_is_told(line).exit_code == 0, line
    again = run("convert", "trunk.pth", "other.pth", "--to", "safetensors", "--spec", "resnet18", "--without", "head")
    assert "0 converted, 2 skipped, 0 failed" in again.output
    same(zoo.load("trunk.safetensors"), trunk)
    failed = run("convert", "trunk.pth", "--to", "safetensors", "--spec", "resnet18")
    assert "--without head converts it" in failed.output


def test_every_option_is_told() -> None:
    command = main.get_command(None, "convert")  # type: ignore[arg-type, attr-defined]
    own = {option for each in command.params for option in each.opts if option.startswith("--")}
    elsewhere = {"--to", "--output", "--without", "--dynamic-size", "--verify", "--json"}
    assert own == {*_FLAGS.values(), *elsewhere}


def test_with_a_spec_that_no_command_takes_the_argument_is_told(here: Path) -> None:
    with pytest.raises(KeymapError, match=r"\n  without=\['head'\] converts it without the head$") as caught:
        zoo.convert("trunk.pth", "a.pt", spec=zoo.normalise("resnet18"))
    assert caught.value.fresh == ("head",)


def test_other_classes_are_told_as_such(here: Path) -> None:
    with pytest.raises(KeymapError, match=r"it fits with head\.num_classes=9 in the spec"):
        zoo.convert("whole.pth", "a.pt", spec="resnet18")


def test_their_library_takes_the_rest(here: Path, theirs: nn.Module, trunk: State) -> None:
    for library in ("torchvision", "timm"):
        done = run(
            "convert", "whole.pth", f"{library}.pth", "--spec", "resnet18", "--without", "head", "--to-keymap", library
        )
        assert done.exit_code == 0, done.output
        state = torch.load(f"{library}.pth", weights_only=True)
        other = resnet18()
        other.fc = nn.Identity()  # type: ignore[assignment]
        other.load_state_dict(state, strict=True)
        assert all(state[name].equal(each) for name, each in trunk.items())
    with pytest.raises(KeymapError, match="the model is backbone lenet"):
        zoo.convert(zoo.save(zoo.build("lenet"), "l.pt"), "m.pth", without="head", to_keymap="timm")


def test_graphs_of_others_are_told_and_taken_too(theirs: nn.Module, here: Path) -> None:
    image = torch.rand(2, 3, 64, 64)
    torch.onnx.export(Trunk(theirs).eval(), (image,), "trunk.onnx", dynamo=True, verbose=False)
    torch.onnx.export(theirs, (image,), "whole.onnx", dynamo=True, verbose=False)
    with pytest.raises(AlignmentError, match=r"weights='trunk\.onnx', fresh='head'\) takes the rest from it"):
        zoo.load("trunk.onnx", spec="resnet18")
    failed = run("convert", "trunk.onnx", "a.safetensors", "--spec", "resnet18")
    done = run_what_is_told(failed.output)
    assert done.exit_code == 0, done.output
    assert "onnxruntime on the file and the model agree" in done.output
    report = zoo.convert("whole.onnx", "b.safetensors", spec="resnet18", without="head")
    assert report.left_out == ("head.fc.weight", "head.fc.bias")
    with pytest.raises(AlignmentError, match=r"with the change \(head linear → none\) it is no graph of this model"):
        zoo.convert("whole.onnx", "c.safetensors", spec="resnet34", without="head")
    for file in ("a.safetensors", "b.safetensors"):
        with torch.no_grad():
            (vector,) = zoo.load(file)(image)
            torch.testing.assert_close(vector, Trunk(theirs).eval()(image))


def test_a_classifier_becomes_the_backbone_of_a_detector(here: Path) -> None:
    state = resnet50().state_dict()
    torch.save(state, "r50.pth")
    failed = run("convert", "r50.pth", "a.pt", "--spec", "retinanet_resnet50_fpn")
    assert "--without neck --without head converts it without the neck and the head" in failed.output
    done = run_what_is_told(failed.output)
    assert done.exit_code == 0, done.output
    same(zoo.load("a.pt"), {name: each for name, each in state.items() if not name.startswith("fc.")})


def test_a_part_without_tensors_goes_with_those_around_it(here: Path, trunk: State) -> None:
    spec = {
        "backbone": {"type": "resnet_lite", "layers": [2, 2, 2, 2], "out_indices": [0, 1, 2, 3]},
        "neck": "fpn",
        "bottleneck": "identity",
        "head": {"type": "fcn", "num_classes": 3},
    }
    Path("spec.json").write_text(json.dumps(spec))
    done = run_what_is_told(run("convert", "trunk.pth", "a.pt", "--spec", "spec.json").output)
    assert done.exit_code == 0, done.output
    same(zoo.load("a.pt"), trunk)


def test_auxiliary_heads_are_a_part(here: Path) -> None:
    theirs = fcn_resnet50(weights=None, weights_backbone=None, aux_loss=None)
    torch.save(theirs.state_dict(), "fcn.pth")
    failed = run("convert", "fcn.pth", "a.pt", "--spec", "fcn_resnet50_aux")
    done = run_what_is_told(failed.output)
    assert done.exit_code == 0, done.output
    model = zoo.load("a.pt")
    assert "aux" not in model.spec
    assert model.spec["head"]["num_classes"] == 21
    spec = zoo.save(zoo.build("fcn_resnet50_aux"), "whole.pt")
    report = zoo.convert(spec, "b.pt", without="head")
    assert {name.partition(".")[0] for name in report.left_out} == {"head"}
    assert "aux" in zoo.load("b.pt").spec


def test_of_our_own_files_a_part_is_left_out(tmp_path: Path) -> None:
    model = zoo.build("lenet", weights="digits")
    assert isinstance(model.record, Record)
    path = zoo.save(model, tmp_path / "lenet.pt")
    report = zoo.convert(path, tmp_path / "rest.onnx", without=["bottleneck", "head"])
    assert [name.partition(".")[0] for name in report.left_out] == ["bottleneck"] * 4 + ["head"] * 2
    rest = zoo.load(tmp_path / "rest.onnx")
    assert rest.record is None
    image = torch.rand(3, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(rest(image)[0], model.eval().neck(model.backbone(image))[0])  # type: ignore[misc, union-attr]
    again = zoo.convert(tmp_path / "rest.onnx", tmp_path / "again.pt", without="head")  # it has none
    assert (again.left_out, again.fingerprint) == ((), report.fingerprint)


def test_what_cannot_be_left_out_is_told(here: Path) -> None:
    with pytest.raises(ZooError, match=r"found without=\['backbone'\]; no model can be without a backbone"):
        zoo.convert("whole.pth", "a.pt", spec="resnet18", without="backbone")
    with pytest.raises(ZooError, match=r"the head would take something else .*: .*\(--without neck --without head\)"):
        zoo.convert("whole.pth", "a.pt", spec="resnet18", without="neck")
    with pytest.raises(UnknownNameError, match="did you mean head"):
        zoo.convert("whole.pth", "a.pt", spec="resnet18", without="haed")
    with pytest.raises(ZooError, match="found without=3; expected the name of a part"):
        zoo.convert("whole.pth", "a.pt", spec="resnet18", without=3)  # type: ignore[arg-type]
    with pytest.raises(MissingSpecError):
        zoo.convert("whole.pth", "a.pt", without="head")
    supervised = {
        "backbone": {"type": "resnet_lite", "layers": [1, 1, 1, 1], "out_indices": [0, 1, 2, 3]},
        "neck": "fpn",
        "head": {"type": "fcn", "num_classes": 3},
    }
    aux = {"p": {"head": {"type": "fcn", "num_classes": 3}, "feature": "neck.stage3"}}
    path = zoo.save(zoo.build({**supervised, "aux": aux}), "own.pt")
    with pytest.raises(
        ZooError, match=r"the aux would take something else .*--without neck --without head --without aux"
    ):
        zoo.convert(path, "a.pt", without=["neck", "head"])
    assert zoo.load(zoo.convert(path, "b.pt", without=["neck", "head", "aux"]).target).features[-1].name == "stage4"
    with pytest.raises((KeymapError, TensorMismatchError)):
        zoo.convert("whole.pth", "a.pt", spec="resnet34", without="head")
    assert not Path("a.pt").exists()
