"""What zoo's ONNX files say in their ``metadata_props`` besides the artifact, which is under ``zoo``."""

from __future__ import annotations

from zoo.weights.checkpoint import METADATA_KEY

NAMES_KEY = f"{METADATA_KEY}.initializers"
"""For each tensor that the graph holds, the name of its initializer (JSON)."""

TENSORS_KEY = f"{METADATA_KEY}.tensors"
"""The tensors that the graph does not hold (safetensors, base64)."""

WEIGHTS_KEY = f"{METADATA_KEY}.weights"
"""The name of the ``.safetensors`` file beside the graph that its initializers are in."""

OPTIMIZED_KEY = f"{METADATA_KEY}.optimized"
"""Of a graph for inference alone: spec, lock, inputs, outputs and the fingerprint of the weights it was made of (JSON).

Such a file has none of the other keys: no model comes back from it.
"""

LABELS_KEY = "labels"
"""The name of each class, for any runtime (JSON list)."""

PREPROCESSING_KEY = "preprocessing"
"""How an image becomes an input, for any runtime (JSON object: size, mean, std, interpolation)."""
