"""Detectors: RetinaNet and FCOS on ResNet-50, as torchvision has them, and a small one that a CPU trains."""

_RESNET50 = {
    "type": "resnet_lite",
    "block": "bottleneck",
    "layers": [3, 4, 6, 3],
    "out_indices": [1, 2, 3],  # stage 1 would have most of all anchors
}
_ANCHORS = [[32, 40, 50], [64, 80, 101], [128, 161, 203], [256, 322, 406], [512, 645, 812]]


def _detector(head: dict[str, object], extra_from: str = "p5") -> dict[str, object]:
    return {
        "input": {"channels": 3, "size": None},
        "backbone": _RESNET50,
        "neck": {"type": "fpn", "channels": 256, "extra": "p6p7", "extra_from": extra_from},
        "head": {"num_classes": 91, **head},
    }


RETINANET_RESNET50_FPN = _detector({"type": "anchor_box", "anchor_sizes": _ANCHORS})
RETINANET_RESNET50_FPN_V2 = _detector({"type": "anchor_box", "anchor_sizes": _ANCHORS, "norm": "group"}, "c5")
FCOS_RESNET50_FPN = _detector({"type": "anchor_point"})

TINY_DET = {
    "input": {"channels": 1, "size": [64, 64]},
    "backbone": {"type": "resnet_lite", "layers": [1, 1, 1], "width": 32},
    "neck": {"type": "fpn", "channels": 32},
    "head": {"type": "anchor_point", "num_classes": 10, "depth": 1},
}
