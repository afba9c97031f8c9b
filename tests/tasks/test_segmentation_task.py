"""Segmentation: tiny-seg learns in seconds to tell the strokes of real digits, pasted on canvases, from the ground."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional

import zoo

SIZE, DIGIT = 32, 16
CLASSES = 11  # the ground, and ten digits


def canvases(digits: torch.Tensor, labels: torch.Tensor, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Paste two digits on each of some noisy canvases; return them and the class of every pixel."""
    random = torch.Generator().manual_seed(seed)
    images, masks = torch.zeros(count, 1, SIZE, SIZE), torch.zeros(count, SIZE, SIZE, dtype=torch.int64)
    for image, mask in zip(images, masks, strict=True):
        for left in (0, SIZE - DIGIT):
            which, top = (int(torch.randint(n, (), generator=random)) for n in (len(digits), SIZE - DIGIT + 1))
            place = slice(top, top + DIGIT), slice(left, left + DIGIT)
            image[0][place] = digits[which]
            mask[place] = torch.where(digits[which] > 0.3, labels[which] + 1, 0)
    return images + 0.1 * torch.randn(images.shape, generator=random), masks


def mean_iou(model: zoo.Model, images: torch.Tensor, masks: torch.Tensor) -> float:
    """Return the intersection over union of what is predicted and what is there, averaged over the classes."""
    with torch.no_grad():
        found = torch.cat([model.eval()(batch).argmax(1) for batch in images.split(50)])
    each = [((found == c) & (masks == c)).sum() / ((found == c) | (masks == c)).sum() for c in range(CLASSES)]
    return torch.stack(each).mean().item()


def train(model: zoo.Model, images: torch.Tensor, masks: torch.Tensor, epochs: int, batch: int) -> None:
    steps = epochs * len(images) // batch
    optimizer = torch.optim.AdamW(model.train().parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps)
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(batch):
            optimizer.zero_grad()
            functional.cross_entropy(model(images[chosen]), masks[chosen]).backward()
            optimizer.step()
            schedule.step()


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_tiny_seg_reaches_on_held_out_digits_what_an_untrained_one_does_not() -> None:
    torch.manual_seed(0)
    data = load_digits()
    small = torch.from_numpy(data.images).float()[:, None] / 16
    digits = functional.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)[:, 0]
    labels, order = torch.from_numpy(data.target), torch.randperm(len(digits))
    held_out, seen = order[:360], order[360:]
    train_set = canvases(digits[seen], labels[seen], 500, seed=1)
    test_set = canvases(digits[held_out], labels[held_out], 200, seed=2)

    model = zoo.build("tiny-seg")
    assert mean_iou(model, *test_set) < 0.1
    train(model, *train_set, epochs=4, batch=10)
    assert mean_iou(model, *test_set) > 0.7
