"""The keymap of torchvision's detectors against torchvision itself."""

from __future__ import annotations

import pytest
import torch
import torchvision

import zoo
from zoo import kinds, testing
from zoo.weights.parity import compare

NAMES = ["retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn"]


def theirs(name: str) -> torch.nn.Module:
    return torchvision.models.get_model(name, weights=None, weights_backbone=None)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_and_shape_is_theirs_in_their_order(name: str) -> None:
    with torch.device("meta"):
        state, ours = theirs(name).state_dict(), zoo.build(name)
    keymap = kinds.keymaps.get("torchvision")
    assert keymap.plan(state, name).problems == ()
    back = keymap.to_theirs(ours)
    assert [(n, t.shape, t.dtype) for n, t in back.items()] == [(n, t.shape, t.dtype) for n, t in state.items()]


@pytest.mark.parametrize("name", NAMES)
def test_it_keeps_the_contract_with_their_model_beside_it(name: str) -> None:
    with torch.device("meta"):
        model = theirs(name)
    report = testing.check_keymap("torchvision", name, model)
    assert (report.ok, report.ran) == (True, 5), report


@pytest.mark.parametrize("name", [NAMES[0], NAMES[2]])
def test_tensors_go_there_and_back(name: str, randomise) -> None:
    state = randomise(theirs(name)).state_dict()
    keymap = kinds.keymaps.get("torchvision")
    with torch.device("meta"):
        ours = zoo.build(name)
    ours.load_state_dict(keymap.to_ours(state, name), assign=True)
    back = keymap.to_theirs(ours)
    assert list(back) == list(state)
    assert compare(back, state).holds


@pytest.mark.parametrize("name", NAMES)
def test_old_names_are_those_that_their_loader_still_takes(name: str) -> None:
    model = theirs(name)
    old = kinds.keymaps.get("torchvision_old")
    with torch.device("meta"):
        ours = zoo.build(name)
    state = {n: t.clone() for n, t in model.state_dict().items()}
    ours.load_state_dict(kinds.keymaps.get("torchvision").to_ours(state, name), assign=True)
    renamed = old.to_theirs(ours)
    assert "backbone.fpn.inner_blocks.2.bias" in renamed
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    model.load_state_dict(dict(renamed), strict=True)
    assert compare(model.state_dict(), state).holds
    assert compare(old.to_ours(renamed, name), ours.state_dict()).holds


def test_a_file_of_theirs_with_frozen_norms_is_loaded(randomise) -> None:
    norm = torchvision.ops.misc.FrozenBatchNorm2d
    backbone = torchvision.models.detection.backbone_utils.resnet_fpn_backbone(
        backbone_name="resnet18",
        weights=None,
        norm_layer=norm,
        returned_layers=[2, 3, 4],
        extra_blocks=torchvision.ops.feature_pyramid_network.LastLevelP6P7(256, 256),
    )
    model = randomise(torchvision.models.detection.RetinaNet(backbone, 7)).eval()
    spec = {
        "input": {"channels": 3, "size": None},
        "backbone": {
            "type": "resnet_lite",
            "out_indices": [1, 2, 3],
            "norm": {"type": "frozen_batch", "eps": backbone.body.bn1.eps},
        },
        "neck": {"type": "fpn", "extra": "p6p7"},
        "head": {"type": "anchor_box", "num_classes": 7},
    }
    ours = zoo.build(spec).eval()
    ours.load_state_dict(kinds.keymaps.get("torchvision").to_ours(model.state_dict(), spec))
    x = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        found, expected = ours(x), model.head(list(model.backbone(x).values()))
    # Theirs folds the statistics into one scale before it multiplies: the roundings are others.
    for mine, own in (("logits", "cls_logits"), ("deltas", "bbox_regression")):
        assert ((found[mine] - expected[own]).abs().max() / expected[own].abs().max()).item() <= 1e-5
