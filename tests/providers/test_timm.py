"""timm as a namespace: its models give what they declare, refuse what they cannot take, and fetch nothing unasked."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

import zoo
from zoo import kinds
from zoo.builder import compose
from zoo.errors import PartError, ShapeError, UnknownNameError, ZooError
from zoo.ghost import still
from zoo.providers.timm import family

# Name, a size that it takes, and a larger one that shows its strides (None where its size is fixed when it is built).
SAMPLE = [
    ("bat_resnext26ts", 256, 512),
    ("beit_base_patch16_224", 64, None),
    ("cait_xxs24_224", 64, None),
    ("coat_tiny", 64, None),
    ("convit_tiny", 64, None),
    ("convmixer_768_32", 63, 126),
    ("convnext_atto", 64, 128),
    ("convnextv2_atto", 64, 128),
    ("cs3darknet_s", 64, 128),
    ("cspresnet50", 64, 128),
    ("davit_tiny", 64, 128),
    ("deit_tiny_patch16_224", 64, None),
    ("densenet121", 64, 128),
    ("dla34", 64, 128),
    ("dpn48b", 64, 128),
    ("edgenext_xx_small", 64, 128),
    ("efficientformer_l1", 224, None),
    ("efficientformerv2_s0", 224, None),
    ("efficientnet_b0", 64, 128),
    ("efficientvit_b0", 64, 128),
    ("efficientvit_m0", 224, None),
    ("eva02_tiny_patch14_224", 56, None),
    ("fasternet_t0", 64, 128),
    ("fastvit_t8", 64, 128),
    ("fbnetv3_b", 64, 128),
    ("focalnet_tiny_srf", 64, 128),
    ("gcvit_xxtiny", 224, None),
    ("gernet_s", 64, 128),
    ("ghostnet_050", 64, 128),
    ("halonet26t", 256, 512),
    ("hgnet_tiny", 64, 128),
    ("hiera_tiny_224", 224, None),
    ("hrnet_w18_small", 64, 128),
    ("inception_next_atto", 64, 128),
    ("inception_resnet_v2", 139, 203),
    ("inception_v3", 139, 203),
    ("inception_v4", 139, 203),
    ("lcnet_035", 64, 128),
    ("legacy_senet154", 64, 128),
    ("levit_128s", 224, None),
    ("mambaout_femto", 64, 128),
    ("maxvit_rmlp_pico_rw_256", 256, None),
    ("mixer_s32_224", 64, None),
    ("mnasnet_small", 64, 128),
    ("mobilenetv3_small_050", 64, 128),
    ("mobilenetv4_conv_small_035", 64, 128),
    ("mobileone_s0", 64, 128),
    ("mobilevit_xxs", 64, 128),
    ("mvitv2_tiny", 224, None),
    ("nest_tiny", 224, None),
    ("nextvit_small", 64, 128),
    ("nfnet_f0", 64, 128),
    ("pit_ti_224", 224, None),
    ("poolformer_s12", 64, 128),
    ("pvt_v2_b0", 64, 128),
    ("rdnet_tiny", 64, 128),
    ("regnety_002", 64, 128),
    ("repghostnet_050", 64, 128),
    ("repvgg_a0", 64, 128),
    ("repvit_m0_9", 64, 128),
    ("res2net50_14w_8s", 64, 128),
    ("resnest14d", 64, 128),
    ("resnet18", 64, 128),
    ("resnet50d", 64, 128),
    ("resnetv2_50", 64, 128),
    ("resmlp_12_224", 64, None),
    ("rexnet_100", 64, 128),
    ("samvit_base_patch16_224", 224, None),
    ("selecsls42", 64, 128),
    ("seresnet18", 64, 128),
    ("shvit_s1", 256, 512),
    ("skresnet18", 64, 128),
    ("starnet_s050", 64, 128),
    ("swiftformer_xs", 224, 448),
    ("swin_tiny_patch4_window7_224", 64, None),
    ("swinv2_cr_tiny_224", 224, None),
    ("swinv2_tiny_window8_256", 64, None),
    ("tf_efficientnetv2_b0", 64, 128),
    ("tiny_vit_5m_224", 224, None),
    ("tnt_s_patch16_224", 64, None),
    ("tresnet_m", 64, 128),
    ("twins_svt_small", 224, None),
    ("vgg11_bn", 64, 128),
    ("visformer_tiny", 224, None),
    ("vit_tiny_patch16_224", 64, None),
    ("vit_relpos_small_patch16_224", 64, None),
    ("vovnet39a", 64, 128),
    ("xception41", 64, 128),
    ("xcit_nano_12_p16_224", 64, 128),
]

HEAVY = {
    "bat_resnext26ts",
    "cait_xxs24_224",
    "coat_tiny",
    "convit_tiny",
    "convnextv2_atto",
    "davit_tiny",
    "densenet121",
    "fastvit_t8",
    "fbnetv3_b",
    "focalnet_tiny_srf",
    "inception_resnet_v2",
    "inception_v3",
    "inception_v4",
    "legacy_senet154",
    "maxvit_rmlp_pico_rw_256",
    "mobileone_s0",
    "mvitv2_tiny",
    "nextvit_small",
    "res2net50_14w_8s",
    "swiftformer_xs",
    "swinv2_tiny_window8_256",
    "tiny_vit_5m_224",
    "tnt_s_patch16_224",
    "twins_svt_small",
    "xcit_nano_12_p16_224",
}
REAL = ["efficientnet_b0", "lcnet_035", "pit_ti_224", "resnet18", "vit_tiny_patch16_224"]
SIZES = {name: size for name, size, _ in SAMPLE}


def test_the_sample_is_broad() -> None:
    assert len(SAMPLE) == len(SIZES) >= 85
    assert len(SIZES.keys() - HEAVY) >= 60
    assert len({family(name) for name in SIZES.keys() - HEAVY}) >= 50


@pytest.mark.parametrize(
    ("name", "size", "larger"),
    [pytest.param(*one, id=one[0], marks=[pytest.mark.slow] if one[0] in HEAVY else []) for one in SAMPLE],
)
def test_a_model_gives_what_it_declares(name: str, size: int, larger: int | None, gives_what_it_declares) -> None:
    gives_what_it_declares(f"timm:{name}", size, larger)


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_a_model_with_weights_gives_what_it_declares_for_grey(name: str, gives_what_it_declares) -> None:
    gives_what_it_declares(f"timm:{name}", SIZES[name], device="cpu", channels=1)
    gc.collect()


@pytest.mark.parametrize("name", REAL)
def test_a_model_with_weights_takes_grey_and_learns(name: str, build: Callable[..., zoo.Model]) -> None:
    model = build(f"timm:{name}", SIZES[name], channels=1, out_indices=[2])
    [vector] = model(torch.randn(2, 1, SIZES[name], SIZES[name]))
    assert vector.shape == (2, model.features[-1].channels)
    vector.square().sum().backward()
    assert next(p for p in model.parameters() if p.dim() == 4).grad.abs().sum() > 0


def test_the_model_of_the_tour_trains() -> None:
    model = zoo.build({"backbone": "timm:resnet18", "neck": "gap", "head": {"type": "linear", "num_classes": 3}})
    assert model.spec["backbone"] == {
        "type": "timm:resnet18",
        "out_indices": None,
        "pretrained": False,
        "pooled": False,
    }
    assert model.lock == {"timm": version("timm"), "zoo-torch": version("zoo-torch")}
    assert [f.size for f in zoo.build({"backbone": "timm:resnet18"}).features] == [None] * 5
    before = [p.detach().clone() for p in model.parameters()]
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.nn.functional.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.tensor([0, 1, 2, 0])).backward()
    optimiser.step()
    assert not torch.equal(before[0], next(model.parameters()))


def test_it_gives_the_numbers_that_timm_gives() -> None:
    theirs = timm.create_model("resnet18", features_only=True).eval()
    ours = zoo.build({"backbone": "timm:resnet18"}).eval()
    ours.backbone.network.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 48, 80)
    for expected, found in zip(theirs(x), ours(x), strict=True):
        assert torch.equal(expected, found)


def test_maps_with_channels_last_are_turned() -> None:
    theirs = timm.create_model("swin_tiny_patch4_window7_224", features_only=True, img_size=64).eval()
    ours = compose({"input": {"size": [64, 64]}, "backbone": "timm:swin_tiny_patch4_window7_224"}, "cpu").eval()
    ours.backbone.network.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 64, 64)
    for expected, found in zip(theirs(x), ours(x), strict=True):
        assert torch.equal(expected.permute(0, 3, 1, 2), found)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "tresnet_m"])
def test_out_indices_pick_among_all_the_maps(name: str) -> None:
    def features(**parameters: object) -> tuple[zoo.Feature, ...]:
        spec = {"input": {"size": [64, 64]}, "backbone": {"type": f"timm:{name}", **parameters}}
        return compose(spec, "meta").features

    every = features()
    assert features(out_indices=[1, 3]) == (every[1], every[3])
    assert features(out_indices=[0]) == every[:1]


@pytest.mark.parametrize("indices", [[], [5], [0, 5], [2, 1], [1, 1], [-1]])
def test_out_indices_that_are_not_there_are_told(indices: list[int]) -> None:
    with pytest.raises(ShapeError) as raised:
        zoo.build({"backbone": {"type": "timm:resnet18", "out_indices": indices}})
    assert str(raised.value) == (
        f"spec.backbone (timm:resnet18) after the input: found out_indices={indices}; expected rising numbers from 0 "
        "to 4: timm:resnet18 gives 5 maps, of stride 2, 4, 8, 16, 32"
    )


def test_an_input_that_is_too_small_is_told_before_a_weight_is_there() -> None:
    with pytest.raises(ShapeError) as raised:
        zoo.build({"input": {"size": [8, 9]}, "backbone": "timm:inception_v4"})
    assert raised.value.where == "spec.backbone (timm:inception_v4) after the input"
    assert raised.value.found == "an input of 8×9"
    assert raised.value.expected.startswith("a size that timm:inception_v4 takes, such as 299×299 (RuntimeError: ")


def test_a_size_that_patches_do_not_divide_is_told() -> None:
    with pytest.raises(
        ShapeError, match=r"found an input of 60×70; expected a size that timm:halonet26t takes, such as"
    ):
        zoo.build({"input": {"size": [60, 70]}, "backbone": "timm:halonet26t"})


def test_an_input_that_is_no_image_is_told() -> None:
    with pytest.raises(
        ShapeError, match="found an input with 3 axes; expected two, height and width, for timm:resnet18"
    ):
        zoo.build({"input": {"size": [8, 8, 8]}, "backbone": "timm:resnet18"})


def test_another_size_than_a_fixed_one_is_told_when_the_model_is_called() -> None:
    model = compose({"backbone": "timm:vit_tiny_patch16_224"}, "cpu")
    assert model.features[-1].size == (14, 14)
    with pytest.raises(ShapeError) as raised:
        model(torch.zeros(1, 3, 32, 32))
    assert raised.value.where == "model input"
    assert raised.value.found == "an input of shape (1, 3, 32, 32)"
    assert "Input height (32) doesn't match model (224)" in raised.value.expected
    assert raised.value.expected.endswith("if its size is fixed, state yours in the spec and build it anew")


def test_a_fault_that_is_not_the_shape_is_left_as_it_is(build: Callable[..., zoo.Model]) -> None:
    with pytest.raises(RuntimeError, match="expected scalar type Double but found Float"):
        build("timm:resnet18")(torch.zeros(2, 3, 64, 64, dtype=torch.float64))


@pytest.mark.filterwarnings("ignore:CSATv2 is designed for 3-channel RGB input")  # true, and what is tested here
def test_channels_that_a_model_cannot_take_are_told() -> None:
    with pytest.raises(
        ShapeError, match=r"found 1 input channels; expected 3, the number that timm:csatv2 takes \(Runt"
    ):
        zoo.build({"input": {"channels": 1}, "backbone": "timm:csatv2"})


def test_a_model_that_cannot_be_a_backbone_says_why() -> None:
    with pytest.raises(PartError) as raised:
        zoo.build({"backbone": "timm:gemma4_vit_167m"})
    assert raised.value.where == "timm:gemma4_vit_167m"
    assert raised.value.reason.startswith("cannot be a backbone: RuntimeError: Tensor.item() cannot be called on meta")


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown backbone 'timm:resnet18x' \(did you mean timm:resnet18"):
        kinds.backbones.get("timm:resnet18x")
    with pytest.raises(UnknownNameError, match=r"unknown backbone 'timm:resnet18x' \(did you mean resnet18"):
        kinds.providers.get("timm").component("backbone", "resnet18x")
    assert kinds.heads.names("timm:*") == []


def test_every_model_of_timm_is_listed_once() -> None:
    listed = kinds.backbones.names("timm:*")
    assert [name.partition(":")[2] for name in listed] == timm.list_models()
    assert len(listed) > 1000


def test_nothing_is_fetched_unless_asked_for(no_download: list[str], tmp_path: Path) -> None:
    spec = {"input": {"size": [32, 32]}, "backbone": "timm:resnet18"}
    saved = zoo.save(zoo.build(spec), tmp_path / "plain.safetensors")
    compose({**spec, "backbone": {"type": "timm:resnet18", "pretrained": True}}, "meta")
    zoo.load(saved)
    kinds.backbones.get("timm:resnet18")(in_channels=3, initialise=False, pretrained=True)
    assert no_download == []
    with pytest.raises(PartError, match=r"timm:resnet18: its weights cannot be had \(OSError: .* look at the network"):
        zoo.build({**spec, "backbone": {"type": "timm:resnet18", "pretrained": True}})
    assert no_download


def test_weights_that_timm_has_not_are_told_at_once(no_download: list[str]) -> None:
    with pytest.raises(
        PartError, match="timm:cs3darknet_s: timm has no weights for it; build it with pretrained false"
    ):
        compose({"backbone": {"type": "timm:cs3darknet_s", "pretrained": True}}, "meta")
    assert no_download == []


@pytest.mark.parametrize("name", ["resnet18", "pit_ti_224"])
def test_a_saved_model_comes_back_bit_for_bit(name: str, build, randomise, tmp_path: Path) -> None:
    size = SIZES[name]
    model = randomise(build(f"timm:{name}", size, channels=1, out_indices=[0, 2])).eval()
    loaded = zoo.load(zoo.save(model, tmp_path / "model.safetensors")).eval()
    assert loaded.spec == model.spec
    assert loaded.features == model.features
    assert list(loaded.state_dict()) == list(model.state_dict())
    assert all(torch.equal(t, loaded.state_dict()[name]) for name, t in model.state_dict().items())
    x = torch.randn(1, 1, size, size)
    assert torch.allclose(loaded(x)[0], model(x)[0], atol=1e-6)


@pytest.mark.parametrize("name", ["resnet18", "pit_ti_224", "vit_tiny_patch16_224"])
def test_a_copy_is_a_model_of_its_own(name: str, build, randomise) -> None:
    size = SIZES[name]
    model = build(f"timm:{name}", size, out_indices=[2]).eval()
    x = torch.randn(1, 3, size, size)
    before = model(x)[0]
    twin = copy.deepcopy(model)
    assert not any(m.training for m in twin.modules())
    assert torch.equal(twin(x)[0], before)
    randomise(twin)
    assert torch.equal(model(x)[0], before)
    assert not torch.equal(twin(x)[0], before)


def test_importing_the_provider_imports_no_library(python) -> None:
    modules = "zoo.providers.timm, zoo.providers.torchvision"
    done = python(f"import sys, {modules}; print({{'torch', 'timm', 'torchvision'}} & {{*sys.modules}})")
    assert done.stdout.strip() == "set()", done.stderr


def test_every_error_is_one_of_zoo() -> None:
    for spec in ({"backbone": "timm:nope"}, {"backbone": {"type": "timm:resnet18", "out_indices": "all"}}):
        with pytest.raises(ZooError):
            zoo.build(spec)


@pytest.mark.parametrize("name", ["cait_xxs24_224", "swin_tiny_patch4_window7_224", "regnety_002", "convnext_atto"])
def test_a_constructor_that_need_not_set_values_makes_the_same(name: str) -> None:
    with torch.device("meta"):
        usual = timm.create_model(name).state_dict()
        with still():
            found = timm.create_model(name).state_dict()
    assert list(found) == list(usual)
    for key, tensor in usual.items():
        assert (found[key].shape, found[key].dtype, found[key].device) == (tensor.shape, tensor.dtype, tensor.device)


def test_values_are_set_where_there_are_any() -> None:
    with still():
        weight = nn.init.constant_(torch.empty(3), 2.0).mul_(2)
        parts = torch.empty(3, device="meta").add_(torch.empty(1, device="meta"))
    assert weight.tolist() == [4.0, 4.0, 4.0]
    assert parts.shape == (3,)
    with still(), pytest.raises(RuntimeError):
        torch.empty(3, device="meta").add_(torch.empty(2, device="meta"))
