"""VGGs: those of Simonyan and Zisserman 2015, table 1, with and without batch norm, and a small one."""

_NORMAL = {"weight": "normal", "std": 0.01, "bias": "zeros"}


def _vgg(*layers: int, norm: str = "none") -> dict[str, object]:
    return {
        "input": {"channels": 3, "size": [224, 224]},
        "backbone": {"type": "vgg_lite", "layers": list(layers), "norm": norm},
        "neck": {"type": "adaptive_pool", "size": 7, "flatten": True},
        "bottleneck": {"type": "mlp", "hidden": [4096, 4096], "dropout": 0.5, "init": _NORMAL},
        "head": {"type": "linear", "num_classes": 1000, "init": _NORMAL},
    }


VGG11, VGG11_BN = _vgg(1, 1, 2, 2, 2), _vgg(1, 1, 2, 2, 2, norm="batch")
VGG13, VGG13_BN = _vgg(2, 2, 2, 2, 2), _vgg(2, 2, 2, 2, 2, norm="batch")
VGG16, VGG16_BN = _vgg(2, 2, 3, 3, 3), _vgg(2, 2, 3, 3, 3, norm="batch")
VGG19, VGG19_BN = _vgg(2, 2, 4, 4, 4), _vgg(2, 2, 4, 4, 4, norm="batch")

VGG_LITE = {
    "input": {"channels": 1, "size": [32, 32]},
    "backbone": {"type": "vgg_lite", "layers": [1, 1, 2], "channels": [16, 32, 64], "norm": "batch"},
    "neck": {"type": "gap"},
    "head": {"type": "linear", "num_classes": 10},
}
