"""What no state dict holds comes back right too: buffers, attributes, hooks, marks on parameters, lazy layers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import zoo
from zoo import kinds
from zoo.held import unsaved
from zoo.weights.parity import compare

SPEC = {"backbone": "keeper", "neck": "gap", "head": {"type": "linear", "num_classes": 2}}


def double(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
    return output * 2


class Keeper(nn.Module):
    """Keeps tensors in every place but the state dict, and computes with all of them."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.register_buffer("ramp", torch.linspace(0, 1, 4).view(4, 1, 1), persistent=False)
        self.plain = torch.arange(4.0).view(4, 1, 1)
        self.several = {"a": [torch.full((4, 1, 1), 2.0)]}
        self.object = SimpleNamespace(scale=torch.tensor(0.5))
        self.weights = [self.conv.weight]
        self.lazy: torch.Tensor | None = None
        self.conv.bias.decay = False
        self.scaled = 0
        self.conv.register_forward_hook(double)
        offset = torch.tensor(3.0)
        self.norm.register_forward_hook(lambda module, args, output: output + offset)
        self.norm.register_forward_pre_hook(self._count)
        self.features = (zoo.Feature("kept", 4),)

    def _count(self, module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        self.scaled += 1

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if self.lazy is None:
            self.lazy = torch.ones(4, 1, 1, dtype=x.dtype)
        x = self.norm(self.conv(x)) * self.ramp + self.plain.to(x.dtype) * self.several["a"][0].to(x.dtype)
        return (x * self.object.scale.to(x.dtype) + self.lazy + self.weights[0].sum(),)


@pytest.fixture
def keeper() -> Iterator[None]:
    kinds.backbones.register("keeper", Keeper)
    yield
    kinds.backbones.unregister("keeper")


@pytest.mark.usefixtures("keeper")
@pytest.mark.parametrize("format_", ["pt", "safetensors"])
def test_a_loaded_model_holds_and_computes_the_same_as_the_one_that_was_saved(
    format_: str, randomise, tmp_path: Path
) -> None:
    model = randomise(zoo.build(SPEC)).eval()
    path = zoo.save(model, tmp_path / f"x.{format_}")
    back = zoo.load(path)
    assert compare(model.state_dict(), back.state_dict()).holds
    assert not any(t.is_meta for t in unsaved(back))
    here, there = model.backbone, back.backbone
    assert torch.equal(there.ramp, here.ramp)
    assert torch.equal(there.plain, here.plain)
    assert torch.equal(there.several["a"][0], here.several["a"][0])
    assert there.object.scale.item() == 0.5
    assert there.weights[0] is there.conv.weight
    assert there.conv.bias.decay is False
    x = torch.rand(2, 3, 5, 5)
    assert torch.equal(model(x), back(x))
    assert (here.scaled, there.scaled) == (1, 1)


@pytest.mark.usefixtures("keeper")
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_buffers_that_are_not_saved_have_the_precision_of_the_model(dtype: torch.dtype, tmp_path: Path) -> None:
    model = zoo.build(SPEC).to(dtype).eval()
    path = zoo.save(model, tmp_path / "x.safetensors")
    x = torch.rand(2, 3, 5, 5, dtype=dtype)
    for back in (zoo.load(path), zoo.load(zoo.save(zoo.build(SPEC), tmp_path / "y.pt"), dtype=dtype)):
        assert back.backbone.ramp.dtype == dtype
        assert back(x).dtype == dtype
    assert torch.equal(zoo.load(path)(x), model(x))


@pytest.mark.usefixtures("keeper")
def test_a_model_that_is_loaded_into_keeps_what_the_file_does_not_hold(randomise, tmp_path: Path) -> None:
    source = randomise(zoo.build(SPEC)).eval()
    path = zoo.save(source, tmp_path / "x.pt")
    model = zoo.build(SPEC).eval()
    ramp, hooks = model.backbone.ramp, dict(model.backbone.norm._forward_hooks)
    zoo.load_into(model, path)
    assert model.backbone.ramp is ramp
    assert model.backbone.norm._forward_hooks == hooks
    assert model.backbone.weights[0] is model.backbone.conv.weight
    x = torch.rand(2, 3, 5, 5)
    assert torch.equal(model(x), source(x))


@pytest.mark.usefixtures("keeper")
def test_rebuilding_for_real_draws_no_random_numbers(tmp_path: Path) -> None:
    path = zoo.save(zoo.build(SPEC), tmp_path / "x.pt")
    before = torch.get_rng_state()
    zoo.load(path)
    assert torch.equal(before, torch.get_rng_state())


class Marked(nn.Module):
    """Keeps nothing beside its parameters, but marks them."""

    def __init__(self, in_channels: int, watched: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4, 1)
        self.conv.bias.decay = False
        if watched:
            self.conv.weight.register_hook(lambda gradient: gradient * 0)
        self.features = (zoo.Feature("marked", 4),)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (self.conv(x),)


@pytest.mark.parametrize("watched", [False, True])
def test_marks_and_hooks_on_parameters_come_back(watched: bool, tmp_path: Path) -> None:
    kinds.backbones.register("marked", Marked)
    try:
        spec = {**SPEC, "backbone": {"type": "marked", "watched": watched}}
        back = zoo.load(zoo.save(zoo.build(spec), tmp_path / "x.pt"))
    finally:
        kinds.backbones.unregister("marked")
    assert back.backbone.conv.bias.decay is False
    back(torch.rand(1, 3, 4, 4)).sum().backward()
    assert bool(back.backbone.conv.weight.grad.any()) is not watched
    assert back.backbone.conv.bias.grad.any()


@pytest.mark.parametrize("beside", [False, True])
def test_a_layer_that_takes_its_shape_from_its_first_input_comes_back(beside: bool, tmp_path: Path) -> None:
    class Lazy(nn.Module):
        def __init__(self, in_channels: int) -> None:
            super().__init__()
            self.conv = nn.LazyConv2d(4, 1)
            self.beside = torch.ones(1) if beside else None
            self.features = (zoo.Feature("lazy", 4),)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return (self.conv(x),)

    kinds.backbones.register("lazy", Lazy)
    try:
        model = zoo.build({**SPEC, "backbone": "lazy"}).eval()
        x = torch.rand(1, 3, 4, 4)
        expected = model(x)
        back = zoo.load(zoo.save(model, tmp_path / "x.safetensors"))
    finally:
        kinds.backbones.unregister("lazy")
    assert compare(model.state_dict(), back.state_dict()).holds
    assert torch.equal(back(x), expected)


def test_a_model_without_such_tensors_is_built_on_the_meta_device_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.weights import rebuilding

    path = zoo.save(zoo.build("resnet-lite"), tmp_path / "x.safetensors")
    devices, real = [], rebuilding.assemble
    monkeypatch.setattr(rebuilding, "assemble", lambda p, d, **more: devices.append(d) or real(p, d, **more))
    zoo.load(path)
    assert devices == ["meta"]


def test_tensors_are_found_wherever_a_module_keeps_them() -> None:
    class Slots:
        __slots__ = ("value",)

    module = nn.Sequential(nn.Linear(2, 2))
    assert list(unsaved(module)) == []
    slotted = Slots()
    slotted.value = torch.tensor(1.0)
    module.a = (torch.tensor(2.0), {torch.tensor(3.0)})
    module.b = slotted
    module.c = {"x": {"y": [torch.tensor(4.0)]}}
    module.d = module.c  # seen once
    module.e, module.f, module.g = torch, nn.Linear, 3
    held = torch.tensor(5.0)
    module[0].register_forward_hook(lambda *_: held.clone())
    assert sorted(t.item() for t in unsaved(module)) == [1.0, 2.0, 3.0, 4.0, 5.0]
