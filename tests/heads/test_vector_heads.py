"""Heads on vectors: mlp, cosine and projection in closed form, and the losses that take what they give."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.errors import ShapeError
from zoo.features import Feature
from zoo.heads.cosine import CosineHead
from zoo.heads.linear import LinearHead
from zoo.heads.mlp import MLPHead
from zoo.heads.projection import ProjectionHead

GIVEN = (Feature("pooled", 12, size=()),)


def test_mlp_is_linear_layers_with_activations_between() -> None:
    head = MLPHead(GIVEN, num_classes=3, hidden=(8, 6))
    reference = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    reference.load_state_dict(dict(zip(reference.state_dict(), head.state_dict().values(), strict=True)))
    x = torch.randn(5, 12)
    assert torch.equal(head((x,)), reference(x))


@pytest.mark.parametrize("learned", [True, False])
def test_cosine_is_the_scaled_cosine(learned: bool) -> None:
    head = CosineHead(GIVEN, num_classes=3, scale=7.0, learned=learned)
    x = torch.randn(5, 12)
    expected = 7 * nn.functional.cosine_similarity(x.unsqueeze(1), head.fc.weight.unsqueeze(0), dim=-1)
    torch.testing.assert_close(head((x,)), expected)
    torch.testing.assert_close(head((100 * x,)), expected)  # of a vector its direction alone counts
    assert isinstance(head.scale, nn.Parameter) is learned
    assert "scale" in head.state_dict()


def test_cosine_of_nothing_is_nothing() -> None:
    x = torch.zeros(2, 12, requires_grad=True)
    logits = CosineHead(GIVEN, num_classes=3)((x,))
    assert torch.equal(logits, torch.zeros(2, 3))
    logits.sum().backward()
    assert x.grad.isfinite().all()


def test_projection_ends_on_the_unit_sphere_unless_told() -> None:
    head = ProjectionHead(GIVEN, out_features=4)
    reference = nn.Sequential(nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 4))
    reference.load_state_dict(dict(zip(reference.state_dict(), head.state_dict().values(), strict=True)))
    x = torch.randn(5, 12)
    torch.testing.assert_close(head((x,)), nn.functional.normalize(reference(x)))
    torch.testing.assert_close(head((x,)).norm(dim=1), torch.ones(5))
    free = ProjectionHead(GIVEN, out_features=4, normalize=False)
    free.load_state_dict(head.state_dict())
    assert torch.equal(free((x,)), reference(x))


def test_the_documented_loss_of_projection_is_the_papers() -> None:
    z = ProjectionHead(GIVEN, out_features=4)((torch.randn(6, 12),))
    n, temperature = 3, 0.5
    likeness = (z @ z.T / temperature).fill_diagonal_(float("-inf"))
    found = nn.functional.cross_entropy(likeness, (torch.arange(2 * n) + n) % (2 * n))
    losses = []
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        others = sum(torch.exp(z[i] @ z[k] / temperature) for k in range(2 * n) if k != i)
        losses.append(-torch.log(torch.exp(z[i] @ z[j] / temperature) / others))
    torch.testing.assert_close(found, torch.stack(losses).mean())


@pytest.mark.parametrize("head", [LinearHead, MLPHead, CosineHead])
def test_logits_go_into_cross_entropy(head) -> None:
    logits = head(GIVEN, num_classes=3)((torch.randn(4, 12),))
    nn.functional.cross_entropy(logits, torch.tensor([0, 2, 1, 0])).backward()


@pytest.mark.parametrize("head", [LinearHead, MLPHead, CosineHead, ProjectionHead])
def test_a_map_is_refused(head) -> None:
    needed = {} if head is ProjectionHead else {"num_classes": 3}
    with pytest.raises(ShapeError, match=r"found the map 'stage4' \(8×7×7\); expected a vector; put a neck such as"):
        head((Feature("stage4", 8, 32, (7, 7)),), **needed)
