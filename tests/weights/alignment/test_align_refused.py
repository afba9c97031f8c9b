"""What has to be refused is refused, with the place that does not fit, and never loaded as something else."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import disguises
import numpy as np
import onnx
import pytest
import strangers
import torch
from onnx import TensorProto, helper, numpy_helper
from strangers import LIGHT, STRANGERS
from torch import nn

import zoo
from zoo.errors import AlignmentError, FileFormatError
from zoo.features import Feature
from zoo.weights.alignment import align
from zoo.weights.alignment.unfolding import Unfolded

LENET, RESNET = "LeNet-5 as nn.Sequential", "torchvision ResNet, basic blocks"


class TwoNorms(nn.Module):
    """One convolution under two norms."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 8, 3, bias=False)
        self.first, self.second = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.features = (Feature("map", 8, 1),)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.conv(x)
        return (torch.relu(self.first(x)) + torch.tanh(self.second(x)),)


class Twins(nn.Module):
    """Two branches that are alike in all but an activation."""

    def __init__(self, in_channels: int, same: bool = True) -> None:
        super().__init__()
        self.left, self.right = (nn.Conv2d(in_channels, 8, 3) for _ in range(2))
        self.left_end, self.right_end = (nn.Conv2d(8, 8, 1) for _ in range(2))
        self.same = same
        self.features = (Feature("map", 8, 1),)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        left, right = torch.relu(self.left(x)), torch.relu(self.right(x))
        return (self.left_end(left) + self.right_end(right),)


@pytest.fixture
def lenet(tmp_path: Path) -> Path:
    strangers.exported(STRANGERS[LENET], "legacy", tmp_path / "lenet.onnx")
    return tmp_path / "lenet.onnx"


def _spec(backbone: str) -> dict[str, object]:
    return {
        "input": {"channels": 3, "size": [16, 16]},
        "backbone": backbone,
        "neck": "gap",
        "head": {"type": "linear", "num_classes": 5},
    }


def _changed(path: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    return path


def test_one_convolution_under_two_norms_is_refused_once_folded(
    tmp_path: Path, backbone: Callable[[str, type[nn.Module]], None]
) -> None:
    backbone("two_norms", TwoNorms)
    ours = zoo.build(_spec("two_norms")).eval()
    strangers.fill(ours)
    x = torch.randn(2, 3, 16, 16)
    torch.onnx.export(ours, (x,), tmp_path / "whole.onnx", dynamo=True, optimize=False, verbose=False)
    whole = zoo.load(disguises.anonymous(tmp_path / "whole.onnx"), spec=_spec("two_norms"))
    assert torch.equal(whole.backbone.conv.weight, ours.backbone.conv.weight)

    state = ours.state_dict()
    folded = nn.Module()
    folded.a, folded.b, folded.fc = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3), ours.head.fc
    for conv, norm in ((folded.a, ours.backbone.first), (folded.b, ours.backbone.second)):
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        conv.weight.data = state["backbone.conv.weight"] * scale.view(8, 1, 1, 1)
        conv.bias.data = norm.bias - norm.running_mean * scale
    folded.forward = lambda x: folded.fc((folded.a(x).relu() + folded.b(x).tanh()).mean((2, 3)))
    folded.eval()
    torch.testing.assert_close(folded(x), ours(x))
    torch.onnx.export(folded, (x,), tmp_path / "folded.onnx", dynamo=True, verbose=False)
    with pytest.raises(AlignmentError, match=r"'backbone\.conv\.weight'.*what it was before cannot be told any more"):
        zoo.load(tmp_path / "folded.onnx", spec=_spec("two_norms"))


def test_branches_that_are_alike_are_paired_as_wholes_and_called_ambiguous(
    tmp_path: Path, backbone: Callable[[str, type[nn.Module]], None]
) -> None:
    backbone("twins", Twins)
    ours = zoo.build(_spec("twins")).eval()
    strangers.fill(ours)
    x = torch.randn(2, 3, 16, 16)
    torch.onnx.export(ours, (x,), tmp_path / "x.onnx", dynamo=True, verbose=False)
    back = zoo.load(disguises.anonymous(tmp_path / "x.onnx"), spec=_spec("twins"))
    assert back.migration.alignment.counts == {"ambiguous": 8, "exact": 2}
    assert "8 tensors are of branches that are alike" in str(back.migration)
    torch.testing.assert_close(back(x), ours(x))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"backbone": {"activation": "relu"}},
            "Conv .*after Tanh, AveragePool 2×2 strides=2,2; .*after Relu, AveragePool",
        ),
        ({"backbone": {"pool": "max"}}, "Conv .*after Tanh, AveragePool 2×2 strides=2,2; .*after Tanh, MaxPool 2×2"),
        (
            {"backbone": {"channels": [6, 17]}},
            r"the first in the file is Conv .*16×6×5×5.*'backbone.stages.1.conv.weight' 17×6",
        ),
        ({"bottleneck": {"hidden": [84, 120]}}, r"Linear .*120×400.*Linear 'bottleneck.layers.0.linear.weight' 84×400"),
        (
            {"head": {"num_classes": 11}},
            r"Linear .*10×84.*'head.fc.weight' 11×84; the file says that it gives 10 classes: zoo.build.*=10",
        ),
        ({"input": {"channels": 3}}, "takes an input of 2×1×32×32; the model takes 3 channels"),
        ({"bottleneck": {"hidden": [120]}}, "is no graph of this model"),
    ],
)
def test_another_architecture_is_refused(lenet: Path, changes: dict[str, dict[str, object]], told: str) -> None:
    with pytest.raises(AlignmentError, match=told):
        zoo.load(lenet, spec=strangers.spec_of("lenet", **changes))


def test_an_architecture_of_the_very_same_parameters_is_refused(tmp_path: Path) -> None:
    """Three convolutions of equal widths: only where the poolings stand differs."""

    def spec(*layers: int) -> dict[str, object]:
        return {
            "input": {"channels": 3, "size": [16, 16]},
            "backbone": {"type": "vgg_lite", "layers": list(layers), "channels": [8, 8]},
            "neck": "gap",
            "head": {"type": "linear", "num_classes": 5},
        }

    ours, other = zoo.build(spec(1, 2)).eval(), zoo.build(spec(2, 1))
    assert [p.shape for p in ours.parameters()] == [p.shape for p in other.parameters()]
    strangers.fill(ours)
    torch.onnx.export(ours, (torch.randn(2, 3, 16, 16),), tmp_path / "x.onnx", dynamo=True, verbose=False)
    file = disguises.anonymous(tmp_path / "x.onnx")
    zoo.load(file, spec=spec(1, 2))
    with pytest.raises(AlignmentError, match="computes something else than the model with its weights"):
        zoo.load(file, spec=spec(2, 1))


def test_a_weight_that_is_no_number_is_refused(lenet: Path) -> None:
    def damage(model: onnx.ModelProto) -> None:
        weight = max(model.graph.initializer, key=lambda each: len(each.raw_data))
        array = numpy_helper.to_array(weight).copy()
        array.reshape(-1)[7] = np.nan
        weight.CopyFrom(numpy_helper.from_array(array, weight.name))

    with pytest.raises(AlignmentError, match="what it computes is not finite; a weight of it may be damaged"):
        zoo.load(_changed(lenet, damage), spec="lenet")


def test_a_file_whose_data_are_cut_is_refused(lenet: Path) -> None:
    file = disguises.external(lenet)
    data = file.with_suffix(".bin")
    data.write_bytes(data.read_bytes()[:-4])
    with pytest.raises(FileFormatError, match="ends at byte"):
        zoo.load(file, spec="lenet")


@pytest.mark.parametrize("name", ["backbone.stages.0.conv.weight", "bottleneck.layers.1.linear.weight", "head.fc.bias"])
def test_one_number_that_came_out_wrong_fails_the_proof(
    lenet: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = align.unfolded

    def wrong(*args: object) -> Unfolded:
        found = right(*args)
        tensor = found.tensors[name].clone()
        tensor.reshape(-1)[1] += 0.01
        return Unfolded({**found.tensors, name: tensor}, found.origins)

    monkeypatch.setattr(align, "unfolded", wrong)
    with pytest.raises(AlignmentError, match="computes something else than the model with its weights"):
        zoo.load(lenet, spec="lenet")


@pytest.mark.parametrize("file", sorted(path.stem for path in LIGHT.glob("light_*.onnx") if "vgg19" not in path.stem))
def test_a_light_model_of_another_kind_is_refused(file: str) -> None:
    with pytest.raises(
        AlignmentError, match=r"is no graph of this model: the first in the file is .*; the first in the"
    ):
        zoo.load(LIGHT / f"{file}.onnx", spec="vgg11")


def test_a_quantised_file_is_refused(lenet: Path) -> None:
    with pytest.raises(AlignmentError, match=r"is quantised.* the first in the file is QuantizeLinear 'quantise_w'"):
        zoo.load(disguises.quantised(lenet), spec="lenet")


def _insert(op: str, domain: str = "", **attributes: object) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        node = model.graph.node[1]
        name = node.input[0]
        node.input[0] = "inserted"
        model.graph.node.append(
            helper.make_node(op, [name], ["inserted"], name="stranger", domain=domain, **attributes)
        )
        if domain:
            model.opset_import.append(helper.make_opsetid(domain, 1))

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_insert("Thing", "acme"), r"has an operator of 'acme', which is unknown here.* acme.Thing 'stranger'"),
        (_insert("Tile"), "has an operator that the model does not have.* Tile 'stranger'"),
        (_insert("MaxPool", kernel_shape=[3, 3], pads=[5000] * 4), "has a window of 5000; at most 1024 are taken"),
        (_insert("Softplus"), "computes something else than the model with its weights.*"),
        (
            _insert(
                "If", then_branch=helper.make_graph([], "g", [], []), else_branch=helper.make_graph([], "h", [], [])
            ),
            "has graphs within a node, which cannot be followed.* If 'stranger'",
        ),
    ],
    ids=["custom", "enlarging", "window", "activation", "if"],
)
def test_an_operator_that_does_not_belong_is_named(
    lenet: Path, change: Callable[[onnx.ModelProto], None], told: str
) -> None:
    with pytest.raises(AlignmentError, match=told):
        zoo.load(_changed(lenet, change), spec="lenet")


def test_a_layout_for_one_machine_is_refused(tmp_path: Path) -> None:
    strangers.exported(STRANGERS[RESNET], "legacy", tmp_path / "x.onnx")
    with pytest.raises(AlignmentError, match="laid out for one machine by onnxruntime"):
        zoo.load(disguises.all_of_them(tmp_path / "x.onnx"), spec=STRANGERS[RESNET].spec())


def test_a_graph_of_two_inputs_is_refused(lenet: Path) -> None:
    def add(model: onnx.ModelProto) -> None:
        model.graph.input.append(helper.make_tensor_value_info("second", TensorProto.FLOAT, [1]))

    with pytest.raises(AlignmentError, match=r"takes 2 inputs \(.*, second\); expected one"):
        zoo.load(_changed(lenet, add), spec="lenet")


def test_a_graph_that_goes_in_a_circle_is_refused(lenet: Path) -> None:
    def tie(model: onnx.ModelProto) -> None:
        model.graph.node[0].input[0] = model.graph.node[2].output[0]

    with pytest.raises(AlignmentError, match="in a circle"):
        zoo.load(_changed(lenet, tie), spec="lenet")


def test_a_vast_constant_made_of_nothing_is_refused(lenet: Path) -> None:
    def fill(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(np.array([1 << 20, 1 << 20]), "shape"))
        model.graph.node.append(helper.make_node("ConstantOfShape", ["shape"], ["vast"], name="bomb"))

    with pytest.raises(
        AlignmentError, match=r"makes constants that are larger than the model.* ConstantOfShape 'bomb'"
    ):
        zoo.load(_changed(lenet, fill), spec="lenet")


def test_a_graph_folded_by_zoo_itself_stays_refused(tmp_path: Path) -> None:
    zoo.save(zoo.build("lenet"), tmp_path / "x.onnx", optimize=True)
    with pytest.raises(zoo.errors.NotInvertibleError):
        zoo.load(tmp_path / "x.onnx", spec="lenet")


def test_another_number_of_classes_is_advised_only_where_that_is_all(lenet: Path) -> None:
    with pytest.raises(AlignmentError) as caught:
        zoo.load(lenet, spec=strangers.spec_of("lenet", head={"num_classes": 12}))
    assert str(caught.value).endswith(f"zoo.build(…, weights={str(lenet)!r}, num_classes=10)")
    with pytest.raises(AlignmentError) as caught:
        zoo.load(lenet, spec=strangers.spec_of("lenet", bottleneck={"hidden": [84, 120]}, head={"num_classes": 12}))
    assert str(caught.value).endswith(f"zoo identify {lenet} tells if it is that of another")


def test_channels_that_come_last_are_told(tmp_path: Path) -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = STRANGERS[RESNET].make()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.model(x.permute(0, 3, 1, 2))
            return made

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Last().eval(), (torch.randn(1, 32, 32, 3),), tmp_path / "x.onnx", dynamo=False)
    with pytest.raises(
        AlignmentError, match="takes an input of 1×32×32×3; the model takes 3 channels, and the channels c"
    ):
        zoo.load(tmp_path / "x.onnx", spec=STRANGERS[RESNET].spec())


@pytest.mark.parametrize("norm", ["batch", {"type": "group", "groups": 4}, "none"])
def test_instance_norms_are_not_taken_for_others(norm: object, tmp_path: Path) -> None:
    stranger = STRANGERS["torchvision ResNet, instance norms"]
    strangers.exported(stranger, "legacy", tmp_path / "x.onnx")
    spec = stranger.spec()
    with pytest.raises(AlignmentError):
        zoo.load(tmp_path / "x.onnx", spec={**spec, "backbone": {**spec["backbone"], "norm": norm}})
