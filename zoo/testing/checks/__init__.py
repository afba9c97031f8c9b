"""The checks of a component, one idea a file; each takes a Subject and ends by passing, failing or skipping."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from zoo.testing.checks.builds import builds
from zoo.testing.checks.copies import deep_copy, pickling
from zoo.testing.checks.determinism import determinism
from zoo.testing.checks.export import export
from zoo.testing.checks.features import features
from zoo.testing.checks.global_state import global_state
from zoo.testing.checks.gradients import gradients
from zoo.testing.checks.hostile import hostile_parameters
from zoo.testing.checks.meta import meta_device
from zoo.testing.checks.modes import modes
from zoo.testing.checks.moves import device_moves, float64
from zoo.testing.checks.spec import spec
from zoo.testing.checks.state import state_dict
from zoo.testing.checks.strides import strides
from zoo.testing.checks.weights import weights_onnx, weights_pt, weights_safetensors
from zoo.testing.subject import Subject

COMPONENT_CHECKS: Mapping[str, Callable[[Subject], None]] = {
    "builds": builds,
    "features": features,
    "strides": strides,
    "meta-device": meta_device,
    "gradients": gradients,
    "modes": modes,
    "determinism": determinism,
    "float64": float64,
    "device-moves": device_moves,
    "deep-copy": deep_copy,
    "pickle": pickling,
    "state-dict": state_dict,
    "weights-pt": weights_pt,
    "weights-safetensors": weights_safetensors,
    "weights-onnx": weights_onnx,
    "spec": spec,
    "hostile-parameters": hostile_parameters,
    "global-state": global_state,
    "export": export,
}
"""Every check of a component by name, in the order of a report."""
