"""What exporters write in other ways than most comes home too, or is told as what it is."""

from __future__ import annotations

from pathlib import Path

import disguises
import onnx
import onnx.version_converter
import pytest
import strangers
import torch
from strangers import STRANGERS, Stranger
from torch import nn
from torchvision.models import resnet

import zoo
from zoo.errors import AlignmentError

LENET, RESNET = "LeNet-5 as nn.Sequential", "torchvision ResNet, basic blocks"


def agrees(model: nn.Module, theirs: nn.Module, *shape: int) -> bool:
    x = torch.randn(shape)
    with torch.no_grad():
        expected = theirs(x)
        return float((model(x) - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


def test_a_bias_of_one_class_that_is_added_by_itself_is_a_bias(tmp_path: Path) -> None:
    spec = strangers.spec_of("resnet18", backbone={"layers": [1, 1, 1, 1]}, head={"num_classes": 1})
    one = Stranger(lambda: resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1], num_classes=1), lambda: spec)
    theirs = strangers.exported(one, "legacy", tmp_path / "x.onnx")
    model = zoo.load(disguises.multiplied(tmp_path / "x.onnx"), spec=spec)
    assert model.migration.proven
    assert torch.equal(model.head.fc.bias, theirs.fc.bias)
    assert agrees(model, theirs, 2, 3, 32, 32)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("opset", [9, 13])  # the padding is an attribute, and an input
def test_a_pad_by_nothing_is_nothing(opset: int, tmp_path: Path) -> None:
    stranger = STRANGERS[LENET]
    theirs = stranger.make().eval()
    strangers.fill(theirs)
    torch.onnx.export(theirs, (torch.randn(2, 1, 32, 32),), tmp_path / "x.onnx", dynamo=False, opset_version=9)
    onnx.save(onnx.version_converter.convert_version(onnx.load(tmp_path / "x.onnx"), opset), tmp_path / "x.onnx")
    assert "Pad" in {node.op_type for node in onnx.load(tmp_path / "x.onnx").graph.node}
    model = zoo.load(tmp_path / "x.onnx", spec=stranger.spec())
    assert model.migration.alignment.notes == ("the graphs fit operator for operator",)
    assert agrees(model, theirs, 2, 1, 32, 32)


@pytest.mark.filterwarnings("ignore")  # the exporter warns of itself
def test_a_file_that_was_exported_in_training_is_told_so(tmp_path: Path) -> None:
    training = torch.onnx.TrainingMode.TRAINING
    x, model = torch.randn(2, 3, 32, 32), STRANGERS[RESNET].make()
    torch.onnx.export(model, (x,), tmp_path / "x.onnx", dynamo=False, training=training, do_constant_folding=False)
    told = r"was exported while in training, .* export it after \.eval\(\), .*: the first in the file is BatchNorm"
    with pytest.raises(AlignmentError, match=told):
        zoo.load(tmp_path / "x.onnx", spec=STRANGERS[RESNET].spec())
