"""ResNets of images: He et al. 2016, Xie et al. 2017, Zagoruyko and Komodakis 2016; of video and signals; small ones.

Numbers are torchvision's defaults, and the papers' for the networks that torchvision has not.
"""

_IMAGENET = {"input": {"channels": 3, "size": [224, 224]}, "neck": {"type": "gap"}}
_HEAD = {"type": "linear", "num_classes": 1000}


def _resnet(block: str, *layers: int, **parameters: object) -> dict[str, object]:
    backbone = {"type": "resnet_lite", "block": block, "layers": list(layers), **parameters}
    return {**_IMAGENET, "backbone": backbone, "head": _HEAD}


RESNET18 = _resnet("basic", 2, 2, 2, 2)
RESNET34 = _resnet("basic", 3, 4, 6, 3)
RESNET50 = _resnet("bottleneck", 3, 4, 6, 3)
RESNET101 = _resnet("bottleneck", 3, 4, 23, 3)
RESNET152 = _resnet("bottleneck", 3, 8, 36, 3)

RESNEXT50_32X4D = _resnet("bottleneck", 3, 4, 6, 3, groups=32, width_per_group=4)
RESNEXT101_32X8D = _resnet("bottleneck", 3, 4, 23, 3, groups=32, width_per_group=8)
RESNEXT101_64X4D = _resnet("bottleneck", 3, 4, 23, 3, groups=64, width_per_group=4)
WIDE_RESNET50_2 = _resnet("bottleneck", 3, 4, 6, 3, width_per_group=128)
WIDE_RESNET101_2 = _resnet("bottleneck", 3, 4, 23, 3, width_per_group=128)


def _cifar(depth: int) -> dict[str, object]:
    """Return the spec of section 4.2 of He et al. 2016, of 6n + 2 layers."""
    n = (depth - 2) // 6
    parameters = {"layers": [n, n, n], "width": 16, "stem": "3x3", "shortcut": "padding"}
    return {
        "input": {"channels": 3, "size": [32, 32]},
        "backbone": {"type": "resnet_lite", "block": "basic", **parameters},
        "neck": {"type": "gap"},
        "head": {"type": "linear", "num_classes": 10},
    }


RESNET20, RESNET56 = _cifar(20), _cifar(56)

RESNET_LITE = {
    "input": {"channels": 1, "size": [32, 32]},
    "backbone": {"type": "resnet_lite", "layers": [1, 1, 1], "width": 16, "stem": "3x3"},
    "neck": {"type": "gap"},
    "head": {"type": "linear", "num_classes": 10},
}

R3D_18 = {  # Tran et al. 2018; 16 frames of 112×112, the 400 classes of Kinetics
    "input": {"channels": 3, "size": [16, 112, 112]},
    "backbone": {"type": "resnet_lite", "layers": [2, 2, 2, 2], "stem": "video", "dims": 3},
    "neck": {"type": "gap"},
    "head": {"type": "linear", "num_classes": 400, "init": {"weight": "normal", "std": 0.01, "bias": "zeros"}},
}

RESNET18_1D = {  # ResNet-18 along one axis, for one channel of 1,024 samples
    "input": {"channels": 1, "size": [1024]},
    "backbone": {"type": "resnet_lite", "layers": [2, 2, 2, 2], "dims": 1},
    "neck": {"type": "gap"},
    "head": {"type": "linear", "num_classes": 10},
}
