"""Every component of ours in the variants that its checks and comparisons go through."""

from __future__ import annotations

_ENCODERS: list[dict[str, object]] = [  # no model with a name is a backbone alone
    {"spec": {"backbone": {"type": "resnet_lite", "layers": [1, 1], "width": 8}}},
    {"spec": {"backbone": {"type": "vgg_lite", "layers": [1, 2], "channels": [4, 8], "norm": "batch"}}},
]

VARIANTS: dict[str, list[dict[str, object]]] = {
    "keymap:segmentation_models_pytorch": _ENCODERS,
    "keymap:segmentation_models_pytorch_encoder": _ENCODERS,
    "backbone:lenet": [
        {},
        {"channels": [4, 8, 12], "kernel_size": 3, "norm": "batch", "pool": "max"},
        {"channels": [4], "norm": "layer", "dims": 1},
        {"channels": [3, 5], "kernel_size": 2, "norm": "frozen_batch", "dims": 3},
    ],
    "backbone:mlp": [
        {},
        {"hidden": [8], "dims": 1},
        {"hidden": [8], "dims": 3},
        {"hidden": [16], "norm": "layer", "activation": "gelu", "dropout": 0.2, "init": "xavier"},
    ],
    "backbone:resnet_lite": [
        {"width": 8, "layers": [2, 1, 1, 1]},
        {"width": 8, "stem": "3x3", "layers": [1, 2], "norm": {"type": "group", "groups": 4}, "activation": "silu"},
        {"width": 8, "block": "bottleneck", "layers": [1, 1, 1], "norm": "none", "init": "xavier"},
        {"width": 8, "layers": [2], "norm": "layer", "init": {"weight": "normal", "std": 0.1}},
        {
            "width": 8,
            "block": "bottleneck",
            "layers": [1, 1, 1],
            "groups": 2,
            "width_per_group": 32,
            "output_stride": 8,
            "out_indices": [0, 2],
            "norm": "frozen_batch",
        },
        {
            "width": 4,
            "layers": [2, 1],
            "stem": "3x3",
            "shortcut": "padding",
            "norm": "instance",
            "zero_init_last": True,
        },
        {"width": 4, "layers": [1, 1], "dims": 1},
        {"width": 4, "layers": [1, 1], "stem": "video", "dims": 3},
    ],
    "backbone:vgg_lite": [
        {"layers": [1, 1], "channels": [8, 8]},
        {"layers": [1, 2], "channels": [8, 16], "norm": "batch", "activation": "leaky_relu", "init": "xavier"},
        {"layers": [1, 1], "channels": [4, 8], "norm": "instance", "dims": 1},
        {"layers": [1, 1], "channels": [4, 8], "norm": {"type": "group", "groups": 2}, "dims": 3},
    ],
    "neck:adaptive_pool": [{"size": 7, "pool": "max"}, {}, {"size": [2, 3], "pool": "max", "flatten": True}],
    "neck:aspp": [{"channels": 4, "rates": [1, 2]}, {"channels": 6, "rates": [3], "norm": "layer", "dropout": 0.0}],
    "neck:concat": [{"channels": 8}, {"mode": "nearest"}, {"channels": 4, "norm": "none", "activation": "gelu"}],
    "neck:flatten": [{}],
    "neck:fpn": [
        {"channels": 8},
        {"channels": 4, "extra": "p6p7", "extra_from": "c5", "norm": "batch"},
        {"extra": "pool"},
    ],
    "neck:gap": [{}],
    "neck:gem": [{}, {"exponent": 1.0, "learned": False, "eps": 0.001}],
    "neck:gmp": [{}],
    "neck:identity": [{}],
    "neck:pan": [{"channels": 8}, {"channels": 4, "norm": "batch", "activation": "silu", "init": "kaiming"}],
    "neck:select": [{"keep": [0, "stage3"]}, {}],
    "bottleneck:conv1x1": [{"out_channels": 16}, {"out_channels": 4, "norm": "none", "activation": "identity"}],
    "bottleneck:linear": [
        {},
        {"out_features": 8, "norm": "batch", "activation": "hardswish", "dropout": 0.5, "bias": False},
    ],
    "bottleneck:identity": [{}],
    "bottleneck:low_rank": [
        {"rank": 4},
        {"rank": 2, "out_features": 8, "norm": "batch", "activation": "identity", "dropout": 0.1, "bias": False},
    ],
    "bottleneck:mlp": [{}, {"hidden": [8, 4], "norm": "layer", "activation": "softplus"}],
    "head:anchor_box": [
        {"num_classes": 3, "depth": 1},
        {"num_classes": 2, "anchor_sizes": [[8], [16], [32]], "ratios": [1.0], "norm": "batch", "activation": "silu"},
    ],
    "head:anchor_point": [{"num_classes": 3, "depth": 1}, {"num_classes": 2, "norm": "none", "prior": 0.1}],
    "head:cosine": [{"num_classes": 3}, {"num_classes": 2, "scale": 16.0, "learned": False, "init": "normal"}],
    "head:branch": [
        {
            "neck": "gap",
            "bottleneck": {"type": "linear", "out_features": 8},
            "head": {"type": "linear", "num_classes": 3},
        },
    ],
    "head:multi": [
        {"heads": {"kind": {"type": "branch", "neck": "gap", "head": {"type": "linear", "num_classes": 3}}}},
    ],
    "head:deeplab": [
        {"channels": 8, "rates": [1, 2], "num_classes": 3},
        {"channels": 4, "rates": [2], "num_classes": 2, "norm": "layer", "activation": "silu", "dropout": 0.0},
    ],
    "head:fcn": [
        {"num_classes": 3},
        {
            "num_classes": 2,
            "channels": 4,
            "norm": {"type": "group", "groups": 2},
            "activation": "gelu",
            "init": "xavier",
        },
    ],
    "head:linear": [{"num_classes": 3}, {"num_classes": 3, "bias": False, "dropout": 0.5, "init": "normal"}],
    "head:mlp": [
        {"num_classes": 3},
        {"num_classes": 2, "hidden": [8, 4], "norm": "batch", "activation": "gelu", "dropout": 0.1, "bias": False},
    ],
    "head:projection": [
        {},
        {"out_features": 4, "hidden": [8, 8], "norm": "batch", "normalize": False, "bias": False, "init": "xavier"},
    ],
}
