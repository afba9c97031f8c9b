"""scikit-learn's handwritten digits as images, in one fixed split; nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from zoo.prediction import prepare
from zoo.record import Preprocessing

DATA = (
    "UCI Optical Recognition of Handwritten Digits, test part: 1,797 scans of 8×8 pixels, "
    "as scikit-learn ships it (load_digits)"
)
LICENCE = "CC BY 4.0 (Alpaydin, Kaynak 1998, https://doi.org/10.24432/C50P49)"
SPLIT = "stratified by digit with seed 0: 1,077 train, 360 validation, 360 test"


@dataclass(frozen=True)
class Digits:
    """One part of the data: grey images of 8×8 pixels, bright strokes on black, and the digit that each shows."""

    images: list[Image.Image]
    labels: torch.Tensor

    def inputs(self, preprocessing: Preprocessing) -> torch.Tensor:
        """Return the images as inputs, ``(N, 1, H, W)``."""
        return torch.stack([prepare(image, preprocessing) for image in self.images])


def split() -> dict[str, Digits]:
    """Return the parts ``train``, ``validation`` and ``test``, the same ones each time."""
    data = load_digits()
    every = np.arange(len(data.target))
    rest, test = train_test_split(every, test_size=360, random_state=0, stratify=data.target)
    train, validation = train_test_split(rest, test_size=360, random_state=0, stratify=data.target[rest])
    return {
        name: Digits([_image(data.images[i]) for i in part], torch.from_numpy(data.target[part]).long())
        for name, part in (("train", train), ("validation", validation), ("test", test))
    }


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.round(pixels * (255 / 16)).astype(np.uint8))
