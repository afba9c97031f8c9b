"""Intermediate maps: as a hook sees them, as torchvision extracts them, and no more work than they need."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.models.feature_extraction import create_feature_extractor

import zoo
from zoo import kinds
from zoo.errors import PartError, UnknownNameError, ZooError
from zoo.features import Feature


@pytest.fixture
def model() -> zoo.Model:
    return zoo.build("resnet-lite", weights="digits")


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(3))


def hooked(model: nn.Module, path: str, x: torch.Tensor) -> list[torch.Tensor]:
    """Return what each call of a module gives, copied before anything can write over it."""
    found: list[torch.Tensor] = []
    handle = model.get_submodule(path).register_forward_hook(lambda m, i, o: found.append(o.clone()))
    model(x)
    handle.remove()
    return found


def calls(model: nn.Module) -> dict[str, int]:
    """Count from now on how often each module ends a call."""
    counts: dict[str, int] = {}
    for path, module in model.named_modules():
        module.register_forward_hook(lambda m, i, o, path=path: counts.update({path: counts.get(path, 0) + 1}))
    return counts


@pytest.mark.parametrize("training", [False, True])
def test_every_module_gives_what_a_hook_sees(training: bool, model: zoo.Model, x: torch.Tensor) -> None:
    model.train(training)
    single = [p for p, m in model.named_modules() if not list(m.children()) and not isinstance(m, nn.ReLU)]
    paths = [path for path in single if path.startswith(("backbone.", "head."))]
    found = copy.deepcopy(model).features_at(x, paths)
    assert list(found) == paths
    for path in paths:
        (expected,) = hooked(copy.deepcopy(model), path, x)
        assert torch.equal(found[path], expected), path


def test_an_activation_in_place_does_not_reach_what_is_returned(model: zoo.Model, x: torch.Tensor) -> None:
    assert model.backbone.relu.inplace
    found = model.features_at(x, ["backbone.bn1", "backbone.relu", "backbone.layer1.0.bn2", "backbone.stage1"])
    assert found["backbone.bn1"].min() < 0
    assert torch.equal(found["backbone.relu"], found["backbone.bn1"].relu())
    shortcut = found["backbone.relu"]
    assert torch.equal((found["backbone.layer1.0.bn2"] + shortcut).relu(), found["backbone.stage1"])


def test_only_what_is_written_over_is_copied(model: zoo.Model) -> None:
    extraction = zoo.extract(model, ["backbone.conv1", "backbone.bn1", "backbone.stage1", "backbone", "neck", "head"])
    assert [tap.name for tap in extraction._taps if tap.copied] == ["backbone.bn1"]


def test_features_and_parts_are_what_the_model_computes(model: zoo.Model, x: torch.Tensor) -> None:
    maps = model.backbone(x)
    found = model.features_at(x, ["head", "backbone.stage3", "neck.stage3", "backbone", "backbone.stage1"])
    assert list(found) == ["head", "backbone.stage3", "neck.stage3", "backbone", "backbone.stage1"]
    assert torch.equal(found["head"], model(x))
    assert torch.equal(found["backbone.stage1"], maps[0])
    assert torch.equal(found["backbone.stage3"], maps[2])
    assert torch.equal(found["neck.stage3"], model.neck(maps)[0])
    assert all(torch.equal(a, b) for a, b in zip(found["backbone"], maps, strict=True))


def test_torchvision_extracts_the_same() -> None:
    torch.manual_seed(0)
    theirs = resnet18().eval()
    ours = zoo.build("resnet18").eval()
    ours.backbone.load_state_dict({n: t for n, t in theirs.state_dict().items() if not n.startswith("fc")})
    names = {"layer1": "backbone.stage1", "layer2.0.bn1": "backbone.layer2.0.bn1", "layer3": "backbone.stage3"}
    names |= {"layer4.1.relu_1": "backbone.layer4.1.relu#2", "layer1.0.conv1": "backbone.layer1.0.conv1"}
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = create_feature_extractor(theirs, {n: n for n in names})(x)
        found = ours.features_at(x, names.values())
    written_over = expected.pop("layer2.0.bn1")  # torchvision gives it as the activation in place leaves it
    assert torch.equal(found["backbone.layer2.0.bn1"].relu(), written_over)
    for theirs_name, value in expected.items():
        assert torch.equal(found[names[theirs_name]], value), theirs_name


@pytest.mark.parametrize(
    ("names", "ran", "did_not"),
    [
        (["backbone.stage1"], "backbone.layer1", "backbone.layer2.0.conv1"),
        (["backbone.layer2.0.conv1", "backbone.stage1"], "backbone.layer2.0.conv1", "backbone.layer2.0.bn1"),
        (["backbone.stage3"], "backbone.layer3", "neck"),
        (["backbone"], "backbone", "neck"),
        (["neck"], "neck", "head"),
        (["backbone.layer1.0.relu#1"], "backbone.layer1.0.bn1", "backbone.layer1.0.conv2"),
    ],
)
def test_a_run_ends_where_the_last_map_is_there(names, ran, did_not, model: zoo.Model, x: torch.Tensor) -> None:
    extraction = zoo.extract(model, names)
    counts = calls(model)
    extraction(x)
    assert counts.get(ran)
    assert did_not not in counts


def test_a_module_that_is_called_several_times_needs_a_number(model: zoo.Model, x: torch.Tensor) -> None:
    with pytest.raises(PartError, match=r"backbone.layer1.0.relu: is called 2 times; say which: 'backbone.*relu#1', "):
        zoo.extract(model, "backbone.layer1.0.relu")
    found = model.features_at(x, ["backbone.layer1.0.relu#1", "backbone.layer1.0.relu#2"])
    first, second = hooked(model, "backbone.layer1.0.relu", x)
    assert torch.equal(found["backbone.layer1.0.relu#1"], first)
    assert torch.equal(found["backbone.layer1.0.relu#2"], second)
    with pytest.raises(PartError, match=r"relu#3: there are 2 calls of 'backbone.layer1.0.relu' when the model runs"):
        zoo.extract(model, "backbone.layer1.0.relu#3")


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("backbone.stage4", "backbone.stage"),
        ("backbone.layer1.0.conv3", "backbone.layer1.0.conv"),
        ("haed", "head"),
        ("backbone.conv1#0", "backbone.conv1"),
        ("backbone.conv1#first", "backbone.conv1"),
    ],
)
def test_what_is_not_there_is_answered_with_the_nearest(name: str, guess: str, model: zoo.Model) -> None:
    with pytest.raises(UnknownNameError) as caught:
        zoo.extract(model, ["backbone.stage1", name])
    assert caught.value.nearest[0].startswith(guess)
    assert "backbone.stage3" in caught.value.known


def test_nothing_and_what_is_never_called_are_refused(model: zoo.Model) -> None:
    with pytest.raises(ZooError, match=r"found no names of maps to extract; expected some, such as"):
        zoo.extract(model, [])
    model.backbone.idle = nn.Identity()
    with pytest.raises(PartError, match=r"backbone.idle: is not called when the model runs, so that it gives nothing"):
        zoo.extract(model, ["backbone.idle"])


def test_hooks_are_gone_after_a_run_and_after_an_error(model: zoo.Model, x: torch.Tensor) -> None:
    extraction = zoo.extract(model, ["backbone.layer1.0.conv1", "backbone.layer2", "backbone.stage2"])
    extraction(x)
    assert not any(m._forward_hooks for m in model.modules())
    broken = model.backbone.layer1.register_forward_pre_hook(lambda m, i: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        extraction(x)
    broken.remove()
    assert not any(m._forward_hooks for m in model.modules())
    with pytest.raises(zoo.ZooError, match="model input"):
        extraction(x[:, :, 0])


def test_gradients_flow_and_frozen_parts_stay_frozen(model: zoo.Model, x: torch.Tensor) -> None:
    model.freeze(until="backbone.stage1").train()
    before = model.backbone.bn1.running_mean.clone()
    extraction = zoo.extract(model, ["backbone.stage2"]).train()
    extraction(x)["backbone.stage2"].sum().backward()
    assert torch.equal(before, model.backbone.bn1.running_mean)
    assert model.backbone.layer1[0].conv1.weight.grad is None
    assert model.backbone.layer2[0].conv1.weight.grad is not None
    assert model.backbone.layer3[0].conv1.weight.grad is None


def test_a_run_of_another_thread_goes_to_its_end(model: zoo.Model, x: torch.Tensor) -> None:
    results: list[torch.Tensor] = []
    expected = model(x)
    mine = threading.current_thread()

    def run_elsewhere(*_: object) -> None:
        if threading.current_thread() is mine:
            worker = threading.Thread(target=lambda: results.append(model(x)))
            worker.start()
            worker.join()

    extraction = zoo.extract(model, "backbone.stage2")
    model.backbone.layer1.register_forward_hook(run_elsewhere)
    extraction(x)
    assert torch.equal(results[0], expected)


@pytest.mark.parametrize(
    ("names", "fullgraph"),
    [(["backbone.stage1", "neck", "head"], True), (["backbone.bn1", "backbone.stage1"], False)],
)
def test_torch_compile_computes_the_same(names, fullgraph: bool, model: zoo.Model, x: torch.Tensor) -> None:
    extraction = zoo.extract(model, names).eval()
    compiled = torch.compile(extraction, backend="aot_eager", fullgraph=fullgraph)
    with torch.no_grad():
        expected, found = extraction(x), compiled(x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert not any(m._forward_hooks for m in model.modules())


def test_torch_export_takes_modules_too(model: zoo.Model, x: torch.Tensor) -> None:
    extraction = zoo.extract(model, ["backbone.bn1", "backbone.stage1"]).eval()
    exported = torch.export.export(extraction, (x,))
    torch.testing.assert_close(exported.module()(x), extraction(x), rtol=1e-5, atol=1e-6)
    assert not any("layer2" in str(n.target) for n in exported.graph.nodes if n.op == "call_function")


def test_an_extraction_of_a_compiled_model_is_one_of_the_model(model: zoo.Model, x: torch.Tensor) -> None:
    compiled = torch.compile(model, backend="eager")
    assert torch.equal(zoo.extract(compiled, "head")(x)["head"], model(x))


class Looking(nn.Module):
    """A backbone that looks at its values, which the meta device has none of, and writes over one."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4, 3, stride=2)
        self.act = nn.ReLU(inplace=True)
        self.features = (Feature("all", 4, 2),)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.act(self.act(self.conv(x if x.sum() > 0 else -x))),)


def test_a_backbone_that_the_meta_device_cannot_run_is_run_to_its_end(x: torch.Tensor) -> None:
    kinds.backbones.register("looking", Looking)
    try:
        model = zoo.build({"backbone": "looking", "input": {"channels": 1}}).eval()
    finally:
        kinds.backbones.unregister("looking")
    found = model.features_at(x, ["backbone.conv", "backbone.act#2", "backbone.all"])
    assert found["backbone.conv"].min() < 0
    assert torch.equal(found["backbone.act#2"], found["backbone.conv"].relu())
    assert torch.equal(found["backbone.all"], found["backbone.act#2"])
    with pytest.raises(PartError, match=r"backbone.act: is called several times; say which, 'backbone.act#1' or"):
        model.features_at(x, "backbone.act")
    with pytest.raises(PartError, match=r"backbone.act#3: was not called in this run"):
        model.features_at(x, "backbone.act#3")


def test_making_an_extraction_leaves_the_model_as_it_is(model: zoo.Model) -> None:
    before = {n: t.clone() for n, t in model.state_dict().items()}
    state = torch.get_rng_state()
    with torch.inference_mode():
        zoo.extract(model.train(), ["backbone.bn1"])
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


def test_what_auxiliary_heads_give_is_there_in_training_mode_alone(model: zoo.Model, x: torch.Tensor) -> None:
    branch = {"type": "branch", "neck": "gap", "head": {"type": "linear", "num_classes": 10}}
    model = zoo.build("resnet-lite", aux={"stage2": {"head": branch}})
    extraction = zoo.extract(model, ["aux.stage2", "head", "backbone.stage1", "backbone.stage3"])
    twin = copy.deepcopy(model)
    found, expected = extraction(x), twin(x)
    assert torch.equal(found["aux.stage2"], expected.aux["stage2"])
    assert torch.equal(found["head"], expected.out)
    assert torch.equal(found["backbone.stage1"], zoo.extract(twin, "backbone.stage1")(x)["backbone.stage1"])
    extraction.eval()
    with pytest.raises(PartError, match=r"aux.stage2: was not called in this run, so that it gave nothing"):
        extraction(x)
