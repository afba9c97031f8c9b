"""The anchor head against torchvision's RetinaNet: predictions, anchors, matches, losses and boxes."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from detection_support import Given, copied, equal_detections, unprepared
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNet, RetinaNetHead

import zoo
from zoo.errors import ShapeError, ZooError
from zoo.features import Feature
from zoo.heads.anchor_box import AnchorBoxHead
from zoo.layers.norm import Norm

WIDTH = 32
SIZE = (96, 144)  # the last maps do not divide it: anchors are then not a stride apart
GRIDS = ((12, 18), (6, 9), (3, 5), (2, 3))
FEATURES = tuple(Feature(f"p{i}", WIDTH, 2**i, grid) for i, grid in enumerate(GRIDS, start=3))
ANCHORS = tuple((x, int(x * 2 ** (1.0 / 3)), int(x * 2 ** (2.0 / 3))) for x in [32, 64, 128, 256])


@pytest.fixture
def maps() -> tuple[torch.Tensor, ...]:
    return tuple(torch.randn(2, WIDTH, *grid) for grid in GRIDS)


def pair(maps, *, norm: bool = False) -> tuple[AnchorBoxHead, RetinaNet]:
    """A head of ours and a RetinaNet of theirs, on maps that are given, with the same numbers."""
    generator = AnchorGenerator(ANCHORS, ((0.5, 1.0, 2.0),) * len(ANCHORS))
    head = RetinaNetHead(WIDTH, 9, 5, partial(nn.GroupNorm, 8) if norm else None)
    theirs = unprepared(RetinaNet(Given(maps), 5, anchor_generator=generator, head=head)).eval()
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.05)  # scores on both sides of the threshold
    ours = AnchorBoxHead(FEATURES, 5, norm=Norm("group", groups=8) if norm else "none").eval()
    copied(ours, head)
    return ours, theirs


@pytest.mark.parametrize("norm", [False, True])
def test_predictions_and_boxes_are_torchvisions(maps, norm: bool) -> None:
    ours, theirs = pair(maps, norm=norm)
    expected, found = theirs.head(list(maps)), ours(maps, SIZE)
    assert torch.equal(found["logits"], expected["cls_logits"])
    assert torch.equal(found["deltas"], expected["bbox_regression"])
    boxes = theirs(torch.zeros(2, 3, *SIZE))
    assert [len(image["boxes"]) for image in boxes] == [300] * 2
    assert equal_detections(ours.decode(found), boxes)
    theirs.score_thresh, theirs.topk_candidates, theirs.nms_thresh, theirs.detections_per_img = 0.5, 40, 0.3, 20
    boxes = theirs(torch.zeros(2, 3, *SIZE))
    assert [len(image["boxes"]) for image in boxes] == [20] * 2
    stricter = ours.decode(found, score_threshold=0.5, candidates=40, nms_threshold=0.3, detections=20)
    assert equal_detections(stricter, boxes)


def test_anchors_are_torchvisions(maps) -> None:
    ours, theirs = pair(maps)
    images, _ = theirs.transform(torch.zeros(2, 3, *SIZE))
    expected = theirs.anchor_generator(images, list(maps))[0]
    assert torch.equal(torch.cat(ours.anchors(ours(maps, SIZE))), expected)


def targets() -> list[dict[str, torch.Tensor]]:
    return [
        {"boxes": torch.tensor([[10.0, 8, 70, 60], [60, 20, 90, 90]]), "labels": torch.tensor([1, 4])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]


def test_torchvisions_loss_takes_the_predictions_and_the_matches(maps) -> None:
    ours, theirs = pair(maps)
    theirs.train()
    expected = theirs(torch.zeros(2, 3, *SIZE), targets())
    found, anchors = ours(maps, SIZE), ours.anchors(ours(maps, SIZE))
    matches = [ours.match(anchors, image["boxes"]) for image in targets()]
    assert all((matches[0] == value).any() for value in (-2, -1, 0, 1))
    assert (matches[1] == -1).all()
    renamed = {"cls_logits": found["logits"], "bbox_regression": found["deltas"]}
    losses = theirs.head.compute_loss(targets(), renamed, [torch.cat(anchors)] * 2, matches)
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        assert torch.equal(loss, expected[name])


def test_what_is_encoded_is_what_torchvision_encodes_and_decodes_to_the_box(maps) -> None:
    ours, theirs = pair(maps)
    anchors = torch.cat(ours.anchors(ours(maps, SIZE)))
    boxes = torch.tensor([10.0, 8, 70, 60]).expand(len(anchors), 4)
    deltas = ours.encode(anchors, boxes)
    assert torch.equal(deltas, theirs.box_coder.encode_single(boxes, anchors))
    logits = torch.full((1, len(anchors), 5), -20.0)
    logits[:, 100, 3] = 20
    sizes = torch.tensor([SIZE, *GRIDS])[None]
    [found] = ours.decode({"logits": logits, "deltas": deltas[None], "sizes": sizes})
    assert found["labels"].tolist() == [3]
    torch.testing.assert_close(found["boxes"], boxes[:1], rtol=1e-5, atol=1e-4)


def test_boxes_end_where_the_image_of_a_padded_batch_does(maps) -> None:
    ours, _ = pair(maps)
    first, second = ours.decode(ours(maps, SIZE), image_sizes=[(50, 60), SIZE], score_threshold=0.0)
    assert first["boxes"].amax(0).tolist() == [60, 50, 60, 50]
    assert second["boxes"][:, 2].max() > 60
    with pytest.raises(ShapeError, match="decode: found image_sizes of 1 images; expected one for each of the 2"):
        ours.decode(ours(maps, SIZE), image_sizes=[SIZE])


def test_training_starts_from_the_prior(maps) -> None:
    head = AnchorBoxHead(FEATURES, 5, prior=0.02)
    assert head(maps, SIZE)["logits"].sigmoid().mean().item() == pytest.approx(0.02, rel=0.2)
    assert head.deltas.weight.std().item() == pytest.approx(0.01, rel=0.05)


def test_what_comes_out_is_what_is_declared_in_every_mode(maps) -> None:
    head = AnchorBoxHead(FEATURES, 5)
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
    ("features", "parameters", "message"),
    [
        ((Feature("fc", 8, size=()),), {}, r"the vector 'fc' \(8\); expected maps with a spatial size"),
        ((Feature("s", 8, 4, dims=1),), {}, r"the map 's' \(8×\?\); expected maps with height and width"),
        (
            (Feature("a", 8, 4), Feature("b", 16, 8)),
            {},
            r"maps of 2 widths: 'a' of 8, 'b' of 16; expected one width.*'fpn' or the bottleneck 'conv1x1'",
        ),
        (
            FEATURES,
            {"anchor_sizes": ((32.0,),) * 5},
            "anchor_sizes for 5 maps; expected one row for each of the 4 that come in: p3, p4, p5, p6",
        ),
        (
            FEATURES[:2],
            {"anchor_sizes": ((32.0,), (32.0, 64.0))},
            "rows of 1 and 2 anchor_sizes; expected as many for each map",
        ),
        ((Feature("a", 8, (2, 4)),), {}, r"the map 'a' of stride \(2, 4\); expected the same stride along both axes"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(features, parameters, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        AnchorBoxHead(features, 3, **parameters)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"head": {"anchor_sizes": [[32], [64], [128], [256]]}},
            r"spec.head \(anchor_box\) after neck fpn: found anchor_sizes for 4 maps; expected one row for each of the "
            r"5 that come in: stage2, stage3, stage4, p6, p7",
        ),
        (
            {"neck": None},
            r"spec.head \(anchor_box\) after backbone resnet_lite: found maps of 3 widths: 'stage2' of 512, 'stage3' "
            r"of 1024, 'stage4' of 2048; expected one width",
        ),
        (
            {"neck": "gap"},
            r"spec.head \(anchor_box\) after neck gap: found the vector 'stage4' \(2048\); expected maps",
        ),
        (
            {"backbone": {"dims": 3}},
            r"spec.head \(anchor_box\) .*found the map .*; expected maps with height and width",
        ),
        (
            {"head": {"anchor_sizes": [[0]]}},
            r"spec.head.anchor_sizes\[0\]\[0\]: found 0 \(int\); expected greater than or equal to 1",
        ),
        ({"head": {"ratios": []}}, r"spec.head.ratios: .*expected"),
    ],
)
def test_a_spec_that_does_not_fit_is_refused_with_the_place(changes, message: str) -> None:
    with torch.device("meta"), pytest.raises(ZooError, match=message):
        zoo.build("retinanet_resnet50_fpn", **changes)


def test_a_batch_without_an_image_has_no_boxes() -> None:
    head = AnchorBoxHead(FEATURES, 5).eval()
    found = head(tuple(torch.zeros(0, WIDTH, *grid) for grid in GRIDS), SIZE)
    assert head.decode(found) == head.decode(found, image_sizes=[]) == []
    with pytest.raises(ShapeError, match="found image_sizes of 1 images; expected one for each of the 0 of the batch"):
        head.decode(found, image_sizes=[SIZE])
