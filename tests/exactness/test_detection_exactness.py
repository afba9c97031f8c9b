"""RetinaNet and FCOS compute what torchvision's do: raw predictions, decoded boxes, scores and labels, and losses."""

from __future__ import annotations

import pytest
import torch
import torchvision
from detection_support import equal_detections, unprepared
from torch import nn

import zoo
from zoo import kinds
from zoo.weights.parity import compare

NAMES = ["retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn"]
THEIRS = {
    "logits": "cls_logits",
    "deltas": "bbox_regression",
    "distances": "bbox_regression",
    "centreness": "bbox_ctrness",
}
SIZES = [(96, 160), (128, 64)]


@pytest.fixture(params=NAMES)
def both(request, randomise) -> tuple[zoo.Model, nn.Module]:
    """A model of ours and torchvision's without its preparation of images, with the same random numbers."""
    theirs = torchvision.models.get_model(request.param, weights=None, weights_backbone=None)
    unprepared(randomise(theirs))
    with torch.device("meta"):
        ours = zoo.build(request.param)
    state = kinds.keymaps.get("torchvision").to_ours(theirs.state_dict(), request.param)
    ours.load_state_dict({key: tensor.clone() for key, tensor in state.items()}, assign=True)
    return ours, theirs


def test_they_compute_the_same_predictions_and_boxes(both: tuple[zoo.Model, nn.Module]) -> None:
    ours, theirs = (model.eval() for model in both)
    for size in SIZES:
        x = torch.randn(2, 3, *size)
        with torch.inference_mode():
            raw = theirs.head(list(theirs.backbone(x).values()))
            boxes = theirs(x)
            found = ours(x)
        assert raw["cls_logits"].std() > 1e-3  # a network that answers the same to everything would prove nothing
        for name, tensor in found.items():
            if name in THEIRS:
                assert torch.equal(tensor, raw[THEIRS[name]])
        assert min(len(image["boxes"]) for image in boxes) > 20
        assert equal_detections(ours.head.decode(found), boxes)


def test_their_losses_of_what_ours_predicts_are_the_same(both: tuple[zoo.Model, nn.Module]) -> None:
    ours, theirs = (model.train() for model in both)
    x = torch.randn(2, 3, *SIZES[0])
    targets = [
        {"boxes": torch.tensor([[10.0, 8, 90, 70], [100, 20, 130, 60]]), "labels": torch.tensor([1, 17])},
        {"boxes": torch.tensor([[5.0, 5, 150, 90]]), "labels": torch.tensor([90])},
    ]
    with torch.no_grad():
        expected = theirs(x, targets)
        found = ours(x)
        anchors = ours.head.anchors(found)
        matches = [ours.head.match(anchors, each["boxes"]) for each in targets]
        outputs = {THEIRS[name]: tensor for name, tensor in found.items() if name in THEIRS}
        losses = theirs.head.compute_loss(targets, outputs, [torch.cat(anchors)] * 2, matches)
    assert all((match >= 0).any() for match in matches)
    assert {name: loss.item() for name, loss in losses.items()} == {n: loss.item() for n, loss in expected.items()}
    # The running statistics, which the step has changed, too.
    assert compare(kinds.keymaps.get("torchvision").to_theirs(ours), theirs.state_dict()).holds
