"""Which models a file can be of: told from names and shapes, with the call that has the model."""

from __future__ import annotations

import json
from pathlib import Path

import disguises
import pytest
import strangers
import timm
import torch
import torchvision
from click.testing import CliRunner
from safetensors.torch import save_file
from strangers import STRANGERS
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

import zoo
from zoo.cli import main
from zoo.errors import SeveralWeightsError
from zoo.weights.migration import libraries


def saved(state: object, path: Path) -> Path:
    torch.save(state, path)
    return path


def claims_of(found: zoo.weights.migration.identify.Identification) -> list[tuple[str, str, str]]:
    return [(fit.model, fit.changed, fit.keymap) for fit in found.fits]


def test_a_named_model_in_the_names_of_others(tmp_path: Path) -> None:
    path = saved(torchvision.models.resnet18().state_dict(), tmp_path / "a.pth")
    found = zoo.identify(path)
    assert claims_of(found) == [("resnet18", "", "timm and torchvision")]
    assert found.fits[0].call == f"zoo.load({str(path)!r}, spec='resnet18')"


def test_classes_and_channels_are_read_off_and_the_call_works(tmp_path: Path) -> None:
    theirs = timm.create_model("resnet18", num_classes=7, in_chans=1).eval()
    path = saved({"epoch": 1, "model": nn.DataParallel(theirs).state_dict()}, tmp_path / "a.pth")
    found = zoo.identify(path)
    assert claims_of(found) == [("resnet18", "head.num_classes=7, input.channels=1", "timm and torchvision")]
    assert found.fits[0].prefixes == ("module.",)
    model = eval(found.fits[0].call, {"zoo": zoo})  # what it says is to be typed
    image = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(image), theirs(image))
    assert model.migration.proven


@pytest.mark.parametrize("name", ["tiny-seg", "tiny-det"])
def test_classes_of_any_head_are_read_off(name: str, tmp_path: Path) -> None:
    model = zoo.build(name, num_classes=7)
    path = saved(nn.DataParallel(model).state_dict(), tmp_path / "a.pth")
    (fit,) = zoo.identify(path).fits
    assert fit.model == name
    assert fit.spec == model.spec
    assert zoo.build(name, weights=path, num_classes=7).transfer.complete
    assert eval(fit.call, {"zoo": zoo}).spec == model.spec


def test_classes_of_auxiliary_heads_are_read_off(tmp_path: Path) -> None:
    with torch.device("meta"):
        theirs = torchvision.models.segmentation.fcn_resnet50(
            weights=None, weights_backbone=None, num_classes=5, aux_loss=True
        )
    state = {name: torch.zeros(t.shape, dtype=torch.uint8) for name, t in theirs.state_dict().items()}
    (fit,) = zoo.identify(saved(state, tmp_path / "a.pth")).fits
    assert (fit.model, fit.keymap) == ("fcn_resnet50_aux", "torchvision")
    assert fit.call.endswith("num_classes=5)")
    assert fit.spec == zoo.build("fcn_resnet50_aux", num_classes=5).spec


def test_depth_is_read_off(tmp_path: Path) -> None:
    state = ResNet(BasicBlock, [1, 2, 1, 1], num_classes=3).state_dict()
    found = zoo.identify(saved(state, tmp_path / "a.pth"))
    assert [fit.changed for fit in found.fits] == ["backbone.layers=[1, 2, 1, 1], head.num_classes=3"]


def test_width_and_depth_of_our_own_models_are_read_off(tmp_path: Path) -> None:
    for name, changes in {
        "vgg-lite": {"backbone": {"layers": [1, 2, 1], "channels": [8, 16, 16]}},
        "resnet-lite": {"backbone": {"width": 8, "layers": [1, 1, 2]}},
        "lenet": {"bottleneck": {"hidden": [60]}, "head": {"num_classes": 5}},
        "mlp": {"backbone": {"hidden": [32, 16, 8]}},
    }.items():
        state = zoo.build(name, **changes).state_dict()
        fit = zoo.identify(saved(state, tmp_path / "a.pt")).fits[0]
        assert (fit.model, fit.keymap) == (name, "")
        assert fit.spec == zoo.build(name, **changes).spec


def test_every_named_model_is_found(tmp_path: Path) -> None:
    for name in ("lenet", "mlp", "vgg-lite", "resnet-lite"):
        save_file(zoo.build(name).state_dict(), tmp_path / "a.safetensors")
        assert claims_of(zoo.identify(tmp_path / "a.safetensors")) == [(name, "", "")]


def test_a_file_of_ours_says_so_itself(tmp_path: Path) -> None:
    path = zoo.save(zoo.build("lenet"), tmp_path / "a.safetensors")
    assert zoo.identify(path).fits[0].call == f"zoo.load({str(path)!r})"
    assert zoo.identify(path).fits[0].model == "lenet"


def test_a_changed_file_of_ours_is_told_by_the_model_that_it_comes_of(tmp_path: Path) -> None:
    path = zoo.save(zoo.build("lenet", num_classes=5, backbone={"activation": "relu"}), tmp_path / "a.pt")
    (fit,) = zoo.identify(path).fits
    assert (fit.model, fit.changed) == ("lenet", "backbone.activation=relu, head.num_classes=5")
    assert str(fit) == "lenet with backbone.activation=relu, head.num_classes=5"
    assert fit.call == f"zoo.load({str(path)!r})"
    assert zoo.identify(zoo.save(zoo.build("lenet", head=None), tmp_path / "b.pt")).fits[0].model == ""


def test_no_value_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(zoo.build("lenet").state_dict(), tmp_path / "a.pt")
    for name in ("clone", "contiguous", "to", "numpy", "tolist", "item"):
        monkeypatch.setattr(torch.Tensor, name, lambda *_, **__: pytest.fail("a value was read"))
    assert zoo.identify(path).fits[0].model == "lenet"


def test_what_fits_nothing_is_told_with_what_comes_nearest(tmp_path: Path) -> None:
    state = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=3).state_dict()
    state["layer1.0.extra.weight"] = torch.zeros(3)
    path = saved(state, tmp_path / "a.pth")
    found = zoo.identify(path)
    assert not found.fits
    assert "layer1.0.extra.weight" in str(found.nearest[0].differences)
    done = CliRunner().invoke(main, ["identify", str(path)])
    assert done.exit_code == 1
    assert "fits no model that is installed; nearest are" in done.output
    assert done.output.splitlines()[-1].startswith(f"zoo identify {path} --libraries tries those of timm")
    strange = saved({"a.b": torch.zeros(2, 2)}, tmp_path / "b.pth")
    assert not zoo.identify(strange).nearest


def test_several_sets_of_weights_need_a_choice(tmp_path: Path) -> None:
    lenet, mlp = zoo.build("lenet").state_dict(), zoo.build("mlp").state_dict()
    path = saved({"student": lenet, "teacher": mlp, "epoch": 1}, tmp_path / "a.pt")
    with pytest.raises(SeveralWeightsError) as caught:
        zoo.identify(path)
    assert str(caught.value) == (
        f"{path}: holds several sets of weights: 'student' (10 tensors, lenet), 'teacher' (6 tensors, mlp); "
        "say which: within='teacher' (--within teacher)"
    )
    found = zoo.identify(path, within="teacher")
    assert found.fits[0].call == f"zoo.load({str(path)!r}, spec='mlp', within='teacher')"


def test_parts_of_a_file_that_fit_are_told_with_their_places(tmp_path: Path) -> None:
    lenet, mlp = zoo.build("lenet", num_classes=5).state_dict(), zoo.build("mlp").state_dict()
    state = {f"net.student.{name}": tensor for name, tensor in lenet.items()}
    state |= {f"net.teacher.{name}": tensor for name, tensor in mlp.items()}
    path = saved({"net": {**state, "net.proj.0.weight": torch.zeros(2, 2)}, "epoch": 1}, tmp_path / "a.pth")
    found = zoo.identify(path)
    assert not found.fits
    assert [(fit.within, str(fit)) for fit in found.parts] == [
        ("net.net.student", "lenet with head.num_classes=5"),
        ("net.net.teacher", "mlp"),
    ]
    for fit in found.parts:
        assert eval(fit.call, {"zoo": zoo}).migration.proven  # what it says is to be typed
    call = f"zoo.build('lenet', weights={str(path)!r}, within='net.net.student', head={{'num_classes': 5}})"
    assert found.parts[0].call == call
    done = CliRunner().invoke(main, ["identify", str(path)])
    assert done.exit_code == 1
    assert "fits no model as a whole; parts of it do" in done.output
    done = CliRunner().invoke(main, ["identify", str(path), "--within", "net.net.teacher"])
    assert done.exit_code == 0


def test_a_model_beside_a_projection_is_found(tmp_path: Path) -> None:
    state = {f"encoder.{name}": tensor for name, tensor in ResNet(BasicBlock, [1, 1, 1, 1]).state_dict().items()}
    state["projector.0.weight"] = torch.zeros(8, 8)
    save_file(state, tmp_path / "a.safetensors")
    (fit,) = zoo.identify(tmp_path / "a.safetensors").parts
    assert (fit.within, fit.changed) == ("encoder", "backbone.layers=[1, 1, 1, 1]")
    assert eval(fit.call, {"zoo": zoo}).migration.proven


def test_of_many_sets_of_weights_a_few_are_looked_at(tmp_path: Path) -> None:
    path = saved({f"run{n}": zoo.build("mlp").state_dict() for n in range(8)}, tmp_path / "a.pt")
    with pytest.raises(SeveralWeightsError, match=r"'run5' \(6 tensors, mlp\), 'run6', 'run7'; say which"):
        zoo.identify(path)


def test_the_command_prints_a_table_or_json(tmp_path: Path) -> None:
    path = saved({"state_dict": zoo.build("lenet", num_classes=62).state_dict(), "epoch": 1}, tmp_path / "a.pt")
    done = CliRunner().invoke(main, ["identify", str(path)])
    assert done.exit_code == 0
    assert done.output.splitlines()[1:3] == [
        "weights in 'state_dict'; beside them 'epoch' (int)",
        "model  changed              names of  to have it",
    ]
    told = json.loads(CliRunner().invoke(main, ["identify", str(path), "--json"]).output)
    assert told["fits"][0]["changes"] == {"head": {"num_classes": 62}}
    assert told["unwrapping"]["within"] == "state_dict"


def test_the_models_of_libraries_are_tried_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"timm": ["resnet18", "mobilenetv3_small_050", "vit_tiny_patch16_224"]}
    names["torchvision.models"] = ["mobilenet_v3_small", "googlenet", "alexnet", "regnet_y_400mf"]
    monkeypatch.setattr(libraries, "_names", lambda library: names[library.__name__])
    state = timm.create_model("mobilenetv3_small_050", num_classes=7, in_chans=1).state_dict()
    path = saved({f"model.{name}": tensor for name, tensor in state.items()}, tmp_path / "a.pth")
    assert not zoo.identify(path).fits
    (fit,) = zoo.identify(path, libraries=True).fits
    assert (fit.model, fit.prefixes) == ("timm:mobilenetv3_small_050", ("model.",))
    assert fit.changes == {"model": {"in_chans": 1, "num_classes": 7}}
    other = eval(fit.call, {"zoo": zoo})  # what it says is to be typed
    assert other.state_dict()["backbone.network.conv_stem.weight"].equal(state["conv_stem.weight"])
    assert "--libraries" not in str(zoo.identify(saved({"a.b": torch.zeros(2, 2)}, tmp_path / "c.pth"), libraries=True))
    with torch.device("meta"):
        theirs = torchvision.models.googlenet(init_weights=False)
    state = {name: torch.zeros(tensor.shape, dtype=torch.uint8) for name, tensor in theirs.state_dict().items()}
    (fit,) = zoo.identify(saved(state, tmp_path / "d.pth"), libraries=True).fits  # it warns when it is made
    assert fit.model == "torchvision:googlenet"
    path = saved(torchvision.models.alexnet(num_classes=3).state_dict(), tmp_path / "b.pth")
    done = CliRunner().invoke(main, ["identify", str(path), "--libraries"])
    assert done.exit_code == 0
    assert f"zoo.load('{path}', spec={{'backbone': {{'type': 'torchvision:alexnet', 'pooled': True}}, " in done.output


@pytest.mark.parametrize("classes", [0, 5, None])
@pytest.mark.parametrize("name", ["resnet10t", "vit_small_patch14_dinov2"])  # the latter has no classifier by itself
def test_a_model_of_a_library_is_told_with_any_classifier_or_none(
    name: str, classes: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"timm": ["resnet18", "vit_small_patch16_224", "resnet10t", name], "torchvision.models": ["alexnet"]}
    monkeypatch.setattr(libraries, "_names", lambda library: names[library.__name__])
    given = {} if classes is None else {"num_classes": classes}
    with torch.device("meta"):
        theirs = timm.create_model(name, **given).state_dict()
    state = {name: torch.zeros(tensor.shape, dtype=torch.uint8) for name, tensor in theirs.items()}
    fits = zoo.identify(saved(state, tmp_path / "run.pth"), libraries=True).fits
    assert {fit.model for fit in fits} == {f"timm:{name}"}
    usual = 0 if "dinov2" in name else 1000
    assert fits[0].changes == ({} if classes in (None, usual) else {"model": given})


@pytest.mark.parametrize(
    ("name", "lacking", "whole"),
    [
        ("torchvision:regnet_y_400mf", "none", True),  # it computes with tensors as it is made
        ("torchvision:mobilenet_v3_small", "none", True),  # its vector is its classifier's
        ("torchvision:mobilenet_v3_small", "classifier.", False),
        ("timm:skresnet18", "none", True),
        ("timm:dla34", "none", False),  # its classifier is a convolution
    ],
)
def test_the_call_for_a_model_of_a_library_is_to_be_typed(
    name: str, lacking: str, whole: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, _, model = name.partition(":")
    monkeypatch.setattr(libraries, "_names", lambda of: [model] if of.__name__.startswith(library) else [])
    make = timm.create_model if library == "timm" else torchvision.models.get_model
    state = {key: each for key, each in make(model, num_classes=5).state_dict().items() if not key.startswith(lacking)}
    (fit,) = zoo.identify(saved(state, tmp_path / "run.pth"), libraries=True).fits
    ours = eval(fit.call, {"zoo": zoo})
    assert (ours.head is not None) is whole
    assert len(ours.state_dict()) == (
        len(state) if whole else len(ours.migration.renaming.made) + ours.migration.renaming.renamed
    )


def test_a_token_before_the_first_convolution_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libraries, "_names", lambda of: ["test_vit"] if of is timm else [])
    theirs = timm.create_model("test_vit", num_classes=5, in_chans=1).eval()
    (fit,) = zoo.identify(saved(theirs.state_dict(), tmp_path / "a.pth"), libraries=True).fits
    assert fit.changes == {"model": {"in_chans": 1, "num_classes": 5}}
    ours, image = eval(fit.call, {"zoo": zoo}), torch.rand(1, 1, 160, 160)
    with torch.no_grad():
        assert torch.equal(ours(image), theirs(image))


def test_a_graph_of_others_is_told_from_the_graph(tmp_path: Path) -> None:
    stranger = STRANGERS["LeNet-5 as nn.Sequential"]
    strangers.exported(stranger, "legacy", tmp_path / "x.onnx")
    path = disguises.anonymous(tmp_path / "x.onnx")
    found = zoo.identify(path)
    (fit,) = found.fits
    assert (fit.model, fit.changed, fit.graph) == ("lenet", "", "operator for operator")
    assert fit.call == f"zoo.load({str(path)!r}, spec='lenet')"
    assert "none: its graph fits" in str(found)
    assert zoo.load(path, spec=fit.spec).migration.proven


def test_classes_and_channels_of_a_graph_are_told_and_the_call_works(tmp_path: Path) -> None:
    theirs = ResNet(BasicBlock, [2, 2, 2, 2], num_classes=7)
    theirs.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    stranger = strangers.Stranger(lambda: theirs, dict, channels=1, size=(64, 64))
    strangers.exported(stranger, "dynamo", tmp_path / "x.onnx")
    (fit,) = zoo.identify(tmp_path / "x.onnx").fits
    assert (fit.model, fit.changed) == ("resnet18", "input.channels=1, head.num_classes=7")
    model = eval(fit.call, {"zoo": zoo})
    x = torch.randn(2, 1, 64, 64)
    assert torch.allclose(model.eval()(x), theirs.eval()(x), atol=1e-4)


def test_models_that_are_one_graph_are_told_together(tmp_path: Path) -> None:
    vgg = strangers.Stranger(torchvision.models.vgg11_bn, dict, size=(224, 224))
    strangers.exported(vgg, "legacy", tmp_path / "x.onnx")
    found = zoo.identify(tmp_path / "x.onnx")
    assert [fit.model for fit in found.fits] == ["vgg11", "vgg11_bn"]
    assert "they are one graph once their norms are folded" in str(found)


def test_a_graph_of_no_named_model_is_told_so(tmp_path: Path) -> None:
    strangers.exported(STRANGERS["perceptron with layer norms"], "legacy", tmp_path / "x.onnx")
    found = zoo.identify(tmp_path / "x.onnx")
    assert found.fits == ()
    assert "its graph is that of no model with a name" in str(found)


def test_the_call_for_a_model_without_a_name_says_what_is_not_so_by_default(tmp_path: Path) -> None:
    full = {"input": {"channels": 1}, "backbone": {"type": "resnet_lite", "layers": [1, 2, 1, 1]}}
    path = tmp_path / "trunk.pth"
    torch.save({f"encoder.{n}": t for n, t in zoo.build(full).backbone.state_dict().items()}, path)
    (fit,) = zoo.identify(path).fits
    assert fit.call == (
        f"zoo.load({str(path)!r}, spec={{'input': {{'channels': 1}}, "
        "'backbone': {'type': 'resnet_lite', 'layers': [1, 2, 1, 1]}})"
    )
    assert eval(fit.call, {"zoo": zoo}).spec == fit.spec == zoo.normalise(full)
