"""The point head against torchvision's FCOS: predictions, places, matches, losses and boxes."""

from __future__ import annotations

import pytest
import torch
from detection_support import Given, copied, equal_detections, unprepared
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS

from zoo.errors import ShapeError
from zoo.features import Feature
from zoo.heads.anchor_point import AnchorPointHead

WIDTH = 32
SIZE = (96, 144)  # the last maps do not divide it: places are then not a stride apart
GRIDS = ((12, 18), (6, 9), (3, 5), (2, 3))
FEATURES = tuple(Feature(f"p{i}", WIDTH, 2**i, grid) for i, grid in enumerate(GRIDS, start=3))


@pytest.fixture
def maps() -> tuple[torch.Tensor, ...]:
    return tuple(torch.randn(2, WIDTH, *grid) for grid in GRIDS)


def pair(maps) -> tuple[AnchorPointHead, FCOS]:
    """A head of ours and an FCOS of theirs, on maps that are given, with the same numbers."""
    generator = AnchorGenerator(((8,), (16,), (32,), (64,)), ((1.0,),) * 4)
    theirs = unprepared(FCOS(Given(maps), 5, anchor_generator=generator)).eval()
    for parameter in theirs.head.parameters():
        nn.init.normal_(parameter, std=0.1)  # scores on both sides of the threshold
    ours = AnchorPointHead(FEATURES, 5).eval()
    copied(ours, theirs.head)
    return ours, theirs


def test_predictions_and_boxes_are_torchvisions(maps) -> None:
    ours, theirs = pair(maps)
    expected, found = theirs.head(list(maps)), ours(maps, SIZE)
    assert torch.equal(found["logits"], expected["cls_logits"])
    assert torch.equal(found["distances"], expected["bbox_regression"])
    assert torch.equal(found["centreness"], expected["bbox_ctrness"])
    boxes = theirs(torch.zeros(2, 3, *SIZE))
    assert [len(image["boxes"]) for image in boxes] == [100] * 2
    assert equal_detections(ours.decode(found), boxes)
    theirs.score_thresh, theirs.topk_candidates, theirs.nms_thresh, theirs.detections_per_img = 0.4, 40, 0.3, 20
    boxes = theirs(torch.zeros(2, 3, *SIZE))
    assert [len(image["boxes"]) for image in boxes] == [20] * 2
    stricter = ours.decode(found, score_threshold=0.4, candidates=40, nms_threshold=0.3, detections=20)
    assert equal_detections(stricter, boxes)


def test_places_are_torchvisions(maps) -> None:
    ours, theirs = pair(maps)
    images, _ = theirs.transform(torch.zeros(2, 3, *SIZE))
    expected = theirs.anchor_generator(images, list(maps))[0]
    assert torch.equal(torch.cat(ours.anchors(ours(maps, SIZE))), expected)


def targets() -> list[dict[str, torch.Tensor]]:
    return [
        {
            "boxes": torch.tensor([[10.0, 8, 70, 60], [60, 20, 90, 90], [20, 20, 40, 44], [5, 5, 120, 90]]),
            "labels": torch.tensor([1, 4, 0, 2]),
        },
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]


def test_torchvisions_loss_takes_the_predictions_and_the_matches(maps) -> None:
    ours, theirs = pair(maps)
    theirs.train()
    expected = theirs(torch.zeros(2, 3, *SIZE), targets())
    found, anchors = ours(maps, SIZE), ours.anchors(ours(maps, SIZE))
    matches = [ours.match(anchors, image["boxes"]) for image in targets()]
    assert sorted(set(matches[0].tolist())) == [-1, 0, 1, 2, 3]
    assert (matches[1] == -1).all()
    renamed = {
        "cls_logits": found["logits"],
        "bbox_regression": found["distances"],
        "bbox_ctrness": found["centreness"],
    }
    losses = theirs.head.compute_loss(targets(), renamed, [torch.cat(anchors)] * 2, matches)
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        assert torch.equal(loss, expected[name])


def test_what_is_encoded_is_what_torchvision_encodes_and_decodes_to_the_box(maps) -> None:
    ours, theirs = pair(maps)
    anchors = torch.cat(ours.anchors(ours(maps, SIZE)))
    boxes = torch.tensor([10.0, 8, 70, 60]).expand(len(anchors), 4)
    distances = ours.encode(anchors, boxes)
    assert torch.equal(distances, theirs.box_coder.encode(anchors, boxes))
    logits, centreness = torch.full((1, len(anchors), 5), -20.0), torch.full((1, len(anchors), 1), 20.0)
    logits[:, 100, 3] = 20
    sizes = torch.tensor([SIZE, *GRIDS])[None]
    predictions = {"logits": logits, "distances": distances[None], "centreness": centreness, "sizes": sizes}
    [found] = ours.decode(predictions)
    assert found["labels"].tolist() == [3]
    torch.testing.assert_close(found["boxes"], boxes[:1], rtol=1e-5, atol=1e-4)


def test_distances_are_never_negative_and_training_starts_from_the_prior(maps) -> None:
    found = AnchorPointHead(FEATURES, 5, prior=0.02)(maps, SIZE)
    assert found["distances"].min() == 0
    assert found["logits"].sigmoid().mean().item() == pytest.approx(0.02, rel=0.2)


def test_what_comes_out_is_what_is_declared_in_every_mode(maps) -> None:
    head = AnchorPointHead(FEATURES, 5)
    for mode in (True, False):
        found = head.train(mode)(maps, SIZE)
        assert list(found) == list(head.outputs)
        for name, declared in head.outputs.items():
            assert len(found[name]) == 2
            assert all(
                n in (d, len(torch.cat(head.anchors(found))))
                for n, d in zip(found[name].shape[1:], declared, strict=True)
            )


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ((Feature("fc", 32, size=()),), r"the vector 'fc' \(32\); expected maps with a spatial size"),
        ((Feature("v", 32, 4, dims=3),), r"the map 'v' \(32×\?×\?×\?\); expected maps with height and width"),
        ((Feature("a", 8, 4), Feature("b", 16, 8)), r"maps of 2 widths: 'a' of 8, 'b' of 16; expected one width"),
        ((Feature("a", 20, 4),), "20 channels for a group norm of 32 groups"),
        ((Feature("a", 32, (2, 4)),), r"the map 'a' of stride \(2, 4\); expected the same stride along both axes"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(features, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        AnchorPointHead(features, 3)


def test_a_batch_without_an_image_has_no_boxes() -> None:
    head = AnchorPointHead(FEATURES, 5).eval()
    found = head(tuple(torch.zeros(0, WIDTH, *grid) for grid in GRIDS), SIZE)
    assert head.decode(found) == head.decode(found, image_sizes=[]) == []
    with pytest.raises(ShapeError, match="found image_sizes of 1 images; expected one for each of the 0 of the batch"):
        head.decode(found, image_sizes=[SIZE])
