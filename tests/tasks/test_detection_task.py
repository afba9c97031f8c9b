"""Detection: tiny-det learns in seconds to find real digits, pasted on canvases, and to tell which they are."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional
from torchmetrics.detection import MeanAveragePrecision
from torchvision.models.detection.fcos import FCOSHead

import zoo

SIZE = 64
DIGITS = (16, 28)
"""The sides of the smallest and the largest digit, in pixels."""

Targets = list[dict[str, torch.Tensor]]


def canvases(digits: torch.Tensor, labels: torch.Tensor, count: int, seed: int) -> tuple[torch.Tensor, Targets]:
    """Paste one to three digits of several sizes on each of some noisy canvases; return them and the boxes."""
    random = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=random))

    images, targets = torch.zeros(count, 1, SIZE, SIZE), []
    for image in images:
        boxes: list[tuple[int, int, int, int]] = []
        classes = []
        for _ in range(draw(1, 4)):
            side, which = draw(DIGITS[0], DIGITS[1] + 1), draw(0, len(digits))
            left, top = draw(0, SIZE - side + 1), draw(0, SIZE - side + 1)
            box = (left, top, left + side, top + side)
            if any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in boxes):
                continue
            pasted = functional.interpolate(digits[which][None, None], size=side, mode="bilinear", align_corners=False)
            image[0, top : top + side, left : left + side] = pasted[0, 0]
            boxes.append(box)
            classes.append(int(labels[which]))
        targets.append({"boxes": torch.tensor(boxes, dtype=torch.float32), "labels": torch.tensor(classes)})
    return images + 0.1 * torch.randn(images.shape, generator=random), targets


def loss(model: zoo.Model, theirs: FCOSHead, images: torch.Tensor, targets: Targets) -> torch.Tensor:
    """Return torchvision's loss of what the model predicts."""
    found = model(images)
    anchors = model.head.anchors(found)
    outputs = {
        "cls_logits": found["logits"],
        "bbox_regression": found["distances"],
        "bbox_ctrness": found["centreness"],
    }
    matches = [model.head.match(anchors, each["boxes"]) for each in targets]
    return sum(theirs.compute_loss(targets, outputs, [torch.cat(anchors)] * len(images), matches).values())


def train(model: zoo.Model, images: torch.Tensor, targets: Targets, epochs: int, batch: int) -> None:
    theirs = FCOSHead(32, 1, 10)  # for its loss alone
    optimizer = torch.optim.AdamW(model.train().parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=epochs * len(images) // batch)
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(batch):
            optimizer.zero_grad()
            loss(model, theirs, images[chosen], [targets[i] for i in chosen]).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()


def mean_average_precision(model: zoo.Model, images: torch.Tensor, targets: Targets) -> float:
    """Return the mean of the average precisions at an overlap of a half, over the classes."""
    metric = MeanAveragePrecision(iou_thresholds=[0.5])
    with torch.no_grad():
        for start in range(0, len(images), 50):
            found = model.eval()(images[start : start + 50])
            metric.update(model.head.decode(found, score_threshold=0.05), targets[start : start + 50])
    return metric.compute()["map"].item()


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_tiny_det_reaches_on_held_out_digits_what_an_untrained_one_does_not() -> None:
    torch.manual_seed(0)
    data = load_digits()
    digits, labels = torch.from_numpy(data.images).float() / 16, torch.from_numpy(data.target)
    order = torch.randperm(len(digits))
    held_out, seen = order[:360], order[360:]
    train_set = canvases(digits[seen], labels[seen], 1200, seed=1)
    test_set = canvases(digits[held_out], labels[held_out], 150, seed=2)

    model = zoo.build("tiny-det")
    assert mean_average_precision(model, *test_set) < 0.05
    train(model, *train_set, epochs=4, batch=12)
    assert mean_average_precision(model, *test_set) > 0.6
