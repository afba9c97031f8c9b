"""Boxes: how predicted numbers become boxes and back, and which of many boxes are kept.

Boxes are left, top, right, bottom in pixels of the input. torchvision's operators find overlaps; they are imported on
first use, so that a model without boxes needs none of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch

from zoo.errors import ShapeError

_LARGEST_GROWTH = math.log(1000.0 / 16)
"""The exponent above which a predicted width or height is cut off, as in torchvision and Detectron."""

BACKGROUND, IGNORED = -1, -2
"""What matching gives to an anchor that stands for no box, and to one that is to be left out of the loss."""


def to_deltas(boxes: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """Encode boxes relative to anchors: the shift of the centre over the anchor's size, the logarithm of the growth.

    Source: Girshick et al., "Rich feature hierarchies", CVPR 2014, appendix C.

    Shape:
        boxes ``(A, 4)`` and anchors ``(A, 4)`` → ``(A, 4)``: x, y, width, height.
    """
    x, y, w, h = _centred(boxes)
    anchor_x, anchor_y, anchor_w, anchor_h = _centred(anchors)
    shifts = ((x - anchor_x) / anchor_w, (y - anchor_y) / anchor_h)
    return torch.stack((*shifts, torch.log(w / anchor_w), torch.log(h / anchor_h)), dim=1)


def from_deltas(deltas: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """Decode what :func:`to_deltas` encodes; no box is more than 62.5 times as wide or high as its anchor."""
    x, y, w, h = _centred(anchors.to(deltas.dtype))
    dx, dy, dw, dh = deltas.unbind(1)
    x, y = dx * w + x, dy * h + y
    half_w = 0.5 * (torch.exp(dw.clamp(max=_LARGEST_GROWTH)) * w)
    half_h = 0.5 * (torch.exp(dh.clamp(max=_LARGEST_GROWTH)) * h)
    return torch.stack((x - half_w, y - half_h, x + half_w, y + half_h), dim=1)


def to_distances(boxes: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """Encode boxes as the distances from the centre of an anchor to their four sides, over the anchor's size.

    Source: Tian et al., "FCOS", ICCV 2019, equation 1.

    Shape:
        boxes ``(A, 4)`` and anchors ``(A, 4)`` → ``(A, 4)``: left, top, right, bottom.
    """
    x, y, size = _points(anchors)
    sides = (x - boxes[:, 0], y - boxes[:, 1], boxes[:, 2] - x, boxes[:, 3] - y)
    return torch.stack(sides, dim=1) / size


def from_distances(distances: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """Decode what :func:`to_distances` encodes."""
    x, y, size = _points(anchors.to(distances.dtype))
    left, top, right, bottom = (distances * size).unbind(1)
    return torch.stack((x - left, y - top, x + right, y + bottom), dim=1)


def matched_by_overlap(boxes: torch.Tensor, anchors: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Assign each anchor the box that it overlaps most.

    Source: Lin et al., "Focal Loss", ICCV 2017, section 4; as in torchvision, the anchors that overlap a box more than
    all others do stand for the best box of theirs, however small the overlap.

    Args:
        boxes: those that are there, ``(B, 4)``.
        anchors: ``(A, 4)``.
        low: an anchor whose largest overlap (intersection over union) is below stands for no box.
        high: from here on it stands for the box; between both it is to be ignored.

    Shape:
        ``(A,)`` int64: the index of a box, :data:`BACKGROUND` or :data:`IGNORED`.
    """
    from torchvision.ops import box_iou

    if not len(boxes):
        return torch.full((len(anchors),), BACKGROUND, device=anchors.device)
    overlap = box_iou(boxes, anchors)
    largest, best = overlap.max(dim=0)
    found = best.masked_fill(largest < high, IGNORED).masked_fill(largest < low, BACKGROUND)
    wanted = ((overlap == overlap.amax(dim=1, keepdim=True)) & (overlap > 0)).any(dim=0)
    return torch.where(wanted, best, found)


def matched_by_centre(boxes: torch.Tensor, anchors: Sequence[torch.Tensor], radius: float) -> torch.Tensor:
    """Assign each anchor the smallest box around it that is of its map's scale and has its centre near.

    Source: Tian et al., "FCOS", ICCV 2019, section 3.2; centre sampling as in arXiv 2006.09214. As in torchvision, a
    map takes boxes whose farthest side is 4 to 8 strides away, the first also smaller ones, the last also larger ones.

    Args:
        boxes: those that are there, ``(B, 4)``.
        anchors: of each map, from fine to coarse, squares of its stride ``(A, 4)``.
        radius: how many strides the centre of a box may be away, along each axis.

    Shape:
        ``(A,)`` int64: the index of a box, or :data:`BACKGROUND`.
    """
    every = torch.cat(tuple(anchors))
    if not len(boxes):
        return torch.full((len(every),), BACKGROUND, device=every.device)
    places, centres = (every[:, :2] + every[:, 2:]) / 2, (boxes[:, :2] + boxes[:, 2:]) / 2
    strides = every[:, 2:3] - every[:, 0:1]
    near = (places[:, None] - centres[None]).abs().amax(2) < radius * strides
    x, y = places[:, :1], places[:, 1:]
    left, top, right, bottom = boxes[None].unbind(2)
    sides = torch.stack((x - left, y - top, right - x, bottom - y), dim=2)
    least, most = 4 * strides, 8 * strides
    least[: len(anchors[0])] = 0
    most[len(every) - len(anchors[-1]) :] = math.inf
    farthest = sides.amax(2)
    fits = near & (sides.amin(2) > 0) & (farthest > least) & (farthest < most)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    smallest, best = areas.expand(len(every), -1).masked_fill(~fits, math.inf).min(1)
    return best.masked_fill(smallest.isinf(), BACKGROUND)


def best_boxes(
    predictions: Mapping[str, torch.Tensor],
    rated: Sequence[str],
    encoded: str,
    anchors_of: Callable[[Mapping[str, torch.Tensor]], Sequence[torch.Tensor]],
    to_scores: Callable[..., torch.Tensor],
    to_boxes: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    image_sizes: Sequence[Sequence[int]] | None,
    score_threshold: float,
    candidates: int,
    nms_threshold: float,
    detections: int,
) -> list[dict[str, torch.Tensor]]:
    """Keep the best boxes of each image: a threshold, the best of each map, non-maximum suppression by class.

    Args:
        predictions: what a head returned.
        rated: what of it scores are made of, each ``(N, A, …)``.
        encoded: what of it is the box of each anchor, ``(N, A, 4)``.
        anchors_of: gives the anchors of each map; it is not asked for a batch without an image, which has no size.
        to_scores: makes the scores ``(A, K)`` of some anchors of one image. It is asked map by map, as in torchvision,
            for a root or an exponential may round differently in another place of a tensor.
        to_boxes: decodes boxes, from numbers and anchors.
        image_sizes: height and width of each image, at which boxes are cut off; None for those of the input.
        score_threshold: a score has to be above it.
        candidates: how many of each map go into the suppression.
        nms_threshold: of two boxes of one class that overlap more than this the better one is kept.
        detections: how many are kept in the end.

    Returns:
        For each image ``boxes`` ``(D, 4)``, ``scores`` ``(D,)`` and ``labels`` ``(D,)`` int64, the best first.

    Raises:
        ShapeError: there are sizes for another number of images.
    """
    from torchvision.ops import batched_nms, clip_boxes_to_image

    images = len(predictions[encoded])
    sizes = predictions["sizes"][:, 0].tolist() if image_sizes is None else image_sizes
    if len(sizes) != images:
        raise ShapeError(f"image_sizes of {len(sizes)} images", f"one for each of the {images} of the batch", "decode")
    anchors = anchors_of(predictions) if images else ()
    lengths = [len(level) for level in anchors]
    results = []
    for index, size in enumerate(sizes):
        found: list[tuple[torch.Tensor, ...]] = []
        levels = zip(*(torch.split(predictions[name][index], lengths) for name in (encoded, *rated)), strict=True)
        for level, (codes, *parts) in zip(anchors, levels, strict=True):
            scores = to_scores(*parts)
            above = scores.flatten() > score_threshold
            places = above.nonzero().squeeze(1)
            top, order = scores.flatten()[above].topk(min(candidates, len(places)))
            rows = places[order] // scores.shape[1]
            boxes = clip_boxes_to_image(to_boxes(codes[rows], level[rows]), (int(size[0]), int(size[1])))
            found.append((boxes, top, places[order] % scores.shape[1]))
        boxes, top, labels = (torch.cat(each) for each in zip(*found, strict=True))
        best = batched_nms(boxes, top, labels, nms_threshold)[:detections]
        results.append({"boxes": boxes[best], "scores": top[best], "labels": labels[best]})
    return results


def _centred(boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    left, top, right, bottom = boxes.unbind(1)
    width, height = right - left, bottom - top
    return left + 0.5 * width, top + 0.5 * height, width, height


def _points(anchors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    left, top, right, bottom = anchors.unbind(1)
    width, height = right - left, bottom - top
    return 0.5 * (left + right), 0.5 * (top + bottom), torch.stack((width, height, width, height), dim=1)
