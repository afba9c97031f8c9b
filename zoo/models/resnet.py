"""ResNets: those of He et al. 2016, table 1, and a small one for 32×32 grey images."""

_IMAGENET = {"input": {"channels": 3, "size": [224, 224]}, "neck": {"type": "gap"}}
_HEAD = {"type": "linear", "num_classes": 1000}


def _resnet(block: str, *layers: int) -> dict[str, object]:
    return {**_IMAGENET, "backbone": {"type": "resnet_lite", "block": block, "layers": list(layers)}, "head": _HEAD}


RESNET18 = _resnet("basic", 2, 2, 2, 2)
RESNET34 = _resnet("basic", 3, 4, 6, 3)
RESNET50 = _resnet("bottleneck", 3, 4, 6, 3)
RESNET101 = _resnet("bottleneck", 3, 4, 23, 3)
RESNET152 = _resnet("bottleneck", 3, 8, 36, 3)

RESNET_LITE = {
    "input": {"channels": 1, "size": [32, 32]},
    "backbone": {"type": "resnet_lite", "layers": [1, 1, 1], "width": 16, "stem": "3x3"},
    "neck": {"type": "gap"},
    "head": {"type": "linear", "num_classes": 10},
}
