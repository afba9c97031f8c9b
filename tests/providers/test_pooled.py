"""Pooled backbones give what a library's classifier takes, so that whole checkpoints and graphs come home."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import disguises
import pytest
import strangers
import timm
import torch
import torchvision
from strangers import Stranger
from torch import nn

import zoo
from zoo.builder import compose
from zoo.errors import KeymapError, PartError, ShapeError

SAMPLE = [
    ("timm:vit_tiny_patch16_224", 224),  # a token, behind a norm that its maps lack
    ("timm:convnext_atto", 64),
    ("timm:mobilenetv3_small_050", 64),  # a convolution comes before its classifier
    ("torchvision:mobilenet_v3_small", 64),
    ("torchvision:convnext_tiny", 64),
]
LARGE = [
    ("timm:vit_small_patch14_dinov2", 518),  # made for no classes
    ("torchvision:vit_b_32", 224),  # no backbone without
    ("torchvision:alexnet", 64),
    ("timm:eva02_tiny_patch14_224", 224),
    ("timm:swinv2_tiny_window8_256", 256),
]


def made(name: str, **options: Any) -> nn.Module:
    """Return a library's own model, with other numbers than it starts with."""
    library, _, model = name.partition(":")
    torch.manual_seed(0)
    theirs: nn.Module = (timm.create_model if library == "timm" else torchvision.models.get_model)(model, **options)
    with torch.no_grad():
        for key, tensor in theirs.state_dict().items():
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor) * 0.02 + (0.5 if key.endswith("running_var") else 0))
    return theirs.eval()


def whole(name: str, size: int, classes: int = 7, **head: Any) -> dict[str, Any]:
    return {
        "input": {"channels": 3, "size": [size, size]},
        "backbone": {"type": name, "pooled": True},
        "head": {"type": "linear", "num_classes": classes, **head},
    }


def saved(theirs: nn.Module, path: Path) -> Path:
    torch.save(theirs.state_dict(), path)
    return path


def same(ours: nn.Module, theirs: nn.Module, size: int) -> bool:
    image = torch.rand(2, 3, size, size)
    with torch.no_grad():
        expected = theirs(image)
        return bool(expected.isfinite().all()) and torch.equal(ours(image), expected)


@pytest.mark.parametrize(("name", "size"), [*SAMPLE, *(pytest.param(*each, marks=pytest.mark.slow) for each in LARGE)])
def test_a_whole_checkpoint_comes_home_and_goes_back(name: str, size: int, tmp_path: Path) -> None:
    theirs = made(name, num_classes=7)
    ours = zoo.load(saved(theirs, tmp_path / "run.pth"), spec=whole(name, size))
    assert ours.migration.renaming.renamed == len(theirs.state_dict()) == len(ours.state_dict())  # type: ignore[union-attr]
    assert ours.migration.renaming.left_out == ()  # type: ignore[union-attr]
    assert same(ours, theirs, size)
    zoo.convert(zoo.save(ours, tmp_path / "ours.pt"), tmp_path / "back.pth", to_keymap=name.partition(":")[0])
    again = made(name, num_classes=7)
    again.load_state_dict(torch.load(tmp_path / "back.pth", weights_only=True), strict=True)
    assert same(again, theirs, size)
    image = torch.rand(1, 3, size, size)
    with torch.no_grad():
        (vector,) = ours.backbone(image)
    assert vector.shape == (1, ours.backbone.features[0].channels)


def test_the_vector_is_that_of_a_model_of_timm_without_classes() -> None:
    theirs = made("timm:efficientnet_b0", num_classes=0)
    ours = compose({"backbone": {"type": "timm:efficientnet_b0", "pooled": True}}, "cpu").eval()
    ours.backbone.network.load_state_dict(theirs.state_dict(), strict=True)
    [feature] = ours.features
    assert (feature.name, feature.shape_text, feature.is_vector) == ("pooled", "1280", True)
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(image)[0], theirs(image))


def test_the_vector_is_what_the_last_layer_of_torchvision_takes() -> None:
    theirs, taken = made("torchvision:mobilenet_v3_small"), []
    theirs.classifier[-1].register_forward_pre_hook(lambda _, given: taken.append(given[0]))  # type: ignore[index, operator]
    ours = compose({"backbone": {"type": "torchvision:mobilenet_v3_small", "pooled": True}}, "cpu").eval()
    ours.backbone.network.load_state_dict(
        {key: each for key, each in theirs.state_dict().items() if not key.startswith("classifier.3")}, strict=True
    )
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        theirs(image)
        assert torch.equal(ours(image)[0], taken[0])


def test_a_checkpoint_of_another_size_comes_home_whole(tmp_path: Path) -> None:
    theirs = made("timm:vit_tiny_patch16_224", num_classes=7, img_size=96)
    ours = zoo.load(saved(theirs, tmp_path / "run.pth"), spec=whole("timm:vit_tiny_patch16_224", 96))
    assert same(ours, theirs, 96)


def test_one_made_for_a_larger_size_is_whole_without_a_size_in_the_spec(tmp_path: Path) -> None:
    theirs = made("timm:vit_tiny_patch16_384", num_classes=7)
    spec = {key: part for key, part in whole("timm:vit_tiny_patch16_384", 0).items() if key != "input"}
    assert same(zoo.load(saved(theirs, tmp_path / "run.pth"), spec=spec), theirs, 384)


@pytest.mark.slow
def test_a_classifier_without_a_bias_is_a_head_without_one(tmp_path: Path) -> None:
    theirs = made("torchvision:maxvit_t", num_classes=7)
    path = saved(theirs, tmp_path / "run.pth")
    assert same(zoo.load(path, spec=whole("torchvision:maxvit_t", 224, bias=False)), theirs, 224)
    with pytest.raises(KeymapError, match="nothing makes"):
        zoo.load(path, spec=whole("torchvision:maxvit_t", 224))


def test_two_classifiers_are_no_head_and_are_left_out(tmp_path: Path) -> None:
    name = "timm:deit_tiny_distilled_patch16_224"
    path = saved(made(name, num_classes=7), tmp_path / "run.pth")
    with pytest.raises(KeymapError, match=r"nothing makes 2: head\.fc\.weight; head\.fc\.bias"):
        zoo.load(path, spec=whole(name, 224))
    model = zoo.build(whole(name, 224), weights=path, fresh="head")
    assert [change.name for change in model.transfer.reinitialised] == ["head.fc.weight", "head.fc.bias"]  # type: ignore[union-attr]


def test_an_error_tells_of_the_vector_and_what_it_says_is_to_be_typed(tmp_path: Path) -> None:
    theirs = made("timm:convnext_atto", num_classes=7)
    path = saved(theirs, tmp_path / "run.pth")
    spec = {"backbone": "timm:convnext_atto", "neck": "gap", "head": {"type": "linear", "num_classes": 7}}
    with pytest.raises(KeymapError) as caught:
        zoo.load(path, spec=spec)
    told, call = str(caught.value).split(" in the spec: ")
    assert told.endswith("it fits with backbone.pooled=True and without neck")
    ours = eval(call.replace("…", "spec"), {"zoo": zoo, "spec": spec})
    assert same(ours, theirs, 64)
    with pytest.raises(KeymapError, match="fresh='head'"):  # the vector would not take a head of cosines either
        zoo.load(path, spec={**spec, "head": {"type": "cosine", "num_classes": 7}})


@pytest.mark.parametrize("name", ["timm:test_vit", "timm:test_efficientnet"])  # the one has a token before all else
@pytest.mark.parametrize("order", ["as saved", "sorted"])
def test_an_error_tells_classes_and_channels_in_whatever_order_the_file_has_them(
    name: str, order: str, tmp_path: Path
) -> None:
    theirs = made(name, num_classes=7, in_chans=1)
    state = theirs.state_dict()
    torch.save({key: state[key] for key in (sorted(state) if order == "sorted" else state)}, tmp_path / "run.pth")
    spec = {"backbone": {"type": name, "pooled": True}, "head": {"type": "linear", "num_classes": 5}}
    with pytest.raises(KeymapError) as caught:
        zoo.load(tmp_path / "run.pth", spec=spec)
    told, call = str(caught.value).split(" in the spec: ")
    assert told.endswith("it fits with head.num_classes=7, input.channels=1")
    call, identify = call.split("; ")
    assert identify == f"zoo identify {tmp_path / 'run.pth'} --libraries prints the whole call"
    ours, image = eval(call.replace("…", "spec"), {"zoo": zoo, "spec": spec}), torch.rand(2, 1, 160, 160)
    with torch.no_grad():
        assert torch.equal(ours.eval()(image), theirs(image))


@pytest.mark.parametrize(
    ("backbone", "size", "error", "told"),
    [
        ({"type": "torchvision:squeezenet1_1"}, 64, PartError, "cannot give a pooled vector: .* in AdaptiveAvgPool2d"),
        ({"type": "timm:resnet18", "out_indices": [1]}, 64, ShapeError, "pooled gives the one vector of timm:resnet18"),
        (
            {"type": "torchvision:resnet18", "out_indices": [1]},
            64,
            ShapeError,
            "the one vector of torchvision:resnet18",
        ),
        ({"type": "torchvision:vit_b_32"}, 100, ShapeError, "a size that torchvision:vit_b_32 takes, such as 224×224"),
        ({"type": "timm:vit_tiny_patch16_224", "pretrained": True}, 224, PartError, "its weights cannot be had"),
    ],
)
def test_what_cannot_be_had_is_told(backbone: dict[str, Any], size: int, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        zoo.build({"input": {"size": [size, size]}, "backbone": {**backbone, "pooled": True}})


@pytest.mark.parametrize("name", ["timm:resnet10t", "torchvision:regnet_y_400mf"])
def test_a_pooled_backbone_takes_grey_and_learns_and_comes_back_from_each_format(name: str, tmp_path: Path) -> None:
    spec = {**whole(name, 64), "input": {"channels": 1, "size": [64, 64]}}
    model = zoo.build(spec)
    image = torch.rand(2, 1, 64, 64)
    model(image).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    model.eval()
    for suffix in ("pt", "safetensors", "onnx"):
        again = zoo.load(zoo.save(model, tmp_path / f"model.{suffix}"))
        assert again.spec == model.spec
        assert all(torch.equal(each, again.state_dict()[name]) for name, each in model.state_dict().items())
        with torch.no_grad():  # where a file has its tensors decides which kernel a processor takes
            assert torch.allclose(again.eval()(image), model(image), atol=1e-6)


@pytest.mark.parametrize("exporter", ["legacy", "dynamo"])
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("timm:vit_tiny_patch16_224", 224),
        ("timm:mobilenetv3_small_050", 64),
        pytest.param("torchvision:vit_b_32", 224, marks=pytest.mark.slow),
    ],
)
def test_a_whole_graph_of_a_library_comes_home(name: str, size: int, exporter: str, tmp_path: Path) -> None:
    theirs = strangers.exported(
        Stranger(lambda: made(name, num_classes=7), dict, size=(size, size)), exporter, tmp_path / "x.onnx"
    )
    ours = zoo.load(disguises.anonymous(tmp_path / "x.onnx"), spec=whole(name, size))
    assert ours.migration.proven
    image = torch.rand(2, 3, size, size)
    with torch.no_grad():
        expected = theirs(image)
        assert (ours(image) - expected).abs().max() <= 1e-5 * expected.abs().max()
