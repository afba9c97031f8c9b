"""ONNX files of others go through every door: into models that are built, changed, or there already."""

from __future__ import annotations

from pathlib import Path

import pytest
import strangers
import torch
import torchvision
from strangers import STRANGERS, Stranger
from torch import nn

import zoo
from zoo.errors import AlignmentError, TensorMismatchError

LENET, RESNET = "LeNet-5 as nn.Sequential", "torchvision ResNet, basic blocks"


@pytest.fixture(scope="module")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    path = tmp_path_factory.mktemp("doors") / "lenet.onnx"
    return path, strangers.exported(STRANGERS[LENET], "legacy", path)


def close(model: nn.Module, theirs: nn.Module, *shape: int) -> bool:
    x = torch.randn(shape)
    with torch.no_grad():
        expected = theirs(x)
        return float((model(x) - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


def test_build_takes_a_folded_graph_and_tells_how(tmp_path: Path) -> None:
    stranger = Stranger(lambda: torchvision.models.resnet18(num_classes=10), dict, size=(64, 64))
    theirs = strangers.exported(stranger, "legacy", tmp_path / "x.onnx")
    model = zoo.build("resnet18", weights=tmp_path / "x.onnx", num_classes=10)
    assert not model.training
    assert close(model, theirs, 2, 3, 64, 64)
    assert model.migration.proven
    assert model.migration.target == "resnet18 (resnet_lite → gap → linear)"
    assert model.migration.alignment.counts == {"batchnorm-folded": 40, "identity": 80, "exact": 2}
    assert model.transfer.complete


def test_build_gives_a_graph_a_new_head(lenet: tuple[Path, nn.Module]) -> None:
    path, theirs = lenet
    model = zoo.build("lenet", weights=path, num_classes=5)
    assert [change.name for change in model.transfer.reinitialised] == ["head.fc.weight", "head.fc.bias"]
    assert model.migration.proven
    assert model.training
    assert torch.equal(model.backbone.stages[0].conv.weight, theirs[0].weight)
    assert model.head.fc.weight.shape == (5, 84)


def test_build_says_of_both_models_that_it_tried_why_the_graph_is_of_neither(lenet: tuple[Path, nn.Module]) -> None:
    path, _ = lenet
    spec = strangers.spec_of("lenet", bottleneck={"hidden": [120, 85]})
    with pytest.raises(AlignmentError) as caught:
        zoo.build(spec, weights=path, bottleneck={"hidden": [121, 84]})
    told = str(caught.value)
    first, second = told.split(". As the model was before, it ")
    assert first.startswith(
        f"{path}: with the change (bottleneck.hidden [120, 85] → [121, 84]) it is no graph of this model"
    )
    assert first.endswith("the first in the model is Linear 'bottleneck.layers.0.linear.weight' 121×400")
    assert second.endswith("the first in the model is Linear 'bottleneck.layers.1.linear.weight' 85×120")
    for fresh in ((), "head"):
        with pytest.raises(AlignmentError, match=r"lenet.onnx: is no graph of this model"):
            zoo.build({**spec, "head": {"type": "linear", "num_classes": 9}}, weights=path, fresh=fresh)


def test_the_classes_of_a_graph_may_be_neither_those_before_nor_those_after(lenet: tuple[Path, nn.Module]) -> None:
    path, theirs = lenet
    spec = strangers.spec_of("lenet", head={"num_classes": 12})
    model = zoo.build(spec, weights=path, num_classes=5)
    assert [change.reason for change in model.transfer.reinitialised] == ["head.num_classes 10 → 5"] * 2
    assert model.migration.proven
    model = zoo.build(spec)
    with pytest.raises(
        TensorMismatchError, match=r"2 different \(head.fc.weight float32\[10, 84\] for float32\[12, 84\]"
    ):
        zoo.load_into(model, path)
    done = zoo.load_into(model, path, allow_missing="head.*")
    assert len(done.loaded) == 8
    assert torch.equal(model.backbone.stages[0].conv.weight, theirs[0].weight)


def test_load_into_takes_a_folded_graph(tmp_path: Path) -> None:
    stranger = STRANGERS[RESNET]
    theirs = strangers.exported(stranger, "legacy", tmp_path / "x.onnx")
    model = zoo.build(stranger.spec()).eval()
    weight = model.head.fc.weight
    planned = zoo.plan_load(model, tmp_path / "x.onnx")
    assert planned.fits
    assert not close(model, theirs, 2, 3, 32, 32)
    assert zoo.load_into(model, tmp_path / "x.onnx") == planned
    assert close(model, theirs, 2, 3, 32, 32)
    assert model.head.fc.weight is weight


def test_load_into_refuses_the_graph_of_another_model_and_changes_nothing(lenet: tuple[Path, nn.Module]) -> None:
    model = zoo.build(strangers.spec_of("lenet", bottleneck={"hidden": [84, 120]}))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for door in (zoo.plan_load, zoo.load_into):
        with pytest.raises(AlignmentError, match=r"Linear .*120×400.*'bottleneck.layers.0.linear.weight' 84×400"):
            door(model, lenet[0])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_graph_goes_into_a_module_that_is_not_ours_by_its_names(tmp_path: Path) -> None:
    theirs = strangers.exported(STRANGERS[LENET], "legacy", tmp_path / "x.onnx")
    other = STRANGERS[LENET].make()
    zoo.load_into(other, tmp_path / "x.onnx")
    assert close(other, theirs, 2, 1, 32, 32)
    strangers.exported(STRANGERS[RESNET], "legacy", tmp_path / "folded.onnx")
    with pytest.raises(TensorMismatchError, match="missing"):
        zoo.load_into(STRANGERS[RESNET].make(), tmp_path / "folded.onnx")
