"""A plain multilayer perceptron for 32×32 grey images."""

MLP = {
    "input": {"channels": 1, "size": [32, 32]},
    "backbone": {"type": "mlp", "hidden": [256, 128]},
    "head": {"type": "linear", "num_classes": 10},
}
