"""torchvision as a namespace: one map for each stride, true to its feature, and nothing fetched unasked."""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

import zoo
from zoo import kinds
from zoo.builder import compose
from zoo.errors import PartError, ShapeError, UnknownNameError
from zoo.providers.torchvision import family

# Name, a size that it takes, and a larger one that shows its strides (None where its size is fixed when it is built).
SAMPLE = [
    ("alexnet", 96, 160),
    ("convnext_tiny", 64, 128),
    ("densenet121", 64, 128),
    ("efficientnet_b0", 64, 128),
    ("efficientnet_v2_s", 64, 128),
    ("googlenet", 64, 128),
    ("inception_v3", 107, 171),
    ("mnasnet0_5", 64, 128),
    ("mobilenet_v2", 64, 128),
    ("mobilenet_v3_small", 64, 128),
    ("regnet_x_400mf", 64, 128),
    ("regnet_y_400mf", 64, 128),
    ("resnet18", 64, 128),
    ("resnext50_32x4d", 64, 128),
    ("shufflenet_v2_x0_5", 64, 128),
    ("squeezenet1_1", 64, 128),
    ("swin_t", 64, 128),
    ("swin_v2_t", 64, 128),
    ("vgg11_bn", 64, 128),
    ("wide_resnet50_2", 64, 128),
]
SIZES = {name: size for name, size, _ in SAMPLE}
MORE_OF_A_FAMILY = {"efficientnet_v2_s", "regnet_x_400mf", "resnext50_32x4d", "swin_v2_t", "wide_resnet50_2"}
SLOW_TO_TRACE = "maxvit_t"
TOKENS = "vit_b_32"


def test_the_sample_has_every_family() -> None:
    listed = kinds.backbones.names("torchvision:*")
    assert [name.partition(":")[2] for name in listed] == torchvision.models.list_models(module=torchvision.models)
    families = {family(name.partition(":")[2]) for name in listed}
    assert {family(name) for name in (*SIZES, SLOW_TO_TRACE, TOKENS)} == families


@pytest.mark.parametrize(
    ("name", "size", "larger"),
    [pytest.param(*one, id=one[0], marks=[pytest.mark.slow] if one[0] in MORE_OF_A_FAMILY else []) for one in SAMPLE],
)
def test_a_model_gives_what_it_declares(name: str, size: int, larger: int, gives_what_it_declares) -> None:
    features = gives_what_it_declares(f"torchvision:{name}", size, larger)
    strides = [f.stride for f in features]
    assert strides == sorted(set(strides))
    assert max(strides) >= 16


@pytest.mark.slow
def test_a_model_of_one_size_is_built_for_the_one_in_the_spec(gives_what_it_declares) -> None:
    for size in (224, 448):
        features = gives_what_it_declares("torchvision:maxvit_t", size)
        assert [f.size[0] for f in features] == [size // s for s in (2, 4, 8, 16, 32)]
    with pytest.raises(
        ShapeError, match="found an input of 100×100; expected a size that torchvision:maxvit_t takes, su"
    ):
        zoo.build({"input": {"size": [100, 100]}, "backbone": "torchvision:maxvit_t"})


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_a_model_with_weights_gives_what_it_declares_for_grey(name: str, gives_what_it_declares) -> None:
    gives_what_it_declares(f"torchvision:{name}", SIZES[name], device="cpu", channels=1)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "regnet_y_400mf"])
def test_a_model_with_weights_takes_grey_and_learns(name: str, build: Callable[..., zoo.Model]) -> None:
    model = build(f"torchvision:{name}", channels=1)
    [vector] = model(torch.randn(2, 1, 64, 64))
    vector.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.features[-1].size == ()


def test_the_maps_of_a_resnet_are_the_ends_of_its_stages() -> None:
    model = compose({"input": {"size": [224, 224]}, "backbone": "torchvision:resnet50"}, "meta")
    assert [(f.name, f.shape_text, f.stride) for f in model.features] == [
        ("relu", "64×112×112", 2),
        ("layer1.2.relu_2", "256×56×56", 4),
        ("layer2.3.relu_2", "512×28×28", 8),
        ("layer3.5.relu_2", "1024×14×14", 16),
        ("layer4.2.relu_2", "2048×7×7", 32),
    ]
    assert model.lock == {"torchvision": version("torchvision"), "zoo-torch": version("zoo-torch")}
    assert model.spec["backbone"] == {
        "type": "torchvision:resnet50",
        "out_indices": None,
        "pretrained": False,
        "pooled": False,
    }


def test_it_gives_the_numbers_that_torchvision_gives() -> None:
    theirs = torchvision.models.resnet18(weights=None).eval()
    ours = compose({"backbone": "torchvision:resnet18"}, "cpu").eval()
    mine = ours.backbone.network.state_dict()
    ours.backbone.network.load_state_dict({name: theirs.state_dict()[name] for name in mine})
    x = torch.randn(2, 3, 48, 80)
    expected = create_feature_extractor(theirs, [f.name for f in ours.features])(x)
    for feature, found in zip(ours.features, ours(x), strict=True):
        assert torch.equal(expected[feature.name], found)


def test_maps_with_channels_last_are_turned() -> None:
    model = compose({"backbone": {"type": "torchvision:swin_t", "out_indices": [0]}}, "cpu").eval()
    x = torch.randn(1, 3, 64, 64)
    [given] = model.backbone.network(x).values()
    assert given.shape == (1, 16, 16, 96)
    assert torch.equal(model(x)[0], given.permute(0, 3, 1, 2))


def test_no_class_is_among_the_maps() -> None:
    model = compose({"backbone": "torchvision:squeezenet1_1"}, "meta")
    assert not any(f.name.startswith("classifier") for f in model.features)
    assert model.features[-1].channels == 512


def test_out_indices_pick_among_all_the_maps() -> None:
    def features(**parameters: object) -> tuple[zoo.Feature, ...]:
        return compose({"backbone": {"type": "torchvision:resnet18", **parameters}}, "meta").features

    assert features(out_indices=[1, 3]) == (features()[1], features()[3])
    assert [f.size for f in features()] == [None] * 5


@pytest.mark.parametrize("indices", [[], [5], [2, 1], [-1]])
def test_out_indices_that_are_not_there_are_told(indices: list[int]) -> None:
    with pytest.raises(ShapeError) as raised:
        zoo.build({"backbone": {"type": "torchvision:resnet18", "out_indices": indices}})
    assert str(raised.value) == (
        f"spec.backbone (torchvision:resnet18) after the input: found out_indices={indices}; expected rising numbers "
        "from 0 to 4: torchvision:resnet18 gives 5 maps, of stride 2, 4, 8, 16, 32"
    )


def test_an_input_that_is_too_small_is_told_before_a_weight_is_there() -> None:
    with pytest.raises(ShapeError) as raised:
        zoo.build({"input": {"size": [20, 20]}, "backbone": "torchvision:alexnet"})
    assert raised.value.where == "spec.backbone (torchvision:alexnet) after the input"
    assert raised.value.found == "an input of 20×20"
    assert raised.value.expected.startswith("a size that torchvision:alexnet takes, such as 224×224 (RuntimeError: ")


def test_an_input_that_is_too_small_is_told_when_the_model_is_called() -> None:
    model = compose({"backbone": "torchvision:alexnet"}, "cpu")
    with pytest.raises(
        ShapeError, match=r"found an input of shape \(1, 3, 9, 9\); expected one that torchvision:alexnet"
    ):
        model(torch.zeros(1, 3, 9, 9))


def test_a_transformer_of_tokens_cannot_be_a_backbone() -> None:
    with pytest.raises(PartError) as raised:
        zoo.build({"backbone": f"torchvision:{TOKENS}"})
    assert str(raised.value) == (
        f"torchvision:{TOKENS}: cannot be a backbone: it computes with tokens; no map (N, C, H, W) is there that all "
        "of it passes through; pooled gives its vector"
    )


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown backbone 'torchvision:resnet19' \(did you mean torchvision:resn"
    ):
        kinds.backbones.get("torchvision:resnet19")
    with pytest.raises(UnknownNameError, match=r"unknown head 'torchvision:resnet18'; registered: none"):
        kinds.providers.get("torchvision").component("head", "resnet18")


def test_nothing_is_fetched_unless_asked_for(no_download: list[str], tmp_path: Path) -> None:
    asking = {"backbone": {"type": "torchvision:resnet18", "pretrained": True}}
    compose(asking, "meta")
    zoo.load(zoo.save(zoo.build({"backbone": "torchvision:resnet18"}), tmp_path / "plain.safetensors"))
    kinds.backbones.get("torchvision:resnet18")(in_channels=3, initialise=False, pretrained=True)
    assert no_download == []
    with pytest.raises(
        PartError, match=r"torchvision:resnet18: its weights cannot be had \(OSError: .* look at the ne"
    ):
        zoo.build(asking)
    assert no_download


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_trained_weights_are_adapted_to_the_channels(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = torchvision.models.resnet18(weights=None)
    monkeypatch.setattr("torchvision.models.get_model", lambda name, **options: _named(name, trained, **options))
    model = zoo.build(
        {"input": {"channels": channels}, "backbone": {"type": "torchvision:resnet18", "pretrained": True}}
    )
    first, kernel = model.backbone.network.conv1, trained.conv1.weight
    expected = {
        1: kernel.sum(dim=1, keepdim=True),
        3: kernel,
        5: torch.cat([kernel, kernel[:, :2]], dim=1) * (3 / 5),
    }
    assert torch.allclose(first.weight, expected[channels])
    assert torch.equal(model.backbone.network.get_parameter("layer4.1.conv2.weight"), trained.layer4[1].conv2.weight)


@pytest.fixture(params=["googlenet", "inception_v3"])
def of_two_starts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name a model that recolours its input for trained weights, of which some are there."""
    torch.manual_seed(0)
    there = torchvision.models.get_model(request.param, weights=None, init_weights=False, aux_logits=True).state_dict()
    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", lambda *_, **__: there)
    return str(request.param)


@pytest.mark.parametrize("pooled", [False, True])
def test_a_trained_model_that_recolours_its_input_does_so_when_it_comes_back(
    of_two_starts: str, pooled: bool, tmp_path: Path
) -> None:
    backbone = {"type": f"torchvision:{of_two_starts}", "pretrained": True, "pooled": pooled}
    model = zoo.build({"backbone": backbone}).eval()
    again = zoo.load(zoo.save(model, tmp_path / "model.pt")).eval()
    x = torch.rand(1, 3, 107, 107)
    with torch.no_grad():
        assert all(map(torch.equal, again(x), model(x)))
    assert len(model.train()(torch.rand(2, 3, 107, 107))) == len(model.features)


def test_a_file_of_trained_weights_comes_home_with_what_they_want(of_two_starts: str, tmp_path: Path) -> None:
    theirs = torchvision.models.get_model(of_two_starts, weights="DEFAULT").eval()
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    backbone = {"type": f"torchvision:{of_two_starts}", "pretrained": True, "pooled": True}
    ours = zoo.load(
        tmp_path / "theirs.pth", spec={"backbone": backbone, "head": {"type": "linear", "num_classes": 1000}}
    )
    x = torch.rand(1, 3, 107, 107)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


def test_the_one_size_of_trained_weights_is_told(no_download: list[str]) -> None:
    spec = {
        "input": {"size": [224, 224]},
        "backbone": {"type": "torchvision:vit_h_14", "pretrained": True, "pooled": True},
    }
    with pytest.raises(ShapeError, match="found an input of 224×224; expected 518×518, the one size"):
        zoo.build(spec)
    assert no_download == []


def _named(name: str, trained: nn.Module, weights: str | None, **options: object) -> nn.Module:
    assert weights in (None, "DEFAULT")
    return copy.deepcopy(trained) if weights else torchvision.models.resnet18(weights=None, **options)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", pytest.param("swin_t", marks=pytest.mark.slow)])
def test_a_saved_model_comes_back_bit_for_bit(name: str, build, tmp_path: Path) -> None:
    model = build(f"torchvision:{name}", channels=1, out_indices=[0, 2]).eval()
    loaded = zoo.load(zoo.save(model, tmp_path / "model.safetensors")).eval()
    assert loaded.spec == model.spec
    assert loaded.features == model.features
    assert list(loaded.state_dict()) == list(model.state_dict())
    assert all(torch.equal(t, loaded.state_dict()[name]) for name, t in model.state_dict().items())
    x = torch.randn(1, 1, 64, 64)
    # The tensors are equal; where they lie in memory decides which kernel a processor takes.
    assert torch.allclose(loaded(x)[0], model(x)[0], atol=1e-6)


def test_a_copy_is_a_model_of_its_own_in_the_same_mode(build, randomise) -> None:
    model = build("torchvision:efficientnet_b0").eval()
    model.backbone.network.features.train()
    twin = copy.deepcopy(model)
    assert [m.training for m in twin.modules()] == [m.training for m in model.modules()]
    model.eval()
    twin.eval()
    x = torch.randn(1, 3, 64, 64)
    before = model(x)[0]
    assert torch.equal(twin(x)[0], before)
    assert list(twin.state_dict()) == list(model.state_dict())
    randomise(twin)
    assert torch.equal(model(x)[0], before)


def test_what_is_frozen_runs_as_in_inference(build) -> None:
    model = build("torchvision:efficientnet_b0")  # stochastic depth drops blocks in training
    x = torch.randn(2, 3, 64, 64)
    model.train().freeze("backbone")
    frozen = model(x)[0]
    assert torch.equal(frozen, model(x)[0])
    assert torch.equal(frozen, model.eval()(x)[0])
    model.unfreeze("backbone")
    model.train()
    assert not torch.equal(model(x)[0], frozen)
