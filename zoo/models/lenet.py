"""LeNet-5: LeCun et al. 1998, with a C3 that sees every map of S2; 61,706 parameters at ten classes."""

LENET = {
    "input": {"channels": 1, "size": [32, 32]},
    "backbone": {"type": "lenet", "channels": [6, 16], "activation": "tanh", "pool": "avg"},
    "neck": {"type": "flatten"},
    "bottleneck": {"type": "mlp", "hidden": [120, 84], "activation": "tanh"},
    "head": {"type": "linear", "num_classes": 10},
}
