"""Model: an ordinary nn.Module that trains, freezes, copies and pickles."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import zoo
from zoo.errors import ShapeError, UnknownNameError, ZooError


@pytest.fixture
def model() -> zoo.Model:
    return zoo.build("resnet-lite")


def step(model: zoo.Model, groups: list[dict[str, object]] | None = None) -> None:
    optimiser = torch.optim.SGD(model.param_groups() if groups is None else groups, lr=0.1)
    nn.functional.cross_entropy(model(torch.randn(4, 1, 32, 32)), torch.arange(4)).backward()
    optimiser.step()


def test_one_step_of_training_moves_every_parameter(model: zoo.Model) -> None:
    before = {n: p.clone() for n, p in model.named_parameters()}
    step(model)
    assert [n for n, p in model.named_parameters() if torch.equal(p, before[n])] == []


def test_a_frozen_part_stays_as_it_is_through_train(model: zoo.Model) -> None:
    model.freeze("backbone").train()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    step(model)
    changed = {n for n, t in model.state_dict().items() if not torch.equal(t, before[n])}
    assert changed == {"head.fc.weight", "head.fc.bias"}
    assert model.training
    assert model.head.training
    assert not any(m.training for m in model.backbone.modules())


def test_a_module_below_a_frozen_part_can_be_unfrozen(model: zoo.Model) -> None:
    model.freeze("backbone").unfreeze("backbone.layer3").train()
    assert model.backbone.layer3[0].bn1.training
    assert not model.backbone.layer2[0].bn1.training
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {n for n, _ in model.named_parameters() if n.startswith(("backbone.layer3", "head"))}


def test_a_frozen_part_stays_frozen_when_it_is_told_to_train_by_itself(model: zoo.Model) -> None:
    model.freeze("backbone").train()
    model.backbone.train()
    before = model.backbone.bn1.running_mean.clone()
    model(torch.randn(4, 1, 32, 32))
    assert torch.equal(before, model.backbone.bn1.running_mean)


def test_a_part_that_replaces_a_frozen_one_is_not_frozen(model: zoo.Model) -> None:
    model.freeze().train()
    model.head = nn.Sequential(nn.Dropout(0.5))
    model.train()
    assert model.head.training
    assert model.head[0].training
    assert not model.backbone.bn1.training


def test_a_record_has_to_be_one(model: zoo.Model) -> None:
    with pytest.raises(zoo.ZooError, match=r"found a record of type 'dict'; expected zoo.Record"):
        model.record = {"data": "mine"}


def test_a_symbolic_trace_and_a_script_trace_go_through(model: zoo.Model) -> None:
    x = torch.randn(2, 1, 32, 32)
    traced = torch.fx.symbolic_trace(model.eval())
    torch.testing.assert_close(traced(x), model(x), rtol=0, atol=0)


def test_freezing_without_names_freezes_all_and_unfreezing_gives_it_back(model: zoo.Model) -> None:
    model.freeze().train()
    assert model.param_groups() == []
    model.unfreeze()
    assert all(p.requires_grad for p in model.parameters())
    assert all(m.training for m in model.modules())


def test_freezing_what_is_not_there_is_answered_with_the_nearest(model: zoo.Model) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown part 'backbon' \(did you mean backbone or"):
        model.freeze("backbon")


def test_parameter_groups_are_by_part_and_take_options(model: zoo.Model) -> None:
    groups = model.param_groups(backbone={"lr": 1e-4})
    assert [g["name"] for g in groups] == ["backbone", "head"]
    assert groups[0]["lr"] == 1e-4
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
    with pytest.raises(UnknownNameError, match="unknown part 'neck_'"):
        model.param_groups(neck_={"lr": 1})


def test_a_parameter_of_two_parts_is_in_one_group(model: zoo.Model) -> None:
    model.head.extra = model.backbone.conv1
    assert sum(len(g["params"]) for g in model.param_groups()) == len(list(model.parameters()))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_a_copy_computes_the_same_and_is_independent(copied, model: zoo.Model) -> None:
    model.freeze("neck").eval()
    other = copied(model)
    x = torch.randn(2, 1, 32, 32)
    assert torch.equal(model(x), other(x))
    assert (other.spec, other.lock, other.features) == (model.spec, model.lock, model.features)
    with torch.no_grad():
        other.head.fc.weight.zero_()
    assert model.head.fc.weight.abs().sum() > 0


def test_a_whole_model_goes_through_torch_save(model: zoo.Model) -> None:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    assert torch.load(buffer, weights_only=False).spec == model.spec


def test_spec_and_lock_are_copies(model: zoo.Model) -> None:
    model.spec["head"]["num_classes"] = 3
    model.lock["zoo-torch"] = "9"
    assert model.spec["head"]["num_classes"] == 10
    assert model.lock == {"zoo-torch": zoo.__version__}


def test_dtype_and_device_move_as_ever(model: zoo.Model) -> None:
    assert model.double()(torch.zeros(2, 1, 32, 32, dtype=torch.float64)).dtype == torch.float64
    assert model.to("meta")(torch.zeros(2, 1, 32, 32, dtype=torch.float64, device="meta")).shape == (2, 10)


@pytest.mark.parametrize("name", ["lenet", "resnet-lite"])
def test_torch_compile_traces_the_model_without_a_break(name: str) -> None:
    model = zoo.build(name).eval()
    x = torch.randn(2, 1, 32, 32)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("lenet", (1, 3, 32, 32), "model input: found an input of shape (1, 3, 32, 32); expected (N, 1, H, W)"),
        ("lenet", (1, 32, 32), "model input: found an input of shape (1, 32, 32); expected (N, 1, H, W)"),
        ("lenet", (1, 1, 12, 32), "model input: found an input of 12×32; expected at least 16 along each axis"),
        ("vgg-lite", (1, 1, 7, 7), "model input: found an input of 7×7; expected at least 8 along each axis"),
        (
            "lenet",
            (1, 1, 36, 36),
            "model input: found 'stage2' of 16×6×6; expected 16×5×5, for which the model was built; for any size use "
            "the neck 'gap' or 'adaptive_pool'",
        ),
        (
            "mlp",
            (1, 1, 16, 16),
            "model input: found 'input' of 1×16×16; expected 1×32×32, for which the model was built; for any size use "
            "the neck 'gap' or 'adaptive_pool'",
        ),
    ],
)
def test_a_wrong_input_is_named(name: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ShapeError) as caught:
        zoo.build(name)(torch.zeros(shape))
    assert str(caught.value) == message


@pytest.mark.parametrize("given", [np.zeros((1, 1, 32, 32), np.float32), [1, 2], None])
def test_what_is_no_tensor_is_no_input(given: object) -> None:
    with pytest.raises(ZooError, match=f"model input: found '{type(given).__name__}'; expected a tensor"):
        zoo.build("lenet")(given)
