"""Segmenters: FCN and DeepLabv3 on a ResNet-50 as torchvision has them, and a small one."""

_AUX = {"stage3": {"head": {"type": "fcn", "num_classes": 21}, "weight": 0.5}}


def _segmenter(head: str) -> dict[str, object]:
    backbone = {"type": "resnet_lite", "block": "bottleneck", "layers": [3, 4, 6, 3], "output_stride": 8}
    return {"input": {"channels": 3}, "backbone": backbone, "head": {"type": head, "num_classes": 21}}


FCN_RESNET50 = _segmenter("fcn")
FCN_RESNET50_AUX = {**FCN_RESNET50, "aux": _AUX}
DEEPLABV3_RESNET50 = _segmenter("deeplab")
DEEPLABV3_RESNET50_AUX = {**DEEPLABV3_RESNET50, "aux": _AUX}

TINY_SEG = {
    "input": {"channels": 1},
    "backbone": {"type": "resnet_lite", "layers": [1, 1, 1], "width": 16, "stem": "3x3", "output_stride": 2},
    "head": {"type": "fcn", "num_classes": 11, "channels": 32},
}
