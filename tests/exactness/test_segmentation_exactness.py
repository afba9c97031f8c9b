"""FCN and DeepLabv3 compute what torchvision's do, in evaluation and in training, with auxiliary head and without."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

import zoo
from zoo import kinds
from zoo.weights.parity import compare

SIZES = [(65, 97), (64, 64), (33, 50)]


@pytest.fixture(params=["fcn_resnet50", "fcn_resnet50_aux", "deeplabv3_resnet50", "deeplabv3_resnet50_aux"])
def both(request, randomise) -> tuple[zoo.Model, nn.Module]:
    """A model of ours and torchvision's, with the same random numbers."""
    name, has_aux = request.param.removesuffix("_aux"), request.param.endswith("_aux")
    theirs = torchvision.models.get_model(name, weights=None, weights_backbone=None, aux_loss=has_aux)
    randomise(theirs)
    with torch.device("meta"):
        ours = zoo.build(request.param)
    state = kinds.keymaps.get("torchvision").to_ours(theirs.state_dict(), request.param)
    ours.load_state_dict({key: tensor.clone() for key, tensor in state.items()}, assign=True)
    return ours, theirs


def test_they_compute_the_same(both: tuple[zoo.Model, nn.Module]) -> None:
    ours, theirs = (model.eval() for model in both)
    for size in SIZES:
        x = torch.randn(1, 3, *size)
        with torch.inference_mode():
            expected = theirs(x)["out"]
            assert expected.std() > 1e-3  # a network that answers the same to everything would prove nothing
            assert torch.equal(ours(x), expected)

    ours, theirs = (model.train() for model in both)
    x = torch.randn(2, 3, 65, 97)
    with torch.no_grad():
        torch.manual_seed(1)
        expected = theirs(x)
        torch.manual_seed(1)
        found = ours(x)
    if ours.aux is None:
        assert torch.equal(found, expected["out"])
    else:
        assert torch.equal(found.out, expected["out"])
        assert torch.equal(found.aux["stage3"], expected["aux"])
    # The running statistics, which the step has changed, too.
    assert compare(kinds.keymaps.get("torchvision").to_theirs(ours), theirs.state_dict()).holds
