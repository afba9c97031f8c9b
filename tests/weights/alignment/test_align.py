"""Files of other exporters, in every disguise: the model that comes of one computes what the file does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

import zoo
from zoo.weights.alignment import unfolding

Randomise = Callable[[nn.Module], nn.Module]


def test_torchvisions_resnet_of_a_folding_exporter_comes_home(tmp_path: Path, randomise: Randomise) -> None:
    theirs = randomise(torchvision.models.resnet18(num_classes=10)).eval()
    path = tmp_path / "theirs.onnx"
    torch.onnx.export(theirs, (torch.randn(2, 3, 64, 64),), path, dynamo=True, verbose=False, external_data=False)
    ours = zoo.load(path, spec=zoo.build("resnet18", num_classes=10).spec)
    image = torch.randn(2, 3, 96, 96)
    torch.testing.assert_close(ours(image), theirs(image), rtol=1e-5, atol=1e-5)
    assert ours.migration is not None
    assert ours.migration.proven
    assert ours.migration.alignment.counts == {"batchnorm-folded": 40, "identity": 80, "exact": 2}


@pytest.mark.parametrize("eps", [1e-5, 1e-3, 1e-8])
def test_a_norm_that_was_folded_away_does_nothing_at_all(eps: float) -> None:
    norm = nn.BatchNorm2d(8, eps=eps).eval()
    norm.running_var.fill_(unfolding.still(eps, torch.float32))
    x = torch.randn(4, 8, 5, 5) * 100
    assert torch.equal(norm(x), x)
