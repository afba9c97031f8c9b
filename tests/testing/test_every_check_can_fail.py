"""Every check of a component finds the fault that it is there for; a sound component passes them all."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from zoo import kinds, testing
from zoo.testing.checks import COMPONENT_CHECKS

# Beside this file and in no package: the classes have to be importable by name, or they could not be pickled.
_spec = importlib.util.spec_from_file_location("faulty", Path(__file__).with_name("faulty.py"))
faulty = sys.modules["faulty"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(faulty)

FAULTS = [
    ("builds", "DoesNotBuild", "building it raised RuntimeError: no licence"),
    ("builds", "ReturnsATensor", "forward returns 'Tensor'; expected a tuple"),
    ("features", "WrongChannels", "'stage1' is declared as 2×5×?×? and is 2×4×20×18"),
    ("features", "WrongDims", "'stage1' is declared as 2×4×?×?×? and is 2×4×20×18"),
    ("features", "WrongSize", "at an input of 33×47, 'stage1' is declared as 2×4×16×23 and is 2×4×17×24"),
    ("features", "OnlyEvenSizes", "an input of 33×47 raises RuntimeError: the width is odd; raise zoo.errors"),
    ("strides", "WrongStride", "'stage1' declares stride 4, but as the input grows by 4 it grows by 2×2, from 20×18"),
    ("strides", "WrongStrideOfOneAxis", "declares stride (2, 4), but as the input grows by 4 it grows by 2×2"),
    ("meta-device", "NamesADevice", "built on the meta device, 'backbone.scale' is on cpu"),
    ("meta-device", "OtherShapeOnMeta", "'backbone.scale' is float32[1] on the meta device and float32[2] for real"),
    ("gradients", "UnusedParameter", "no gradient reaches unused; use it in forward"),
    ("gradients", "DetachesItsInput", "no gradient reaches the input"),
    ("modes", "AlwaysDrops", "in evaluation mode the same input gives different outputs: output[0]"),
    ("modes", "LearnsInEvaluation", "running in evaluation mode changes: backbone.norm.num_batches"),
    ("modes", "StaysInTraining", "eval() leaves itself in training mode"),
    ("determinism", "DrawsFromPython", "torch.manual_seed(7) gives different weights: backbone.conv.weight"),
    ("float64", "AlwaysFloat32", "after model.double(), output[0] is torch.float32"),
    ("device-moves", "TensorAsAttribute", "after model.to('meta'), forward raises"),
    ("deep-copy", "CopiesByReference", "changing a deep copy changes the original: backbone.conv.weight"),
    ("pickle", "HoldsALambda", "it cannot be pickled: "),
    ("state-dict", "StateOutsideTheStateDict", "the same state dict gives other outputs: output[0]"),
    ("weights-pt", "StateOutsideTheStateDict", "a .pt file brings back something else for: backbone.scale"),
    ("weights-safetensors", "StateOutsideTheStateDict", "a .safetensors file brings back something else for"),
    ("weights-onnx", "StateOutsideTheStateDict", "a .onnx file brings back something else for"),
    ("weights-onnx", "OtherWhenExported", "onnxruntime gives another output 0: its relative error is"),
    ("spec", "DefaultOfAnotherType", "a default does not fit its type hint: spec.backbone.depth: found 0 (int)"),
    ("hostile-parameters", "AnyWidth", "width=-1 raises RuntimeError"),
    ("global-state", "ChangesTheDefaultDtype", "building it changes torch's default dtype from torch.float32 to"),
    ("global-state", "SetsTheSeed", "building sets the seed of torch"),
    ("global-state", "DrawsFromPython", "building it changes the state of Python's random"),
    ("global-state", "SwitchesGradientsOff", "running it changes whether gradients are on from True to False"),
    ("global-state", "SharesItsNorm", "running one instance changes another: backbone.norm.running_mean"),
    ("export", "LooksAtValues", "torch.export raises"),
    ("export", "FixedBatch", "torch.export raises"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    names = [name for name, found in vars(faulty).items() if isinstance(found, type) and found.__module__ == "faulty"]
    for name in names:
        (kinds.heads if name == "WrongClasses" else kinds.backbones).register(name, getattr(faulty, name))
    yield
    for name in names:
        (kinds.heads if name == "WrongClasses" else kinds.backbones).unregister(name)


def result(check: str, name: str, kind: str = "backbone") -> testing.Result:
    return next(case for case in testing.component_cases(kind, name) if case.check == check).result()


@pytest.mark.parametrize(("check", "name", "why"), FAULTS, ids=lambda value: value[:24])
def test_a_fault_is_found_by_its_check(check: str, name: str, why: str) -> None:
    found = result(check, name)
    assert found.outcome == "fail", found
    assert why in found.why


def test_a_head_with_the_wrong_number_of_classes_is_found() -> None:
    found = result("features", "WrongClasses", "head")
    assert found.why == "num_classes=3 gives 2×4; expected 3 as the second dimension"


def test_there_is_a_fault_for_every_check() -> None:
    assert {check for check, _, _ in FAULTS} == set(COMPONENT_CHECKS)


@pytest.mark.parametrize("name", ["ChangesTheDefaultDtype", "SwitchesGradientsOff", "SetsTheSeed"])
def test_a_fault_does_not_outlive_its_check(name: str) -> None:
    before = torch.get_rng_state()
    result("global-state", name)
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
    assert torch.equal(before, torch.get_rng_state())


def test_what_does_not_build_fails_once_and_is_skipped_otherwise() -> None:
    report = testing.check_component("backbone", "DoesNotBuild")
    assert [r.name for r in report.failures] == ["builds"]
    assert {r.why for r in report.results if r.outcome == "skip"} == {"it does not build"}
    assert not report.ok


def test_a_sound_component_passes_every_check() -> None:
    report = testing.check_component("backbone", "Sound")
    assert [r for r in report.results if r.outcome != "pass"] == []
    assert report.ran == len(COMPONENT_CHECKS)
