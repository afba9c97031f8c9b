"""The ResNet backbone: dilation, groups, stems, shortcuts and chosen stages, against torchvision where it has them."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops.misc import FrozenBatchNorm2d

import zoo
from zoo.backbones.resnet import ResNet
from zoo.errors import ShapeError

DILATED = {4: (True, True, True), 8: (False, True, True), 16: (False, False, True), 32: (False, False, False)}
BLOCKS = torchvision.models.resnet.Bottleneck


def outputs(network: torch.nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    with torch.inference_mode():
        found = network.eval()(x)
    return list(found.values() if isinstance(found, dict) else found)


@pytest.mark.parametrize("output_stride", DILATED)
@pytest.mark.parametrize("groups", [1, 4])
def test_dilated_stages_are_torchvisions_bit_for_bit(output_stride: int, groups: int, randomise) -> None:
    theirs = torchvision.models.ResNet(
        BLOCKS, [1, 2, 2, 1], groups=groups, width_per_group=16, replace_stride_with_dilation=DILATED[output_stride]
    )
    body = IntermediateLayerGetter(randomise(theirs), {"layer2": "a", "layer4": "b"})
    ours = ResNet(
        3, block="bottleneck", layers=(1, 2, 2, 1), groups=groups, width_per_group=16, output_stride=output_stride,
        out_indices=(1, 3),
    )  # fmt: skip
    assert list(ours.state_dict()) == list(body.state_dict())
    ours.load_state_dict(body.state_dict())
    x = torch.randn(2, 3, 97, 64)
    for feature, found, expected in zip(ours.features, outputs(ours, x), outputs(body, x), strict=True):
        assert torch.equal(found, expected)
        assert expected.std() > 1e-3
        assert found.shape[2:] == torch.Size(-(-n // feature.stride) for n in (97, 64))


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_a_dilated_network_sees_what_the_strided_one_sees_and_more_between(block: str, randomise) -> None:
    strided = randomise(ResNet(3, block=block, layers=(1, 2, 2), width=8))
    dilated = ResNet(3, block=block, layers=(1, 2, 2), width=8, output_stride=4)
    dilated.load_state_dict(strided.state_dict())
    x = torch.randn(1, 3, 64, 80)
    for sparse, dense in zip(outputs(strided, x), outputs(dilated, x), strict=True):
        step = dense.shape[2] // sparse.shape[2]
        torch.testing.assert_close(dense[..., ::step, ::step], sparse, rtol=1e-5, atol=1e-5)
    assert [f.stride for f in strided.features] == [4, 8, 16]
    assert [f.stride for f in dilated.features] == [4, 4, 4]


def test_a_frozen_batch_norm_is_torchvisions(randomise) -> None:
    theirs = randomise(torchvision.models.ResNet(BLOCKS, [1, 1, 1, 1], norm_layer=FrozenBatchNorm2d))
    theirs.fc = torch.nn.Identity()
    ours = ResNet(3, block="bottleneck", layers=(1, 1, 1, 1), norm="frozen_batch", out_indices=(3,))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 64, 64)
    for mode in (True, False):
        found = ours.train(mode)(x)[0].mean((2, 3))
        torch.testing.assert_close(found, theirs.train(mode)(x), rtol=1e-5, atol=1e-5)


def test_stages_after_the_last_one_wanted_are_not_built() -> None:
    network = ResNet(3, layers=(1, 1, 1, 1), width=8, out_indices=(0, 2))
    assert [n for n, _ in network.named_children() if n.startswith("layer")] == ["layer1", "layer2", "layer3"]
    assert [f.name for f in network.features] == ["stage1", "stage3"]


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize("norm", ["batch", "frozen_batch", "group", "layer", "instance"])
def test_a_block_whose_last_norm_starts_at_zero_starts_as_its_shortcut(block: str, norm: str) -> None:
    plan = {"type": norm, "groups": 4} if norm == "group" else norm
    network = zoo.build(
        {"backbone": {"type": "resnet_lite", "block": block, "width": 8, "layers": [3, 2], "norm": plan,
                      "zero_init_last": True}},
    ).backbone  # fmt: skip
    x = torch.randn(2, network.layer1[0].conv1.in_channels * (4 if block == "bottleneck" else 1), 6, 6)
    assert torch.equal(network.layer1[1](x), x.relu())
    scales = [m for n, m in network.state_dict().items() if n.endswith("bn1.weight")]
    assert all((scale == 1).all() for scale in scales)


def test_the_shortcut_without_parameters_keeps_every_second_position_and_adds_zeros(randomise) -> None:
    network = randomise(ResNet(1, layers=(1, 1), width=4, stem="3x3", shortcut="padding"))
    assert not [n for n in network.state_dict() if "downsample" in n]
    x = torch.randn(2, 4, 7, 6)
    shortcut = network.layer2[0].downsample(x)
    assert torch.equal(shortcut[:, :4], x[:, :, ::2, ::2])
    assert torch.equal(shortcut[:, 4:], torch.zeros(2, 4, 4, 3))


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("norm", ["batch", "frozen_batch", "group", "layer", "instance", "none"])
@pytest.mark.parametrize("stem", ["7x7", "3x3"])
def test_every_norm_and_stem_works_in_every_dimension(dims: int, norm: str, stem: str) -> None:
    plan = {"type": norm, "groups": 2} if norm == "group" else norm
    size = (33, 40, 36)[:dims]
    spec = {
        "input": {"channels": 2, "size": list(size)},
        "backbone": {"type": "resnet_lite", "width": 4, "layers": [1, 1], "norm": plan, "stem": stem, "dims": dims},
    }
    model = zoo.build(spec).eval()
    for feature, found in zip(model.features, model(torch.randn(1, 2, *size)), strict=True):
        assert found.shape[1:] == (feature.channels, *feature.size)
        assert feature.dims == dims


def test_the_video_stem_keeps_every_frame() -> None:
    network = ResNet(3, (8, 32, 32), layers=(1, 1), width=4, stem="video", dims=3)
    assert [(f.stride, f.size) for f in network.features] == [((1, 2, 2), (8, 16, 16)), ((2, 4, 4), (4, 8, 8))]
    dilated = ResNet(3, layers=(1, 1), width=4, stem="video", dims=3, output_stride=2)
    assert [f.stride for f in dilated.features] == [(1, 2, 2), (1, 2, 2)]
    assert [tuple(m.shape[2:]) for m in dilated(torch.zeros(1, 3, 5, 9, 8))] == [(5, 5, 4), (5, 5, 4)]


@pytest.mark.parametrize(
    ("parameters", "found", "expected"),
    [
        ({"out_indices": [0, 4]}, "out_indices=[0, 4]", "rising numbers from 0 to 3"),
        ({"out_indices": [2, 1]}, "out_indices=[2, 1]", "rising numbers from 0 to 3"),
        ({"out_indices": [1, 1]}, "out_indices=[1, 1]", "rising numbers from 0 to 3"),
        ({"out_indices": []}, "out_indices=[]", "resnet_lite gives 4 maps, of stride 4, 8, 16, 32"),
        ({"output_stride": 12}, "output_stride=12", "one of 4, 8, 16, 32"),
        ({"output_stride": 2}, "output_stride=2", "one of 4, 8, 16, 32"),
        ({"output_stride": 16, "stem": "3x3"}, "output_stride=16", "one of 1, 2, 4, 8"),
        ({"groups": 32, "width_per_group": 4}, "groups=32 and width_per_group=4 with basic blocks", "bottleneck"),
        ({"block": "bottleneck", "width": 8, "width_per_group": 4}, "width_per_group=4 at width=8", "8 or more"),
        ({"stem": "video"}, "the stem 'video' with dims=2", "dims=3, or the stem '7x7' or '3x3'"),
        ({"dims": 1}, "an input of size [64, 64], 2-dimensional", "a length, one number"),
        ({"norm": "none", "zero_init_last": True}, "zero_init_last without a norm", "such as batch"),
        ({"width": 12, "norm": {"type": "group", "groups": 8}}, "12 channels for a group norm of 8", "6, 4, 3, 2, 1"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_built(parameters, found: str, expected: str) -> None:
    spec = {"input": {"channels": 3, "size": [64, 64]}, "backbone": {"type": "resnet_lite", **parameters}}
    with pytest.raises(ShapeError) as raised:
        zoo.build(spec)
    assert raised.value.where == "spec.backbone (resnet_lite) after the input"
    assert found in raised.value.found
    assert expected in raised.value.expected
