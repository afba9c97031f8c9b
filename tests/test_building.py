"""zoo.build: names, short cuts, changes and weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import zoo
from zoo import kinds
from zoo.building import weights_of
from zoo.errors import FileFormatError, SpecError, TensorMismatchError, UnknownNameError, WeightsError, ZooError
from zoo.pretrained.shipped import Shipped
from zoo.weights.parity import compare


def test_the_usual_short_cuts() -> None:
    model = zoo.build("resnet18", num_classes=10, in_channels=1)
    assert model(torch.zeros(2, 1, 64, 64)).shape == (2, 10)
    assert model.spec["head"]["num_classes"] == 10
    assert model.spec["input"]["channels"] == 1


def test_changes_merge_into_the_spec() -> None:
    model = zoo.build("lenet", head={"num_classes": 62}, backbone={"activation": "relu"}, input={"size": [28, 28]})
    assert model(torch.zeros(1, 1, 28, 28)).shape == (1, 62)
    assert model.spec["backbone"]["channels"] == [6, 16]


def test_a_part_can_be_replaced_added_or_removed() -> None:
    model = zoo.build("resnet-lite", neck="flatten", bottleneck={"type": "linear", "out_features": 9}, head=None)
    assert [tuple(v.shape) for v in model(torch.zeros(1, 1, 32, 32))] == [(1, 9)]
    assert (model.head, type(model.neck).__name__) == (None, "Flatten")


def test_the_example_of_a_composed_spec() -> None:
    spec = {
        "input": {"channels": 3, "size": [64, 64]},
        "backbone": {"type": "resnet_lite", "layers": [1, 1, 1, 1]},
        "neck": {"type": "gap"},
        "bottleneck": {"type": "linear", "out_features": 256},
        "head": {"type": "linear", "num_classes": 5},
    }
    model = zoo.build(spec)
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 5)
    assert model.bottleneck.linear.in_features == 512
    assert zoo.build(model.spec).spec == model.spec


def test_fresh_models_train_and_trained_ones_evaluate() -> None:
    assert zoo.build("lenet").training
    assert not zoo.build("lenet", weights="digits").training


def test_weights_by_name_by_full_name_and_by_file(tmp_path: Path) -> None:
    by_name = zoo.build("LeNet", weights="digits")
    file = zoo.save(by_name, tmp_path / "x.pt")
    for other in (zoo.build("lenet", weights="lenet.digits"), zoo.build("lenet", weights=file)):
        assert compare(by_name.state_dict(), other.state_dict()).holds
        assert other.record == by_name.record
    assert by_name.record.labels == tuple("0123456789")


def test_unknown_models_and_weights_are_answered_with_what_there_is() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown model 'resnet1O' \(did you mean resnet18"):
        zoo.build("resnet1O")
    with pytest.raises(UnknownNameError, match=r"unknown weights 'imagenet'; registered: digits; a file ends"):
        zoo.build("lenet", weights="imagenet")
    with pytest.raises(UnknownNameError, match=r"registered: lenet.digits, resnet-lite.digits, vgg-lite.digits"):
        zoo.build("resnet18", weights="imagenet")


def test_weights_that_do_not_fit_are_an_error_with_both_shapes_and_what_to_do() -> None:
    with pytest.raises(TensorMismatchError) as caught:
        zoo.build("lenet", bottleneck={"hidden": [120, 60]}, weights="digits")
    assert caught.value.different == ("head.fc.weight float32[10, 84] for float32[10, 60]",)
    assert (caught.value.missing, caught.value.unexpected) == ((), ())
    assert str(caught.value).endswith("; fresh=['head'] starts it anew")


def test_a_short_cut_that_a_model_has_no_use_for_is_an_error() -> None:
    with pytest.raises(SpecError, match="num_classes: found 3 for a model without a head"):
        zoo.build({"backbone": "resnet_lite"}, num_classes=3)


def test_weights_of_a_model_are_listed_by_their_short_names() -> None:
    assert weights_of("lenet") == {"digits": "lenet.digits"}
    assert weights_of("ResNet_Lite") == {"digits": "resnet-lite.digits"}
    assert weights_of("vgg16") == {}


def test_shipped_weights_that_were_changed_are_refused(tmp_path: Path) -> None:
    real = kinds.pretrained.get("lenet.digits")
    forged = tmp_path / "forged.safetensors"
    data = bytearray(real.path.read_bytes())
    data[-1] ^= 1
    forged.write_bytes(data)
    kinds.pretrained.register("lenet.forged", Shipped("lenet", forged, real.sha256))
    try:
        with pytest.raises(FileFormatError, match=f"its SHA-256 is .* expected {real.sha256}: install it again"):
            zoo.build("lenet", weights="forged")
    finally:
        kinds.pretrained.unregister("lenet.forged")


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (3, "weights: found 'int'; expected the name of trained ones, 'digits', or the path of a weights file"),
        (
            {},
            "weights: found 'dict'; expected the name of trained ones, 'digits', or the path of a weights file; a "
            "state dict goes into a model that is built: zoo.build(…).load_state_dict(…)",
        ),
        (
            torch.nn.Linear(1, 1),
            "weights: found 'Linear'; expected the name of trained ones, 'digits', or the path of a weights file; the "
            "weights of a model go into another one: zoo.build(…).load_state_dict(model.state_dict())",
        ),
    ],
)
def test_weights_that_are_neither_a_name_nor_a_path(weights: object, expected: str) -> None:
    with pytest.raises(WeightsError) as caught:
        zoo.build("lenet", weights=weights)
    assert str(caught.value) == expected


@pytest.mark.parametrize("read", [zoo.load, zoo.inspect, zoo.fingerprint])
def test_a_file_that_is_no_path(read: Callable[[object], object]) -> None:
    with pytest.raises(WeightsError) as caught:
        read({"fc.weight": torch.zeros(1)})
    assert str(caught.value) == (
        "found 'dict'; expected the path of a weights file; a state dict goes into a model that is built: "
        "zoo.build(…).load_state_dict(…)"
    )


def test_fresh_parts_that_are_no_names() -> None:
    with pytest.raises(ZooError, match="found fresh=3; expected the name of a part, or several: backbone, neck, bottl"):
        zoo.build("lenet", weights="digits", fresh=3)


def test_weights_of_another_model_are_told_part_by_part_not_number_by_number() -> None:
    with pytest.raises(SpecError) as caught:
        zoo.build("resnet18", weights="lenet.digits")
    assert [str(problem).partition("; say so")[0] for problem in caught.value.problems] == [
        "spec.input.channels: the weights were saved with 1, this is 3",
        "spec.backbone.type: the weights were saved with 'lenet', this is 'resnet_lite'",
        "spec.neck.type: the weights were saved with 'flatten', this is 'gap'",
        "spec.bottleneck.type: the weights were saved with 'mlp', this is None",
        "spec.head.num_classes: the weights were saved with 10, this is 1000",
    ]


def test_a_model_saved_in_the_wrong_order_of_arguments() -> None:
    with pytest.raises(WeightsError) as caught:
        zoo.save("lenet.pt", zoo.build("lenet"))
    assert str(caught.value) == "found 'Model' for the path; expected zoo.save(model, 'model.pt')"
