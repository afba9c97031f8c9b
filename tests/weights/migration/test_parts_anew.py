"""Files from elsewhere that lack parts of a model, or have others there: what starts anew takes nothing from them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import resnet18, resnet50
from torchvision.models.detection import retinanet_resnet50_fpn
from weights_support import Trunk

import zoo
from zoo.errors import (
    AlignmentError,
    KeymapError,
    SeveralFitsError,
    SeveralWeightsError,
    TensorMismatchError,
    ZooError,
)
from zoo.model import Model

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    return resnet18(num_classes=9).eval()


@pytest.fixture(scope="module")
def state(theirs: nn.Module) -> State:
    return theirs.state_dict()


def saved(path: Path, state: object) -> str:
    torch.save(state, path)
    return str(path)


def trunk(state: State) -> State:
    return {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}


def same_trunk(model: Model, state: State) -> None:
    own = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("backbone.")}
    assert len(own) == len(trunk(state))
    for name, tensor in trunk(state).items():
        assert own[f"backbone.{name}"].equal(tensor)


@pytest.mark.parametrize(
    "asked", [{"fresh": "head"}, {"num_classes": 5}, {"head": {"type": "mlp", "num_classes": 4}}, {"head": None}]
)
def test_a_checkpoint_without_a_head_comes_into_a_model_whose_head_is_new(
    asked: dict[str, object], state: State, tmp_path: Path
) -> None:
    model = zoo.build("resnet18", weights=saved(tmp_path / "trunk.pth", trunk(state)), **asked)  # type: ignore[arg-type]
    same_trunk(model, state)
    assert model.migration is not None
    assert model.migration.proven
    assert "; nothing is taken for the head" in str(model.migration)
    anew = {change.name.partition(".")[0] for change in model.transfer.reinitialised}  # type: ignore[union-attr]
    assert anew == ({"head"} if asked.get("head", ...) is not None else set())


def test_what_stands_where_a_new_head_comes_is_left_out_and_told(state: State, tmp_path: Path) -> None:
    other = {
        **trunk(state),
        "fc.0.weight": torch.ones(4, 512),
        "fc.0.bias": torch.ones(4),
        "fc.2.weight": torch.ones(4),
    }
    model = zoo.build("resnet18", weights=saved(tmp_path / "run.pth", {"model": other}), fresh="head")
    same_trunk(model, state)
    told = str(model.migration)
    assert "what is not of the model was left out: fc.0.weight (no name that is known), fc.0.bias" in told
    assert "whether theirs computes with fc.0.weight, fc.0.bias, fc.2.weight before it comes to what was taken" in told
    assert "the model was changed, a new head" in told


def test_what_belongs_to_the_trunk_and_is_not_known_is_refused(state: State, tmp_path: Path) -> None:
    squeezed = {**trunk(state), "layer1.0.se.weight": torch.ones(64)}
    with pytest.raises(KeymapError, match=r"the model has no 1: backbone\.layer1\.0\.se\.weight"):
        zoo.build("resnet18", weights=saved(tmp_path / "se.pth", squeezed), fresh="head")
    lacking = {name: tensor for name, tensor in trunk(state).items() if not name.startswith("layer4.1.bn2")}
    with pytest.raises(KeymapError, match=r"nothing makes \d: backbone\.layer4\.1\.bn2\.weight"):
        zoo.build("resnet18", weights=saved(tmp_path / "less.pth", lacking), fresh="head")


def test_a_classifier_gives_its_backbone_to_a_detector_and_a_detector_its_trunk_to_another(tmp_path: Path) -> None:
    classifier = resnet50().state_dict()
    path = saved(tmp_path / "imagenet.pth", classifier)
    model = zoo.build("retinanet_resnet50_fpn", weights=path, fresh=["neck", "head"])
    same_trunk(model, classifier)
    told = model.transfer
    assert told is not None
    assert {change.name.partition(".")[0] for change in told.reinitialised} == {"neck", "head"}
    model = zoo.build("fcn_resnet50", weights=path, fresh="head")  # its neck holds no tensors
    same_trunk(model, classifier)
    detector = retinanet_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    path = saved(tmp_path / "detector.pth", {n: t for n, t in detector.items() if not n.startswith("head.")})
    model = zoo.build("retinanet_resnet50_fpn", weights=path, num_classes=3)
    assert model.state_dict()["neck.outputs.0.conv.weight"].equal(detector["backbone.fpn.layer_blocks.0.0.weight"])
    assert len(model.transfer.kept) == 334  # type: ignore[union-attr]


def test_a_graph_without_a_head_comes_into_a_model_whose_head_is_new(theirs: nn.Module, tmp_path: Path) -> None:
    path, image = tmp_path / "trunk.onnx", torch.rand(1, 3, 64, 64)
    torch.onnx.export(Trunk(theirs).eval(), (image,), path, dynamo=True, verbose=False)
    model = zoo.build("resnet18", weights=path, num_classes=5).eval()
    with torch.no_grad():
        (vector,) = model.neck(model.backbone(image))  # type: ignore[misc]
        torch.testing.assert_close(vector, Trunk(theirs).eval()(image))
    assert "Proven: onnxruntime on the file and the model agree" in str(model.migration)
    with pytest.raises(AlignmentError, match="is no graph of this model"):
        zoo.build("resnet34", weights=path, fresh="head")


def test_the_call_that_an_error_gives_is_to_be_typed(state: State, tmp_path: Path) -> None:
    path = saved(tmp_path / "student.pth", {"model": {f"student.{name}": each for name, each in trunk(state).items()}})
    with pytest.raises(KeymapError) as caught:
        zoo.load(path, spec="resnet18", within="student")
    call = (
        f"zoo.build(…, weights='{path}', within='model.student', fresh='head') takes the rest from it, with a new head"
    )
    assert call in str(caught.value)
    same_trunk(eval(call.partition(" takes")[0].replace("…", "'resnet18'"), {"zoo": zoo}), state)


def test_a_loss_beside_the_model_is_told_whatever_is_changed(theirs: nn.Module, tmp_path: Path) -> None:
    lightning = {**{f"model.{name}": each for name, each in theirs.state_dict().items()}, "loss.weight": torch.ones(3)}
    path = saved(tmp_path / "run.ckpt", {"state_dict": lightning})
    for asked in ({"num_classes": 9}, {"num_classes": 3}, {"fresh": "head"}):
        with pytest.raises(SeveralWeightsError, match="say which: within='model'"):
            zoo.build("resnet18", weights=path, **asked)  # type: ignore[arg-type]
    same_trunk(zoo.build("resnet18", weights=path, within="model", num_classes=3), theirs.state_dict())


def test_two_trunks_in_one_file_are_told_apart(state: State, tmp_path: Path) -> None:
    both = {**trunk(state), **{f"encoder.{name}": each for name, each in trunk(state).items()}}
    with pytest.raises(SeveralFitsError, match="fits in 2 ways that are not the same"):
        zoo.build("resnet18", weights=saved(tmp_path / "two.pth", both), fresh="head")


@pytest.mark.parametrize("fresh", [(), "head"])
def test_what_would_have_to_start_anew_is_told(fresh: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "r50.pth", resnet50().state_dict())
    with pytest.raises(TensorMismatchError) as caught:
        zoo.build("retinanet_resnet50_fpn", weights=path, fresh=fresh)
    call = f"zoo.build(…, weights='{path}', fresh=['neck', 'head'])"
    assert f"{call} takes the rest from it, with a new neck and a new head" in str(caught.value)
    told = eval(call.replace("…", "'retinanet_resnet50_fpn'"), {"zoo": zoo}).migration
    assert told.renaming.keymap == "timm and torchvision"


def test_another_head_by_our_names_is_told_too(tmp_path: Path) -> None:
    own = {n: t for n, t in zoo.build("lenet").state_dict().items() if not n.startswith("head.")}
    path = saved(tmp_path / "own.pth", {**own, "head.weight": torch.ones(3, 84), "head.bias": torch.ones(3)})
    for load in (lambda: zoo.load(path, spec="lenet"), lambda: zoo.build("lenet", weights=path)):
        with pytest.raises(TensorMismatchError, match=r"fresh='head'\) takes the rest from it, with a new head"):
            load()
    assert len(zoo.build("lenet", weights=path, fresh="head").transfer.kept) == 8  # type: ignore[union-attr]


def test_names_of_no_part_are_not_told_to_start_anew(tmp_path: Path) -> None:
    with pytest.raises(ZooError) as caught:
        zoo.build("lenet", weights=saved(tmp_path / "net.pth", {"conv9.weight": torch.ones(1)}), fresh="head")
    assert re.search(r"zoo identify \S+net\.pth tells what it can be of$", str(caught.value))
    assert "conv9" not in str(caught.value).partition("unexpected")[2].partition(")")[2]
