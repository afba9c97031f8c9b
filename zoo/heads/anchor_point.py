"""AnchorPointHead: every place classified, with the distances to the sides of its box, as in FCOS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from annotated_types import Gt, Lt
from pydantic import NonNegativeInt, PositiveInt
from torch import nn

from zoo.features import Feature
from zoo.layers.activation import ActivationName
from zoo.layers.anchors import grid_anchors
from zoo.layers.boxes import best_boxes, from_distances, matched_by_centre, to_distances
from zoo.layers.norm import Norm, NormName, norm_maker
from zoo.layers.towers import by_anchor, one_stride, one_width, predictor, sizes_of, tower

Prior = Annotated[float, Gt(0), Lt(1)]


class AnchorPointHead(nn.Module):
    """Class logits, distances to the four sides of a box and centre-ness, at every place of every map.

    Source: Tian, Shen, Chen, He, "FCOS: Fully Convolutional One-Stage Object Detection", ICCV 2019, section 3; the
    centre-ness stands beside the distances, as in arXiv 2006.09214. With equal weights it computes what torchvision's
    ``FCOSHead`` does, and decodes it as its ``FCOS`` does. Departure, as there: distances are counted in strides and
    made positive by a ReLU, not by an exponential with a learned scale.

    Args:
        in_features: what the stage before gives, maps of one width, of images.
        num_classes: how many logits each place gets. There is none for the background; torchvision's models, whose
            classes are numbered from 1, have one more than they use.
        depth: how many convolutions come before the predictions, shared by all maps.
        norm: normalisation after each of them.
        activation: activation after each normalisation.
        prior: the probability of each class that training starts from.

    Attributes:
        outputs: what comes out by name, with the shape after the batch.

    Shape:
        maps ``(N, C, Hᵢ, Wᵢ)`` and the size of the input → a dict, the same in every mode:

        - ``logits`` ``(N, A, num_classes)``, ``distances`` ``(N, A, 4)`` (left, top, right, bottom, in strides, never
          below 0) and ``centreness`` ``(N, A, 1)`` (before the sigmoid), for all A places, map by map, rows first;
        - ``sizes`` ``(N, 1 + maps, 2)`` int64: height and width of the input and of each map, for :meth:`anchors`.

        Targets of an image are ``boxes`` ``(B, 4)``, left, top, right, bottom in pixels of the input, and ``labels``
        ``(B,)`` int64 below ``num_classes``. :meth:`match` says which place stands for which of them, :meth:`encode`
        what the distances should be; the losses of the paper are ``torchvision.ops.sigmoid_focal_loss``,
        ``generalized_box_iou_loss`` and ``binary_cross_entropy_with_logits``.

    Raises:
        ShapeError: what comes in are no maps of one width, or the norm does not fit that width.

    >>> head = AnchorPointHead((Feature("p3", 32, 8), Feature("p4", 32, 16)), num_classes=3)
    >>> found = head((torch.zeros(2, 32, 8, 6), torch.zeros(2, 32, 4, 3)), size=(64, 48))
    >>> {name: tuple(tensor.shape) for name, tensor in found.items()}
    {'logits': (2, 60, 3), 'distances': (2, 60, 4), 'centreness': (2, 60, 1), 'sizes': (2, 3, 2)}
    """

    needs_size = True

    def __init__(
        self,
        in_features: tuple[Feature, ...],
        num_classes: PositiveInt,
        depth: NonNegativeInt = 4,
        norm: NormName | Norm = "group",
        activation: ActivationName = "relu",
        prior: Prior = 0.01,
    ) -> None:
        super().__init__()
        channels = one_width(in_features)
        self.strides, self.num_classes = tuple(one_stride(feature) for feature in in_features), num_classes
        make_norm = norm_maker(norm, dims=2)
        self.class_tower = tower(channels, depth, norm=make_norm, activation=activation, bias=True)
        self.logits = predictor(channels, num_classes, prior)
        self.box_tower = tower(channels, depth, norm=make_norm, activation=activation, bias=True)
        self.distances = predictor(channels, 4)
        self.centreness = predictor(channels, 1)
        self.outputs: dict[str, tuple[int | str, ...]] = {
            "logits": ("anchors", num_classes),
            "distances": ("anchors", 4),
            "centreness": ("anchors", 1),
            "sizes": (1 + len(in_features), 2),
        }

    def forward(self, maps: tuple[torch.Tensor, ...], size: Sequence[int]) -> dict[str, torch.Tensor]:
        logits = [by_anchor(self.logits(self.class_tower(m)), self.num_classes) for m in maps]
        beside = [self.box_tower(m) for m in maps]
        distances = [by_anchor(nn.functional.relu(self.distances(m)), 4) for m in beside]
        centreness = [by_anchor(self.centreness(m), 1) for m in beside]
        return {
            "logits": torch.cat(logits, 1),
            "distances": torch.cat(distances, 1),
            "centreness": torch.cat(centreness, 1),
            "sizes": sizes_of(maps, size),
        }

    def anchors(self, predictions: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Return the places that predictions are for, each as a square of its stride around it.

        Args:
            predictions: what the head returned.

        Shape:
            for each map ``(A, 4)``: left, top, right, bottom in pixels of the input.
        """
        size, *grids = predictions["sizes"][0].tolist()
        cells = [torch.tensor([[-stride, -stride, stride, stride]]) / 2 for stride in self.strides]
        return grid_anchors(cells, grids, size, predictions["distances"])

    def match(self, anchors: Sequence[torch.Tensor], boxes: torch.Tensor, radius: float = 1.5) -> torch.Tensor:
        """Assign each place the box of an image that it stands for: the smallest that is of its map's scale around it.

        Args:
            anchors: those of each map.
            boxes: the boxes of one image, ``(B, 4)``.
            radius: how many strides from the centre of a box a place may be.

        Shape:
            ``(A,)`` int64: the index of a box, -1 for the background.
        """
        return matched_by_centre(boxes, anchors, radius)

    def encode(self, anchors: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Return the distances of each place to the sides of its box: ``(A, 4)`` and ``(A, 4)`` → ``(A, 4)``."""
        return to_distances(boxes, anchors)

    @torch.no_grad()
    def decode(
        self,
        predictions: Mapping[str, torch.Tensor],
        *,
        image_sizes: Sequence[Sequence[int]] | None = None,
        score_threshold: float = 0.2,
        candidates: int = 1000,
        nms_threshold: float = 0.6,
        detections: int = 100,
    ) -> list[dict[str, torch.Tensor]]:
        """Turn predictions into boxes; a score is the root of the probability of the class times the centre-ness.

        Args:
            predictions: what the head returned, or onnxruntime as tensors.
            image_sizes: height and width of each image where the batch is padded; boxes end there.
            score_threshold: a score has to be above it.
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
            ("logits", "centreness"),
            "distances",
            self.anchors,
            _scores,
            from_distances,
            image_sizes=image_sizes,
            score_threshold=score_threshold,
            candidates=candidates,
            nms_threshold=nms_threshold,
            detections=detections,
        )


def _scores(logits: torch.Tensor, centreness: torch.Tensor) -> torch.Tensor:
    return torch.sqrt(logits.sigmoid() * centreness.sigmoid())
