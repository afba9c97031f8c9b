"""Checkpoints of training runs, as torch, timm and Lightning write them, come home; what could be wrong is refused."""

from __future__ import annotations

import argparse
import random
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.utils import ModelEmaV3
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torchvision.models.resnet import BasicBlock, ResNet

import zoo
from zoo.errors import (
    KeymapError,
    SeveralWeightsError,
    TensorMismatchError,
    UnsafeFileError,
    WeightsError,
)

SPEC = {
    "input": {"channels": 3},
    "backbone": {"type": "resnet_lite", "layers": [1, 1, 1, 1]},
    "neck": "gap",
    "head": {"type": "linear", "num_classes": 3},
}
OTHER = {**SPEC, "head": {"type": "linear", "num_classes": 4}}


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    torch.manual_seed(0)
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=3).eval()


@pytest.fixture(scope="module")
def another() -> nn.Module:
    torch.manual_seed(1)
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=3).eval()


def same(model: zoo.Model, reference: nn.Module) -> None:
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(image), reference(image))
    assert model.migration is not None
    assert model.migration.proven


def saved(path: Path, value: object) -> Path:
    torch.save(value, path)
    return path


def optimiser_of(model: nn.Module) -> torch.optim.Optimizer:
    optimiser = torch.optim.AdamW(model.parameters())
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimiser.step()
    model.load_state_dict(before)
    return optimiser


def lightning(state: dict[str, torch.Tensor], **more: object) -> dict[str, object]:
    """A checkpoint as Lightning's trainer dumps it, with hyper-parameters as LightningModule.save_hyperparameters."""
    return {
        "epoch": 3,
        "global_step": 1200,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": OrderedDict(state),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 4}}}},
        "callbacks": {
            "ModelCheckpoint{'monitor': 'val_loss'}": {
                "best_model_score": torch.tensor(0.1),
                "dirpath": Path("/runs/1"),
            }
        },
        "optimizer_states": [],
        "lr_schedulers": [{"base_lrs": [0.1], "last_epoch": 4, "_last_lr": [0.1]}],
        "hparams_name": "kwargs",
        "hyper_parameters": {
            "lr": np.float64(0.1),
            "args": argparse.Namespace(width=64, root=Path("/data")),
            "seeds": {1},
        },
        **more,
    }


def test_data_parallel(theirs: nn.Module, tmp_path: Path) -> None:
    path = saved(tmp_path / "run.pth", nn.DataParallel(theirs).state_dict())
    model = zoo.load(path, spec=SPEC)
    same(model, theirs)
    assert model.migration.unwrapping.prefixes == ("module.",)
    assert model.migration.renaming.keymap == "timm and torchvision"
    assert "'module.' was taken off" in str(model.migration)


def test_torch_compile_around_the_whole_and_inside(theirs: nn.Module, tmp_path: Path) -> None:
    whole = nn.DataParallel(torch.compile(theirs))
    same(zoo.load(saved(tmp_path / "whole.pth", whole.state_dict()), spec=SPEC), theirs)
    state = {name.replace("layer2.0.", "layer2._orig_mod.0."): t for name, t in theirs.state_dict().items()}
    model = zoo.load(saved(tmp_path / "inside.pth", state), spec=SPEC)
    same(model, theirs)
    assert model.migration.unwrapping.prefixes == ("_orig_mod.",)


def test_lightning_with_all_that_it_keeps(theirs: nn.Module, tmp_path: Path) -> None:
    state = {f"model.{name}": tensor for name, tensor in theirs.state_dict().items()}
    optimiser = optimiser_of(theirs).state_dict()
    path = saved(tmp_path / "epoch=3.ckpt", lightning(state, optimizer_states=[optimiser]))
    model = zoo.load(path, spec=SPEC)
    same(model, theirs)
    found = model.migration.unwrapping
    assert (found.within, found.writer, found.prefixes) == ("state_dict", "Lightning", ("model.",))
    assert "'optimizer_states' (list of 1)" in found.beside
    assert "'hyper_parameters' (dict of 3)" in found.beside
    assert "of the format ckpt, as Lightning writes it, with" in str(model.migration)


def test_lightning_with_a_loss_beside_the_model_is_refused_until_told(theirs: nn.Module, tmp_path: Path) -> None:
    state = {f"net.{name}": tensor for name, tensor in theirs.state_dict().items()}
    path = saved(tmp_path / "run.pth", lightning({**state, "criterion.weight": torch.ones(3)}))
    with pytest.raises(SeveralWeightsError, match=r"'net' \(74 tensors, the whole model\), 1 other tensor") as caught:
        zoo.load(path, spec=SPEC)
    assert caught.value.candidates == ("net",)
    model = zoo.load(path, spec=SPEC, within="net")
    same(model, theirs)
    assert model.migration.unwrapping.left_out == ("criterion.weight (not within 'net')",)
    same(zoo.load(path, spec=SPEC, within="state_dict.net"), theirs)


def test_teacher_and_student_are_two_models(theirs: nn.Module, another: nn.Module, tmp_path: Path) -> None:
    state = {f"teacher.{name}": tensor for name, tensor in theirs.state_dict().items()}
    state |= {f"student.{name}": tensor for name, tensor in another.state_dict().items()}
    path = saved(tmp_path / "run.pth", {"state_dict": state, "epoch": 1})
    with pytest.raises(SeveralWeightsError) as caught:
        zoo.load(path, spec=SPEC)
    assert caught.value.candidates == ("teacher", "student")
    same(zoo.load(path, spec=SPEC, within="teacher"), theirs)
    same(zoo.load(path, spec=SPEC, within="student"), another)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "net", "anything"])
def test_the_usual_containers(theirs: nn.Module, key: str, tmp_path: Path) -> None:
    random_state = {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}
    optimiser = optimiser_of(theirs).state_dict()
    beside = {"optimizer": optimiser, "epoch": 3, "best": 0.9, "rng": random_state, "acc": torch.tensor(0.5), "x": None}
    model = zoo.load(saved(tmp_path / "run.pt", {key: theirs.state_dict(), **beside}), spec=SPEC)
    same(model, theirs)
    assert model.migration.unwrapping.within == key
    assert "'optimizer' (dict of 2)" in model.migration.unwrapping.beside


def test_timm_writes_its_average_beside_the_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.models.resnet.ResNet(timm.models.resnet.BasicBlock, (1, 1, 1, 1), num_classes=3).eval()
    average = ModelEmaV3(model, decay=0.5)
    with torch.no_grad():
        model.fc.bias += 1
    average.update(model)
    run = {
        "epoch": 7,
        "arch": "resnet10",
        "state_dict": model.state_dict(),
        "optimizer": {"state": {}, "param_groups": []},
        "version": 2,
        "args": argparse.Namespace(lr=0.1, data=Path("/data")),
        "state_dict_ema": average.module.state_dict(),
        "metric": np.float64(71.5),
    }
    path = saved(tmp_path / "last.pth", run)
    with pytest.raises(SeveralWeightsError, match=r"'state_dict' \(74 tensors\), 'state_dict_ema' \(74 tensors\)"):
        zoo.load(path, spec=SPEC)
    with pytest.raises(SeveralWeightsError, match="'ema' is none of them"):
        zoo.load(path, spec=SPEC, within="ema")
    same(zoo.load(path, spec=SPEC, within="state_dict"), model)
    ema = zoo.load(path, spec=SPEC, within="state_dict_ema")
    same(ema, average.module.eval())
    assert ema.migration.unwrapping.writer == "timm's training script"
    assert "chosen among 'state_dict', 'state_dict_ema'" in str(ema.migration)


def test_an_averaged_model_of_torch(theirs: nn.Module, tmp_path: Path) -> None:
    averaged = AveragedModel(nn.DataParallel(theirs))
    model = zoo.load(saved(tmp_path / "swa.pth", averaged.state_dict()), spec=SPEC)
    same(model, theirs)
    assert model.migration.unwrapping.left_out == ("n_averaged",)
    assert model.migration.unwrapping.prefixes == ("module.", "module.")


def test_prefixes_in_a_safetensors_file(theirs: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    save_file({f"model.backbone.{name}": tensor for name, tensor in theirs.state_dict().items()}, path)
    model = zoo.load(path, spec=SPEC)
    same(model, theirs)
    assert model.migration.unwrapping.prefixes == ("model.", "backbone.")


def test_our_own_names_wrapped_keep_their_ties(tmp_path: Path) -> None:
    ours = zoo.build(SPEC).eval()
    model = zoo.load(saved(tmp_path / "run.pth", nn.DataParallel(ours).state_dict()), spec=SPEC)
    same(model, ours)
    assert model.migration.renaming is None


def test_another_number_of_classes_is_refused_by_the_nearest_names(theirs: nn.Module, tmp_path: Path) -> None:
    path = saved(tmp_path / "run.pth", {"state_dict": nn.DataParallel(theirs).state_dict(), "epoch": 1})
    with pytest.raises(
        KeymapError, match=r"the shapes disagree of 2: head.fc.weight: fc.weight makes \(3, 512\)"
    ) as caught:
        zoo.load(path, spec=OTHER)
    call = f"zoo.build(…, weights={str(path)!r}, head={{'num_classes': 3}})"
    remedy = f"it fits with head.num_classes=3 in the spec: {call}; zoo identify {path} prints the whole call"
    assert str(caught.value).splitlines()[-1].strip() == remedy
    same(eval(call.replace("…", "OTHER"), {"zoo": zoo, "OTHER": OTHER}), theirs)  # what it says is to be typed


def test_another_depth_is_told(theirs: nn.Module, tmp_path: Path) -> None:
    path = saved(tmp_path / "run.pth", theirs.state_dict())
    deeper = {**OTHER, "backbone": {"type": "resnet_lite", "layers": [1, 2, 1, 1]}}
    told = r"it fits with backbone.layers=\[1, 1, 1, 1\], head.num_classes=3 in the spec"
    with pytest.raises(KeymapError, match=told):
        zoo.load(path, spec=deeper, keymap="torchvision")
    with pytest.raises(TensorMismatchError, match=r"run\.pth tells what it can be of"):
        zoo.load(path, spec="lenet")


def test_our_names_that_do_not_fit_are_told_as_ever(tmp_path: Path) -> None:
    path = saved(tmp_path / "ours.pth", zoo.build(SPEC).state_dict())
    with pytest.raises(TensorMismatchError, match=r"2 different .*; it fits with head.num_classes=3 in the spec"):
        zoo.load(path, spec=OTHER)
    path = saved(tmp_path / "wrapped.pth", nn.DataParallel(zoo.build(SPEC)).state_dict())
    with pytest.raises(TensorMismatchError, match=r"model: 2 different .*; it fits with head.num_classes=3 in the"):
        zoo.load(path, spec=OTHER)


def test_what_is_beside_the_model_is_told_with_the_call_that_loads_the_rest(theirs: nn.Module, tmp_path: Path) -> None:
    state = {**theirs.state_dict(), "temperature.1.scale": torch.ones(1)}
    path = saved(tmp_path / "run.pth", state)
    call = f"zoo.load_into(zoo.build(…), '{path}', allow_unexpected=['temperature.1.*'])"
    with pytest.raises(KeymapError, match=re.escape(f"{call} loads the other {len(state) - 1}; zoo identify")):
        zoo.load(path, spec=SPEC)
    plan = zoo.load_into(zoo.build(SPEC), path, allow_unexpected=["temperature.1.*"])
    assert (len(plan.loaded), plan.kept) == (len(state) - 1, ())
    wrapped = {f"student.{name}": tensor for name, tensor in state.items()}
    path = saved(tmp_path / "parts.pth", {"model": {**wrapped, "teacher.weight": torch.zeros(1)}})
    call = f"zoo.load_into(zoo.build(…), '{path}', within='model.student', allow_unexpected=['temperature.1.*'])"
    with pytest.raises(KeymapError, match=re.escape(f"{call} loads the other")):
        zoo.load(path, spec=SPEC, within="student")
    assert not zoo.load_into(zoo.build(SPEC), path, within="model.student", allow_unexpected=["temperature.1.*"]).kept


def test_what_is_wrong_in_the_trunk_is_no_reason_to_load_the_rest(theirs: nn.Module, tmp_path: Path) -> None:
    state = {name.replace("conv1.weight", "conv1.0.weight"): t for name, t in theirs.state_dict().items()}
    with pytest.raises(KeymapError) as caught:
        zoo.load(saved(tmp_path / "run.pth", state), spec=SPEC)
    assert "load_into" not in str(caught.value)


def test_one_tensor_more_is_no_fit(theirs: nn.Module, tmp_path: Path) -> None:
    path = saved(tmp_path / "more.pth", {**theirs.state_dict(), "fc2.weight": torch.ones(1)})
    with pytest.raises(KeymapError, match=r"no rule matches 1: fc2\.weight"):
        zoo.load(path, spec=SPEC)


def test_a_class_that_is_no_plain_data_is_refused_with_what_to_do(theirs: nn.Module, tmp_path: Path) -> None:
    path = saved(tmp_path / "whole.pth", {"state_dict": theirs.state_dict(), "model": nn.Linear(1, 1)})
    with pytest.raises(UnsafeFileError, match=r"nothing in it was run: it asks for torch\.nn.*save the weights alone"):
        zoo.load(path, spec=SPEC)


def test_a_file_of_ours_has_no_parts(tmp_path: Path) -> None:
    path = zoo.save(zoo.build("lenet"), tmp_path / "ours.pt")
    with pytest.raises(WeightsError, match="leave within= out"):
        zoo.load(path, within="backbone")


def test_a_place_that_is_not_there_names_those_that_are(theirs: nn.Module, tmp_path: Path) -> None:
    path = saved(tmp_path / "run.pth", {"a": {"state_dict": theirs.state_dict()}, "epoch": 1})
    same(zoo.load(path, spec=SPEC, within="a.state_dict"), theirs)
    with pytest.raises(SeveralWeightsError, match="'b' is none of them"):
        zoo.load(path, spec=SPEC, within="b")


def test_a_key_with_dots_is_a_place_as_any_other(theirs: nn.Module, another: nn.Module, tmp_path: Path) -> None:
    path = saved(tmp_path / "run.pth", {"a.b": theirs.state_dict(), "a": another.state_dict()})
    same(zoo.load(path, spec=SPEC, within="a.b"), theirs)
    same(zoo.load(path, spec=SPEC, within="a"), another)


def test_places_that_are_called_the_same_are_told_in_quotes(
    theirs: nn.Module, another: nn.Module, tmp_path: Path
) -> None:
    path = saved(tmp_path / "run.pth", {"a.b": theirs.state_dict(), "a": {"b": another.state_dict()}, "epoch": 1})
    with pytest.raises(SeveralWeightsError) as caught:
        zoo.load(path, spec=SPEC, within="a.b")
    assert str(caught.value) == (
        f"{path}: holds several sets of weights: '\"a.b\"' (74 tensors), '\"a\".\"b\"' (74 tensors); 'a.b' is none of "
        'them; say which: within=\'"a"."b"\' (--within \'"a"."b"\')'
    )
    model = zoo.load(path, spec=SPEC, within='"a.b"')
    same(model, theirs)
    assert model.migration.unwrapping.beside == ("'epoch' (int)",)
    same(zoo.load(path, spec=SPEC, within='"a"."b"'), another)


def test_a_place_in_a_file_that_has_one_or_none_is_refused(theirs: nn.Module, tmp_path: Path) -> None:
    path = saved(tmp_path / "run.pth", {"a.b": theirs.state_dict(), "epoch": 1})
    with pytest.raises(SeveralWeightsError, match=r"run\.pth: holds weights in 'a\.b'; 'a' is none of them; say which"):
        zoo.load(path, spec=SPEC, within="a")
    save_file({"weight": torch.zeros(2)}, tmp_path / "flat.safetensors")
    with pytest.raises(SeveralWeightsError, match=r"has no names that begin with 'x\.'; leave within= out"):
        zoo.load(tmp_path / "flat.safetensors", spec=SPEC, within="x")
    told = r"no names that begin with 'ema\.'; they begin with 'conv1', .*: pick one of these, or leave within= out"
    with pytest.raises(SeveralWeightsError, match=told) as caught:
        zoo.load(saved(tmp_path / "bare.pth", theirs.state_dict()), spec=SPEC, within="ema")
    assert (caught.value.candidates, caught.value.within) == ((), "ema")
