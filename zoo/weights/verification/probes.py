"""Probes: inputs on which models are compared, made by code and the same every time: random numbers, and images.

Random numbers alone excite a network evenly; images do not: they are smooth, their values lie on one side of zero, and
what is next to each other is alike. Natural images have a power spectrum near 1/f² (Field, "Relations between the
statistics of natural images and the response properties of cortical cells", JOSA A 4(12), 1987), so amplitudes of 1/f.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from zoo.record import Preprocessing

BATCHES = (1, 2, 5)
"""One, the least that is more than one, and an odd one."""


def probes(
    channels: int,
    size: Sequence[int],
    preprocessing: Preprocessing | None,
    seed: int = 0,
    batches: Sequence[int] = BATCHES,
) -> dict[str, list[torch.Tensor]]:
    """Return inputs by kind, ``"random"`` and ``"images"``, a batch for each number of samples.

    Args:
        channels: how many channels an input has.
        size: the length of each of its other axes.
        preprocessing: how pixels are scaled; images lie in [0, 1] without.
        seed: of all random numbers; the generator of torch is not touched.
        batches: how many samples each batch has.

    Shape:
        ``(batch, channels, *size)``, float64, with values that float32 has.

    >>> [tuple(x.shape) for x in probes(3, (8, 8), None)["images"]]
    [(1, 3, 8, 8), (2, 3, 8, 8), (5, 3, 8, 8)]
    """
    random = torch.Generator().manual_seed(seed)
    shape = (channels, *size)
    noise = [torch.randn((n, *shape), generator=random) for n in batches]
    makers = (_gradient, _blobs, _pink)
    images = [torch.stack([makers[i % 3](shape, random) for i in range(n)]) for n in batches]
    if preprocessing is not None and len(preprocessing.mean) == channels:
        ones = [1] * len(size)
        mean, std = (torch.tensor(v).view(channels, *ones) for v in (preprocessing.mean, preprocessing.std))
        images = [(image - mean) / std for image in images]
    return {"random": [x.float().double() for x in noise], "images": [x.float().double() for x in images]}


def _gradient(shape: tuple[int, ...], random: torch.Generator) -> torch.Tensor:
    """Return a smooth slope in a direction of its own for each channel."""
    slopes = torch.randn((shape[0], len(shape) - 1), generator=random)
    return _to_unit(torch.stack([_spread(slopes[:, i], shape) * axis for i, axis in enumerate(_axes(shape))]).sum(0))


def _blobs(shape: tuple[int, ...], random: torch.Generator, count: int = 6) -> torch.Tensor:
    """Return bright and dark spots of several sizes."""
    image = torch.zeros(shape)
    for _ in range(count):
        place = torch.rand(len(shape) - 1, generator=random) * 2 - 1
        width = 0.05 + 0.4 * float(torch.rand((), generator=random))
        distance = torch.stack([(axis - place[i]) ** 2 for i, axis in enumerate(_axes(shape))]).sum(0)
        image = image + _spread(torch.randn(shape[0], generator=random), shape) * torch.exp(-distance / width**2)
    return _to_unit(image)


def _pink(shape: tuple[int, ...], random: torch.Generator) -> torch.Tensor:
    """Return noise whose amplitude falls with frequency as 1/f."""
    dims = tuple(range(1, len(shape)))
    spectrum = torch.fft.fftn(torch.randn(shape, generator=random), dim=dims)
    grids = torch.meshgrid(*(torch.fft.fftfreq(n) * n for n in shape[1:]), indexing="ij")
    frequency = torch.stack([grid**2 for grid in grids]).sum(0).sqrt().clamp(min=1.0)
    return _to_unit(torch.fft.ifftn(spectrum / frequency, dim=dims).real)


def _axes(shape: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    return torch.meshgrid(*(torch.linspace(-1, 1, n) for n in shape[1:]), indexing="ij")


def _spread(values: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    return values.reshape(shape[0], *[1] * (len(shape) - 1))


def _to_unit(image: torch.Tensor) -> torch.Tensor:
    low, high = image.min(), image.max()
    return (image - low) / (high - low).clamp(min=1e-12)
