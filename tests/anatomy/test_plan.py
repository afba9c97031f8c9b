"""zoo.plan: what it takes, what it tells, and what it refuses."""

from __future__ import annotations

import json
import re

import pytest
import torch
from torch import nn

import zoo
from zoo import kinds
from zoo.builder import compose
from zoo.errors import ShapeError, SpecError, UnknownNameError
from zoo.features import Feature


def size_of(name: str) -> tuple[int, ...] | None:
    """A size for models that take any."""
    return None if (kinds.models.get(name).get("input") or {}).get("size") else (65, 64)


@pytest.mark.parametrize("name", zoo.list_models())
def test_every_named_model_has_a_plan(name: str) -> None:
    found = zoo.plan(name, size=size_of(name))
    assert found.parameters == sum(p.numel() for p in compose(found.spec, "meta").parameters())
    assert found.inference.multiply_adds > 0
    assert set(found.parts) == {kind for kind in kinds.PARTS if found.spec[kind]}
    for part in found.parts.values():
        assert part.outputs
        assert all(field.extent != "unknown" for output in part.outputs for field in output.field)


def declared(spec: dict) -> dict[str, tuple[Feature, ...]]:
    model = compose(spec, "meta")
    parts = {kind: getattr(model, kind) for kind in kinds.PARTS[:-1]}
    return {kind: part.features for kind, part in parts.items() if part is not None}


@pytest.mark.parametrize("name", zoo.list_models())
def test_strides_and_sizes_are_as_declared(name: str) -> None:
    found = zoo.plan(name, size=size_of(name))
    for kind, features in declared(found.spec).items():
        for feature, output in zip(features, found.parts[kind].outputs, strict=True):
            assert feature.name == output.name
            assert output.shape[1] == feature.channels
            assert feature.size is None or output.shape[2:] == feature.size
            if feature.dims and all(f.jump for f in output.field):
                assert output.stride == pytest.approx(feature.strides, rel=0.15), (kind, feature)


def test_the_plan_of_a_built_model_is_that_of_its_spec() -> None:
    model = zoo.build("resnet-lite", num_classes=5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert zoo.plan(model) == zoo.plan(model.spec) == zoo.plan("resnet-lite", num_classes=5)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    with pytest.raises(ShapeError, match=r"found changes \(num_classes\) to a model that was built; expected its spec"):
        zoo.plan(model, num_classes=3)


def test_changes_are_those_of_build() -> None:
    found = zoo.plan("resnet-lite", size=(64, 48), in_channels=3, batch=4, neck="gmp", backbone={"width": 8})
    assert found.input == (4, 3, 64, 48)
    assert found.spec["neck"]["type"] == "gmp"
    assert found.node("backbone").outputs[0].shape == (4, 8, 64, 48)
    segmenter = zoo.plan("fcn_resnet50_aux", size=(64, 64), num_classes=4)
    assert segmenter.parts["head"].outputs[0].shape[1] == segmenter.node("aux.stage3").outputs[0].shape[1] == 4
    assert "aux" not in str(zoo.plan("fcn_resnet50_aux", size=(64, 64), aux=None))
    headless = zoo.plan("resnet-lite", neck=None, head=None)
    assert list(headless.parts) == ["backbone"]
    assert len(headless.tree.outputs) == 3


def test_multiply_adds_and_activations_are_of_the_whole_batch() -> None:
    one, two = zoo.plan("vgg-lite"), zoo.plan("vgg-lite", batch=2)
    assert two.inference.multiply_adds == 2 * one.inference.multiply_adds
    assert two.inference.peak_bytes == 2 * one.inference.peak_bytes
    assert two.parameters == one.parameters


def test_signals_and_volumes() -> None:
    resnet = {"type": "resnet_lite", "layers": [1, 1], "width": 8}
    signal = zoo.plan({"input": {"channels": 2, "size": [100]}, "backbone": {**resnet, "dims": 1}})
    assert [len(output.field) for output in signal.parts["backbone"].outputs] == [1, 1]
    volume = zoo.plan({"input": {"channels": 1, "size": [8, 32, 32]}, "backbone": {**resnet, "dims": 3}})
    assert len(volume.parts["backbone"].outputs[0].stride) == 3


def test_totals_are_those_of_the_tree() -> None:
    found = zoo.plan("resnet18")
    assert found.tree.parameters == found.parameters == sum(part.parameters for part in found.parts.values())
    assert found.buffers == 9620
    assert found.weight_bytes == 4 * found.parameters + 4 * (9620 - 20) + 8 * 20
    paths = [node.path for node in found.tree.walk()]
    assert paths == [name for name, _ in zoo.build("resnet18").named_modules()]
    assert found.node("backbone.layer1.0.conv1").multiply_adds == 64 * 64 * 9 * 56 * 56
    with pytest.raises(KeyError):
        found.node("backbone.layer9")


def test_a_batch_norm_that_needs_two_samples_gets_them() -> None:
    spec = {"input": {"size": [32, 32]}, "backbone": {"type": "resnet_lite", "layers": [1, 1, 1, 1], "width": 8}}
    found = zoo.plan(spec)
    assert (found.input[0], found.training.batch) == (1, 2)
    assert zoo.plan(spec, batch=3).training.batch == 3


class Twice(nn.Module):
    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.never = nn.Conv2d(in_channels, 1, 1)
        self.aside = nn.Linear(in_channels, 2)
        self.features = (Feature("x", in_channels), Feature("z", in_channels, 2))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if self.training:
            self.aside(x.mean((2, 3)))
        y = self.conv(self.conv(x))
        return y, y[:, :, ::2, ::2] + torch.arange(1, device=None).sum()


def test_modules_called_twice_never_or_in_training_alone(backbone) -> None:
    backbone("twice", Twice)
    found = zoo.plan({"input": {"channels": 3, "size": [8, 8]}, "backbone": "twice"})
    conv = found.node("backbone.conv")
    assert conv.calls == 2
    assert [str(output.field[0]) for output in conv.outputs] == ["3", "5"]
    assert conv.multiply_adds == 2 * 3 * 3 * 9 * 64
    assert found.node("backbone.never").outputs == ()
    aside = found.node("backbone.aside")
    assert aside.training_only
    assert aside.outputs[0].shape == (1, 2)
    assert aside.multiply_adds == 0
    assert [output.name for output in found.parts["backbone"].outputs] == ["x", "z"]
    assert found.parts["backbone"].outputs[1].stride == (2, 2)


class Fails(nn.Module):
    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 1, 9)
        self.features = (Feature("x", 1),)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.conv(x),)


def test_errors(backbone) -> None:
    anything = {"backbone": {"type": "resnet_lite"}}
    with pytest.raises(ShapeError, match=re.escape("plan: found a spec without the size of its input; expected one")):
        zoo.plan(anything)
    with pytest.raises(ShapeError, match=r"such as size=\(1000,\)"):
        zoo.plan({"backbone": {"type": "resnet_lite", "dims": 1}})
    assert zoo.plan(anything, size=(64, 64)).input == (1, 3, 64, 64)
    with pytest.raises(ShapeError, match="batch=0"):
        zoo.plan("lenet", batch=0)
    for size in (64, "64"):
        with pytest.raises(ShapeError) as caught:
            zoo.plan("lenet", size=size)
        expected = f"plan: found size={size!r}; expected one number for each axis, such as size=(224, 224)"
        assert str(caught.value) == expected
    with pytest.raises(UnknownNameError, match=r"unknown dtype 'float61' \(did you mean float64"):
        zoo.plan("lenet", dtype="float61")
    with pytest.raises(SpecError):
        zoo.plan("lenet", head={"num_clases": 3})
    with pytest.raises(ShapeError, match="found an input of 2×2; expected at least 8×8"):
        zoo.plan("vgg-lite", size=(2, 2))
    backbone("fails", Fails)
    with pytest.raises(ShapeError, match=r"spec\.backbone \(fails\): found an input of shape \(1, 3, 4, 4\); expected"):
        zoo.plan({"input": {"size": [4, 4]}, "backbone": "fails"})


def test_it_is_ready_within_a_second(python) -> None:
    done = python(
        "import torch, time; t = time.perf_counter(); import zoo; zoo.plan('resnet152')\n"
        "import sys; print(time.perf_counter() - t, 'sympy' in sys.modules)"
    )
    assert done.returncode == 0, done.stderr
    seconds, slow = done.stdout.split()
    assert slow == "False", "torch's Python kernels for the meta device were imported: two seconds"
    assert float(seconds) < 5  # a tenth of that on a machine with nothing else to do


def test_it_is_printed() -> None:
    text = str(zoo.plan("resnet18"))
    assert "├─ backbone  resnet_lite" in text
    assert re.search(r"layer4  Sequential +512×7×7 +435 +8\.39M", text)
    assert json.loads(json.dumps(zoo.plan("lenet").to_json()))["parameters"] == 61706


def test_a_vector_has_no_stride() -> None:
    neck = zoo.plan("lenet").parts["neck"].outputs[0]
    assert (neck.shape, neck.stride) == ((1, 400), (0, 0))
    assert [f.size for f in neck.field] == [16, 16]
