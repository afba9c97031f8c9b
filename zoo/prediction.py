"""predict: images in, labels and probabilities out, prepared as the weights were trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from os import PathLike, fspath

import numpy as np
import torch
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

from zoo import kinds
from zoo.building import build, weights_of
from zoo.errors import ImageError, ShapeError, UnknownNameError, ZooError
from zoo.model import Model, evaluating
from zoo.record import Preprocessing
from zoo.weights.files import load
from zoo.weights.reading import format_name

Source = str | PathLike[str] | Image.Image
"""An image: a file, or one of Pillow's."""


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one image.

    Attributes:
        file: the image; empty for one that came from no file.
        label: the name of the likeliest class, or its number where the names are not known.
        probability: how likely, from 0 to 1.
    """

    file: str
    label: str
    probability: float


def predict(
    model: Model,
    images: Source | Iterable[Source],
    *,
    preprocessing: Preprocessing | None = None,
    invert: bool = False,
    batch_size: int = 64,
) -> list[Prediction]:
    """Classify images of any size and mode.

    Args:
        model: a classifier; it stays in the mode in which it is.
        images: files, or images of Pillow; one of them or several.
        preprocessing: how an image becomes an input; the model's own record says so unless given.
        invert: whether to swap dark and bright first: a drawing in ink, for weights trained on bright strokes.
        batch_size: how many images go through the model at once.

    Returns:
        One prediction for each image, in order.

    Raises:
        ImageError: a file cannot be read as an image.
        ShapeError: the model takes or returns something else than a classifier of images does.
    """
    if not isinstance(model, torch.nn.Module):
        raise ZooError(f"found a {type(model).__name__!r}; expected a model: zoo.build('lenet', weights='digits')")
    steps = preprocessing or _preprocessing(model)
    if batch_size < 1:
        raise ZooError(f"found batch_size={batch_size}; expected at least one image at once")
    images = [images] if isinstance(images, str | PathLike | Image.Image) else images
    if not isinstance(images, Iterable):
        raise ImageError("", f"found {type(images).__name__!r}; expected files or images of Pillow, one or several")
    labels = model.record.labels if model.record else ()
    weight = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    found = []
    with evaluating(model):
        for batch in _batches(images, batch_size):
            pixels = torch.stack([prepare(open_image(image), steps, invert=invert) for image in batch])
            with torch.inference_mode():
                logits = model(pixels.to(weight))
            if not isinstance(logits, torch.Tensor) or logits.dim() != 2:
                raise ShapeError(
                    "a model that returns something else than logits", "a classifier, such as 'lenet'", "predict"
                )
            best = logits.float().softmax(dim=1).max(dim=1)
            for image, index, probability in zip(batch, best.indices.tolist(), best.values.tolist(), strict=True):
                file = "" if isinstance(image, Image.Image) else fspath(image)
                found.append(Prediction(file, labels[index] if index < len(labels) else str(index), probability))
    return found


def open_image(image: Source) -> Image.Image:
    """Read an image file whole, turned as its EXIF data say.

    Raises:
        ImageError: there is no such file, it is no image, is damaged, or is suspiciously large.
    """
    if isinstance(image, Image.Image):
        return ImageOps.exif_transpose(image)
    if not isinstance(image, str | PathLike):
        raise ImageError(
            "", f"found {type(image).__name__!r}; expected a file or an image of Pillow, Image.fromarray(…)"
        )
    try:
        with Image.open(image) as opened:
            opened.load()
            return ImageOps.exif_transpose(opened)
    except FileNotFoundError as error:
        raise ImageError(image, "there is no such file") from error
    except UnidentifiedImageError as error:
        raise ImageError(image, "not an image that Pillow can read") from error
    except Exception as error:  # Pillow's readers raise anything on a damaged file
        raise ImageError(image, f"a damaged image: {error}") from error


def prepare(image: Image.Image, steps: Preprocessing, *, invert: bool = False) -> torch.Tensor:
    """Turn an image into an input: convert, resize, scale to [0, 1], normalise.

    Transparent places count as black. Sixteen-bit images are scaled down to eight.

    Args:
        image: of any size and mode.
        steps: how; one mean makes it grey, three make it colour.
        invert: whether to swap dark and bright first.

    Returns:
        float32 ``(C, H, W)``.

    Raises:
        ShapeError: the steps are for another number of channels than one or three.
        ImageError: the mode of the image cannot be converted.
    """
    modes = {1: "L", 3: "RGB"}
    if len(steps.mean) not in modes or len(steps.std) != len(steps.mean):
        raise ShapeError(
            f"{len(steps.mean)} means and {len(steps.std)} standard deviations", "one or three of each", "preprocessing"
        )
    try:
        plain = _opaque(_eight_bit(image)).convert(modes[len(steps.mean)])
    except ValueError as error:
        raise ImageError(
            "", f"an image of mode {image.mode} cannot be made {modes[len(steps.mean)]}: {error}"
        ) from error
    if invert:
        plain = ImageChops.invert(plain)
    height, width = steps.size
    resized = plain.resize((width, height), Image.Resampling[steps.interpolation.upper()])
    pixels = torch.from_numpy(np.asarray(resized, dtype=np.float32) / 255).reshape(height, width, -1).movedim(-1, 0)
    mean, std = (torch.tensor(numbers).reshape(-1, 1, 1) for numbers in (steps.mean, steps.std))
    return ((pixels - mean) / std).contiguous()


def open_model(text: str, spec: str | None = None) -> Model:
    """Return the trained model that a word on a command line stands for.

    Args:
        text: a weights file, ``MODEL:WEIGHTS``, or ``MODEL`` if one set of weights is installed for it.
        spec: what a weights file holds, where it does not say so itself.

    Raises:
        UnknownNameError: there is no such model, or it is not clear which weights are meant.
        WeightsError: the file cannot be read, or neither it nor ``spec`` says of which model it is.
        ZooError: ``spec`` is given for what is no file.
    """
    if format_name(text) in kinds.formats:
        return load(text, spec)
    if spec is not None:
        raise ZooError(f"found a spec ({spec}) for {text!r}, which is no weights file; leave it out")
    if text in kinds.pretrained:  # lenet.digits, as `zoo list weights` has it
        return build(kinds.pretrained.get(text).model, weights=text)
    model, _, weights = (text, "", "") if text in kinds.models else text.rpartition(":")
    if not model:
        kinds.models.find(text)  # says which names there are
    installed = weights_of(model)
    if not weights and len(installed) == 1:
        weights = next(iter(installed))
    if not weights:
        hint = "; give a weights file, or MODEL:WEIGHTS"
        raise UnknownNameError("weights", f"{model}.*", tuple(installed), (), hint)
    return build(model, weights=weights)


def _preprocessing(model: Model) -> Preprocessing:
    if model.record is not None:
        return model.record.preprocessing
    source = model.spec["input"]
    if source["size"] is None or len(source["size"]) != 2:
        raise ShapeError(
            f"an input of size {source['size']}", "height and width, or preprocessing that says them", "predict"
        )
    channels = source["channels"]
    return Preprocessing(size=tuple(source["size"]), mean=(0.0,) * channels, std=(1.0,) * channels)


def _batches(images: Iterable[Source], size: int) -> Iterator[list[Source]]:
    remaining = iter(images)
    while batch := list(islice(remaining, size)):
        yield batch


def _eight_bit(image: Image.Image) -> Image.Image:
    """Bring modes of more than eight bits a channel to eight; Pillow's own conversion would clip them."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    numbers = np.nan_to_num(np.asarray(image, dtype=np.float32))
    top = float(numbers.max(initial=0.0))
    full = (
        1.0
        if top <= 1 and image.mode == "F"
        else 255.0
        if top <= 255 and not image.mode.startswith("I;16")
        else 65535.0
    )
    return Image.fromarray((numbers.clip(0, full) * (255 / full)).round().astype(np.uint8))


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    see_through = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), see_through)
