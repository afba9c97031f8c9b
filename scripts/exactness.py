"""The models of torchvision that a spec can say, each beside torchvision's own with the same random numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

import zoo
from zoo import kinds

Output = tuple[str, torch.Tensor, torch.Tensor]
"""What an output is called, ours, and theirs."""


@dataclass(frozen=True)
class Row:
    """One model of ours and the one of torchvision that it has to equal.

    Attributes:
        name: ours, in the registry.
        shape: of an input, the batch first.
        outputs: runs both on an input and gives every output of the two.
        theirs: torchvision's name, where it is another one.
        options: what torchvision's constructor takes besides.
    """

    name: str
    shape: tuple[int, ...]
    outputs: Callable[[Any, Any, torch.Tensor], Iterator[Output]]
    theirs: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


def classification(ours: nn.Module, theirs: nn.Module, x: torch.Tensor) -> Iterator[Output]:
    """Give the logits of two classifiers."""
    with torch.inference_mode():
        yield "logits", ours.eval()(x), theirs.eval()(x)


def segmentation(ours: Any, theirs: nn.Module, x: torch.Tensor) -> Iterator[Output]:
    """Give the logits of two segmenters, and in training mode those of the auxiliary head too, if they have one."""
    with torch.no_grad():
        yield "logits", ours.eval()(x), theirs.eval()(x)["out"]
        if ours.aux is not None:
            found, expected = (_dropped_alike(model.train(), x) for model in (ours, theirs))
            yield "logits in training", found.out, expected["out"]
            yield "auxiliary logits", found.aux["stage3"], expected["aux"]


def detection(ours: Any, theirs: Any, x: torch.Tensor) -> Iterator[Output]:
    """Give the raw predictions of two detectors, and the boxes, scores and labels after suppression."""
    with torch.inference_mode():
        found = ours.eval()(x)
        expected = theirs.eval().head(list(theirs.backbone(x).values()))
        for name, of_theirs in _PREDICTIONS.items():
            if name in found:
                yield name, found[name], expected[of_theirs]
        decoded = ours.head.decode(found)
        for image, (mine, own) in enumerate(zip(decoded, unprepared(theirs)(x), strict=True)):
            for name in ("boxes", "scores", "labels"):
                yield f"{name} {image}", mine[name], own[name]


_PREDICTIONS = {
    "logits": "cls_logits",
    "deltas": "bbox_regression",
    "distances": "bbox_regression",
    "centreness": "bbox_ctrness",
}

_IMAGES = (2, 3, 224, 224)
_NAMES = [f"resnet{depth}" for depth in (18, 34, 50, 101, 152)]
_NAMES += ["resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"]
_NAMES += [f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")]
_AUX = {"aux_loss": True}

ROWS = (
    *(Row(name, _IMAGES, classification) for name in _NAMES),
    Row("r3d_18", (1, 3, 16, 112, 112), classification),
    Row("fcn_resnet50", (1, 3, 160, 224), segmentation),
    Row("fcn_resnet50_aux", (2, 3, 160, 224), segmentation, "fcn_resnet50", _AUX),
    Row("deeplabv3_resnet50", (1, 3, 160, 224), segmentation),
    Row("deeplabv3_resnet50_aux", (2, 3, 160, 224), segmentation, "deeplabv3_resnet50", _AUX),
    Row("retinanet_resnet50_fpn", (2, 3, 160, 224), detection),
    Row("retinanet_resnet50_fpn_v2", (2, 3, 160, 224), detection),
    Row("fcos_resnet50_fpn", (2, 3, 160, 224), detection),
)
"""Every model that both have."""


def randomise(module: nn.Module) -> nn.Module:
    """Fill every parameter and buffer, BatchNorm statistics included, with random numbers of a sane size."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0)
            elif tensor.is_floating_point():
                fan_in = tensor[0].numel() if tensor.dim() > 1 else 16
                tensor.normal_(0.0, fan_in**-0.5)
            else:
                tensor.random_(0, 1000)
    return module


def pair(row: Row) -> tuple[zoo.Model, nn.Module]:
    """Return a model of ours and torchvision's, with the same random numbers."""
    import torchvision

    options = dict(row.options)
    if row.outputs is not classification:
        options["weights_backbone"] = None
    theirs = randomise(torchvision.models.get_model(row.theirs or row.name, weights=None, **options))
    with torch.device("meta"):
        ours = zoo.build(row.name)
    state = kinds.keymaps.get("torchvision").to_ours(theirs.state_dict(), row.name)
    ours.load_state_dict({key: tensor.clone() for key, tensor in state.items()}, assign=True)
    return ours, theirs


def unprepared(detector: Any) -> Any:
    """Take the resizing and normalising out of a detector of torchvision's: it sees the input that ours sees."""
    detector.transform = _AsItIs()
    return detector


class _AsItIs(nn.Module):
    """In the place of torchvision's transform: batches go in and boxes come out as they are."""

    def forward(self, images: Any, targets: Any = None) -> Any:
        from torchvision.models.detection.image_list import ImageList

        return ImageList(torch.stack(list(images)), [tuple(image.shape[-2:]) for image in images]), targets

    def postprocess(self, result: Any, *_sizes: Any) -> Any:
        return result


def _dropped_alike(model: nn.Module, x: torch.Tensor) -> Any:
    torch.manual_seed(1)  # the same dropout
    return model(x)


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest difference, relative to the largest number that is expected; infinity for another shape."""
    if found.shape != expected.shape:
        return float("inf")
    if torch.equal(found, expected):
        return 0.0
    return ((found - expected).abs().max() / expected.abs().max()).item()
