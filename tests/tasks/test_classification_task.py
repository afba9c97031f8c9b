"""Classification in one, two and three dimensions: made signals, real digits and made clips, each in seconds."""

from __future__ import annotations

import digits
import pytest
import torch
from torch.nn import functional

import zoo
from zoo.record import Preprocessing

Data = tuple[torch.Tensor, torch.Tensor]
LENGTH, FRAMES, SIDE = 128, 6, 16
MOVES = ((0, 1), (0, -1), (1, 0), (-1, 0))


def signals(count: int, seed: int) -> Data:
    """Make noisy tones of random pitch and phase: constant (0), rising (1), falling (2) or swelling (3)."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=random)
    time = torch.linspace(0, 1, LENGTH)
    pitch = 6 + 8 * torch.rand(count, 1, generator=random)
    bend = 8 * torch.tensor([0.0, 1.0, -1.0, 0.0])[labels, None]
    cycles = pitch * time + bend * (time**2 / 2 - time / 2) + torch.rand(count, 1, generator=random)
    loudness = torch.where((labels == 3)[:, None], 2 * time, torch.ones(()))
    waves = loudness * torch.sin(2 * torch.pi * cycles) + 0.3 * torch.randn(count, LENGTH, generator=random)
    return waves[:, None], labels


def clips(count: int, seed: int) -> Data:
    """Make noisy clips of a patch that moves right (0), left (1), down (2) or up (3), and comes back at the other side.

    It starts anywhere: no single frame says where it goes.
    """
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, len(MOVES), (count,), generator=random)
    videos = torch.zeros(count, 1, FRAMES, SIDE, SIDE)
    for video, label in zip(videos, labels.tolist(), strict=True):
        patch = torch.zeros(SIDE, SIDE)
        patch[:4, :4] = 1
        start = torch.randint(0, SIDE, (2,), generator=random).tolist()
        for frame in range(FRAMES):
            shift = [s + 2 * frame * m for s, m in zip(start, MOVES[label], strict=True)]
            video[0, frame] = patch.roll(shift, (0, 1))
    return videos + 0.2 * torch.randn(videos.shape, generator=random), labels


def images() -> tuple[Data, Data]:
    """Return scikit-learn's digits for training, and those held out."""
    parts, preprocessing = digits.split(), Preprocessing(size=(32, 32), mean=(0.5,), std=(0.5,))
    first, last = ((parts[name].inputs(preprocessing), parts[name].labels) for name in ("train", "test"))
    return first, last


def train(model: zoo.Model, data: Data, epochs: int, batch: int = 32, rate: float = 1e-2) -> None:
    inputs, labels = data
    steps = epochs * (len(labels) // batch)
    optimiser = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    order = (i for _ in range(epochs) for i in torch.randperm(len(labels))[: len(labels) // batch * batch].split(batch))
    for chosen in order:
        optimiser.zero_grad()
        functional.cross_entropy(model.train()(inputs[chosen]), labels[chosen]).backward()
        optimiser.step()
        schedule.step()


def accuracy(model: zoo.Model, data: Data) -> float:
    with torch.inference_mode():
        return (model.eval()(data[0]).argmax(1) == data[1]).float().mean().item()


def classifier(size: list[int], classes: int, **backbone: object) -> zoo.Model:
    return zoo.build(
        {
            "input": {"channels": 1, "size": size},
            "backbone": {"width": 8, "type": "resnet_lite", "dims": len(size), **backbone},
            "neck": "gap",
            "head": {"type": "linear", "num_classes": classes},
        }
    )


@pytest.mark.parametrize(
    ("make", "size", "backbone", "epochs"),
    [
        (signals, [LENGTH], {"layers": [1, 1, 1]}, 14),
        (clips, [FRAMES, SIDE, SIDE], {"layers": [1, 1], "stem": "video"}, 8),
    ],
    ids=["signals", "clips"],
)
def test_a_small_residual_network_learns_what_an_untrained_one_cannot_tell(make, size, backbone, epochs) -> None:
    training, held_out = make(512, seed=0), make(256, seed=1)
    model = classifier(size, 4, **backbone)
    assert accuracy(model, held_out) < 0.5
    train(model, training, epochs)
    assert accuracy(model, held_out) > 0.95


def test_a_small_residual_network_learns_to_read_digits() -> None:
    training, held_out = images()
    model = zoo.build("resnet-lite", backbone={"width": 8, "norm": {"type": "group", "groups": 4}, "stem": "7x7"})
    assert accuracy(model, held_out) < 0.3
    train(model, training, epochs=5)
    assert accuracy(model, held_out) > 0.93
