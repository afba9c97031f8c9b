"""AnchorBoxHead: at every place some boxes of fixed sizes, each classified and corrected, as in RetinaNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import NonNegativeInt, PositiveInt
from torch import nn

from zoo.errors import ShapeError
from zoo.features import Feature
from zoo.layers.activation import ActivationName
from zoo.layers.anchors import cell_anchors, grid_anchors
from zoo.layers.boxes import best_boxes, from_deltas, matched_by_overlap, to_deltas
from zoo.layers.norm import Norm, NormName, is_none, norm_maker
from zoo.layers.towers import by_anchor, one_stride, one_width, predictor, sizes_of, tower

AnchorSize = Annotated[float, Ge(1), Le(1e5)]
Ratio = Annotated[float, Ge(0.01), Le(100)]
Prior = Annotated[float, Gt(0), Lt(1)]

_SCALES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))


class AnchorBoxHead(nn.Module):
    """Class logits and corrections of boxes, for some anchors at every place of every map.

    Source: Lin et al., "Focal Loss for Dense Object Detection" (RetinaNet), ICCV 2017, section 4. With equal weights
    it computes what torchvision's ``RetinaNetHead`` does, and decodes it as its ``RetinaNet`` does: anchors have whole
    sizes and are centred on the corner of each place.

    Args:
        in_features: what the stage before gives, maps of one width, of images.
        num_classes: how many logits each anchor gets. There is none for the background; torchvision's models, whose
            classes are numbered from 1, have one more than they use.
        anchor_sizes: for each map, the square roots of the areas of its anchors, as many for each map; None for 4, 5
            and 6.3 times its stride, rounded down as torchvision has it.
        ratios: height over width; each place has an anchor of each size and ratio.
        depth: how many convolutions come before the predictions, shared by all maps.
        norm: normalisation after each of them, which has a bias only without one.
        activation: activation after each normalisation.
        prior: the probability of each class that training starts from.

    Attributes:
        outputs: what comes out by name, with the shape after the batch.

    Shape:
        maps ``(N, C, Hᵢ, Wᵢ)`` and the size of the input → a dict, the same in every mode:

        - ``logits`` ``(N, A, num_classes)`` and ``deltas`` ``(N, A, 4)``, for all A anchors, map by map, rows first,
          then columns, then the anchors of a place (sizes within ratios);
        - ``sizes`` ``(N, 1 + maps, 2)`` int64: height and width of the input and of each map, for :meth:`anchors`.

        Targets of an image are ``boxes`` ``(B, 4)``, left, top, right, bottom in pixels of the input, and ``labels``
        ``(B,)`` int64 below ``num_classes``. :meth:`match` says which anchor stands for which of them, :meth:`encode`
        what the deltas should be; the loss of the paper is ``torchvision.ops.sigmoid_focal_loss`` and ``l1_loss``.

    Raises:
        ShapeError: what comes in are no maps of one width, or anchor sizes are for another number of maps.

    >>> head = AnchorBoxHead((Feature("p3", 32, 8), Feature("p4", 32, 16)), num_classes=3)
    >>> found = head((torch.zeros(2, 32, 8, 6), torch.zeros(2, 32, 4, 3)), size=(64, 48))
    >>> {name: tuple(tensor.shape) for name, tensor in found.items()}
    {'logits': (2, 540, 3), 'deltas': (2, 540, 4), 'sizes': (2, 3, 2)}
    >>> [sorted(image) for image in head.decode(found)]
    [['boxes', 'labels', 'scores'], ['boxes', 'labels', 'scores']]
    """

    needs_size = True

    def __init__(
        self,
        in_features: tuple[Feature, ...],
        num_classes: PositiveInt,
        anchor_sizes: Annotated[tuple[Annotated[tuple[AnchorSize, ...], MinLen(1)], ...], MinLen(1)] | None = None,
        ratios: Annotated[tuple[Ratio, ...], MinLen(1)] = (0.5, 1.0, 2.0),
        depth: NonNegativeInt = 4,
        norm: NormName | Norm = "none",
        activation: ActivationName = "relu",
        prior: Prior = 0.01,
    ) -> None:
        super().__init__()
        channels = one_width(in_features)
        if anchor_sizes is None:
            bases = [4 * one_stride(feature) for feature in in_features]
            anchor_sizes = tuple(tuple(float(int(base * scale)) for scale in _SCALES) for base in bases)
        _check_sizes(anchor_sizes, in_features)
        self.anchor_sizes, self.ratios, self.num_classes = anchor_sizes, ratios, num_classes
        count = len(anchor_sizes[0]) * len(ratios)
        make_norm = norm_maker(norm, dims=2)
        bias = is_none(norm)
        self.class_tower = tower(channels, depth, norm=make_norm, activation=activation, bias=bias)
        self.logits = predictor(channels, count * num_classes, prior)
        self.box_tower = tower(channels, depth, norm=make_norm, activation=activation, bias=bias)
        self.deltas = predictor(channels, count * 4)
        self.outputs: dict[str, tuple[int | str, ...]] = {
            "logits": ("anchors", num_classes),
            "deltas": ("anchors", 4),
            "sizes": (1 + len(in_features), 2),
        }

    def forward(self, maps: tuple[torch.Tensor, ...], size: Sequence[int]) -> dict[str, torch.Tensor]:
        logits = [by_anchor(self.logits(self.class_tower(m)), self.num_classes) for m in maps]
        deltas = [by_anchor(self.deltas(self.box_tower(m)), 4) for m in maps]
        return {"logits": torch.cat(logits, 1), "deltas": torch.cat(deltas, 1), "sizes": sizes_of(maps, size)}

    def anchors(self, predictions: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Return the anchors that predictions are for.

        Args:
            predictions: what the head returned.

        Shape:
            for each map ``(A, 4)``: left, top, right, bottom in pixels of the input.
        """
        size, *grids = predictions["sizes"][0].tolist()
        cells = [cell_anchors(sizes, self.ratios) for sizes in self.anchor_sizes]
        return grid_anchors(cells, grids, size, predictions["deltas"])

    def match(
        self, anchors: Sequence[torch.Tensor], boxes: torch.Tensor, low: float = 0.4, high: float = 0.5
    ) -> torch.Tensor:
        """Assign each anchor the box of an image that it stands for.

        Args:
            anchors: those of each map.
            boxes: the boxes of one image, ``(B, 4)``.
            low: an anchor that overlaps no box by this much (intersection over union) is background.
            high: one that overlaps a box by this much stands for it; so does, for each box, the one that overlaps it
                most.

        Shape:
            ``(A,)`` int64: the index of a box, -1 for the background, -2 for anchors that no loss should look at.
        """
        return matched_by_overlap(boxes, torch.cat(tuple(anchors)), low, high)

    def encode(self, anchors: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Return the deltas that would turn each anchor into its box: ``(A, 4)`` and ``(A, 4)`` → ``(A, 4)``."""
        return to_deltas(boxes, anchors)

    @torch.no_grad()
    def decode(
        self,
        predictions: Mapping[str, torch.Tensor],
        *,
        image_sizes: Sequence[Sequence[int]] | None = None,
        score_threshold: float = 0.05,
        candidates: int = 1000,
        nms_threshold: float = 0.5,
        detections: int = 300,
    ) -> list[dict[str, torch.Tensor]]:
        """Turn predictions into boxes.

        Args:
            predictions: what the head returned, or onnxruntime as tensors.
            image_sizes: height and width of each image where the batch is padded; boxes end there.
            score_threshold: the probability of a class has to be above it.
            candidates: how many boxes of each map go into the suppression, the best ones.
            nms_threshold: of two boxes of one class that overlap more than this the better one is kept.
            detections: how many boxes an image has at most.

        Returns:
            For each image, none of an empty batch, ``boxes`` ``(D, 4)``, left, top, right, bottom in pixels of the
            input, ``scores`` ``(D,)`` and ``labels`` ``(D,)`` int64, the best first.

        Raises:
            ShapeError: ``image_sizes`` are of another number of images.
        """
        return best_boxes(
            predictions,
            ("logits",),
            "deltas",
            self.anchors,
            torch.sigmoid,
            from_deltas,
            image_sizes=image_sizes,
            score_threshold=score_threshold,
            candidates=candidates,
            nms_threshold=nms_threshold,
            detections=detections,
        )


def _check_sizes(anchor_sizes: Sequence[Sequence[float]], features: tuple[Feature, ...]) -> None:
    if len(anchor_sizes) != len(features):
        names = ", ".join(f.name for f in features)
        raise ShapeError(
            f"anchor_sizes for {len(anchor_sizes)} maps",
            f"one row for each of the {len(features)} that come in: {names}",
        )
    counts = {len(row) for row in anchor_sizes}
    if len(counts) > 1:
        raise ShapeError(
            f"rows of {' and '.join(map(str, sorted(counts)))} anchor_sizes",
            "as many for each map, for all share the same convolutions",
        )
