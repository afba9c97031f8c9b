"""predict: images of any size and mode, prepared as the weights were trained."""

from __future__ import annotations

from pathlib import Path

import digits
import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from zoo.errors import ImageError, ShapeError, UnknownNameError
from zoo.prediction import open_model, prepare

TEST = digits.split()["test"]
PLAIN = zoo.Preprocessing(size=(8, 8), mean=(0.0,), std=(1.0,), interpolation="nearest")


@pytest.fixture(scope="module")
def lenet() -> zoo.Model:
    return zoo.build("lenet", weights="digits")


def test_files_and_images_get_a_label_and_a_probability(lenet: zoo.Model, tmp_path: Path) -> None:
    TEST.images[0].save(tmp_path / "a.png")
    by_file, by_image = zoo.predict(lenet, [tmp_path / "a.png", TEST.images[0]])
    assert (by_file.label, by_file.probability) == (by_image.label, by_image.probability)
    assert by_file.label == str(TEST.labels[0].item())
    assert by_file.file == str(tmp_path / "a.png")
    assert 0.5 < by_file.probability <= 1


def test_predictions_do_not_depend_on_the_batch(lenet: zoo.Model) -> None:
    whole = zoo.predict(lenet, TEST.images[:10])
    single = zoo.predict(lenet, TEST.images[:10], batch_size=3)
    assert [p.label for p in whole] == [p.label for p in single]
    np.testing.assert_allclose([p.probability for p in whole], [p.probability for p in single], atol=1e-5)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F"])
@pytest.mark.parametrize("size", [(8, 8), (200, 130), (1, 1), (3, 500)])
def test_any_size_and_mode_goes_in(mode: str, size: tuple[int, int], lenet: zoo.Model) -> None:
    image = Image.new("L", size, 128)
    image = Image.fromarray(np.full(size[::-1], 32896, np.uint16)) if mode == "I;16" else image.convert(mode)
    assert image.mode == mode
    assert len(zoo.predict(lenet, [image])) == 1


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "YCbCr", "I", "F"])
def test_a_mode_does_not_change_what_is_seen(mode: str) -> None:
    expected = prepare(TEST.images[3], PLAIN)
    torch.testing.assert_close(prepare(TEST.images[3].convert(mode), PLAIN), expected, atol=0.01, rtol=0)


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    pixels = np.asarray(TEST.images[3]).astype(np.uint16) * 257
    torch.testing.assert_close(
        prepare(Image.fromarray(pixels), PLAIN), prepare(TEST.images[3], PLAIN), atol=1e-6, rtol=0
    )


def test_transparent_places_count_as_black() -> None:
    image = Image.new("RGBA", (8, 8), (255, 255, 255, 0))
    assert prepare(image, PLAIN).max() == 0


def test_colour_is_prepared_channel_by_channel() -> None:
    steps = zoo.Preprocessing(size=(2, 3), mean=(0.5, 0.0, 0.0), std=(0.5, 1.0, 2.0))
    pixels = prepare(Image.new("RGB", (9, 9), (255, 51, 255)), steps)
    assert pixels.shape == (3, 2, 3)
    torch.testing.assert_close(pixels.mean((1, 2)), torch.tensor([1.0, 0.2, 0.5]))


def test_ink_on_paper_is_read_with_invert(lenet: zoo.Model) -> None:
    paper = [Image.fromarray(255 - np.asarray(image)) for image in TEST.images]
    inverted = zoo.predict(lenet, paper, invert=True)
    assert [p.label for p in inverted] == [p.label for p in zoo.predict(lenet, TEST.images)]


def test_a_model_stays_in_its_mode(lenet: zoo.Model) -> None:
    model = zoo.build("vgg-lite", weights="digits").train()
    before = model.backbone.layers[1].running_mean.clone()
    zoo.predict(model, TEST.images[:4])
    assert model.training
    assert torch.equal(before, model.backbone.layers[1].running_mean)


def test_a_model_without_a_record_answers_with_numbers() -> None:
    (found,) = zoo.predict(zoo.build("resnet18", num_classes=4), [Image.new("RGB", (30, 40))])
    assert found.label in {"0", "1", "2", "3"}


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no such file"), (b"no image", "not an image that Pillow can read"), ("cut", "a damaged image")],
)
def test_a_file_that_is_no_image_is_named(content, message: str, lenet: zoo.Model, tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    if content == "cut":
        Image.effect_noise((64, 64), 50).save(file)
        file.write_bytes(file.read_bytes()[:900])
    elif content is not None:
        file.write_bytes(content)
    with pytest.raises(ImageError, match=message) as caught:
        zoo.predict(lenet, [file])
    assert caught.value.path == str(file)


def test_a_model_that_is_no_classifier_is_refused() -> None:
    with pytest.raises(ShapeError, match="returns something else than logits"):
        zoo.predict(zoo.build("resnet-lite", head=None), [TEST.images[0]])
    with pytest.raises(ShapeError, match="4 means and 4 standard deviations; expected one or three"):
        zoo.predict(zoo.build("resnet-lite", in_channels=4), [TEST.images[0]])


def test_a_word_on_the_command_line_stands_for_a_model_or_a_file(tmp_path: Path, lenet: zoo.Model) -> None:
    file = zoo.save(lenet, tmp_path / "x.onnx")
    for word in ("lenet", "lenet:digits", "LeNet:Digits", "lenet.digits", str(file)):
        assert open_model(word).record == lenet.record
    with pytest.raises(UnknownNameError, match=r"unknown model 'lenett' \(did you mean lenet\?\)"):
        open_model("lenett")
    with pytest.raises(UnknownNameError, match=r"unknown weights 'vgg16\.\*'; registered: none; give a"):
        open_model("vgg16")
    with pytest.raises(UnknownNameError, match="unknown weights 'imagenet'; registered: digits"):
        open_model("lenet:imagenet")


def test_each_module_gets_its_own_mode_back(lenet: zoo.Model) -> None:
    model = zoo.build("vgg-lite", weights="digits").train()
    model.backbone.eval()
    zoo.predict(model, TEST.images[0])
    assert (model.training, model.backbone.training, model.head.training) == (True, False, True)


def test_one_image_may_come_alone_and_in_any_precision(lenet: zoo.Model, tmp_path: Path) -> None:
    TEST.images[0].save(tmp_path / "a.png")
    for source in (str(tmp_path / "a.png"), tmp_path / "a.png", TEST.images[0]):
        assert len(zoo.predict(lenet, source)) == 1
    double = zoo.build("lenet", weights="digits").double()
    assert zoo.predict(double, TEST.images[0])[0].label == zoo.predict(lenet, TEST.images[0])[0].label


def test_what_is_no_image_or_no_batch_is_refused(lenet: zoo.Model) -> None:
    with pytest.raises(ImageError, match=r"found 'ndarray'; expected a file or an image of Pillow"):
        zoo.predict(lenet, [np.zeros((8, 8))])
    with pytest.raises(zoo.ZooError, match="found batch_size=0; expected at least one"):
        zoo.predict(lenet, TEST.images[:2], batch_size=0)
