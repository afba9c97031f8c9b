"""Transformers come home: attention has no weights of its own, however an exporter writes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import disguises
import numpy as np
import onnx
import pytest
import strangers
import timm
import torch
from onnx import numpy_helper
from strangers import Stranger
from torch import nn
from torch.nn import functional

import zoo
from zoo.builder import compose
from zoo.errors import AlignmentError
from zoo.features import Feature
from zoo.weights.alignment import align
from zoo.weights.alignment.tracing import traced
from zoo.weights.alignment.unfolding import Unfolded

WIDTH, TOKENS = 32, 17


class Attention(nn.Module):
    """Attention of several heads, with one matrix for queries, keys and values, or one for each."""

    def __init__(self, heads: int, split: bool) -> None:
        super().__init__()
        self.heads = heads
        self.into = nn.ModuleList(nn.Linear(WIDTH, n) for n in ([WIDTH] * 3 if split else [3 * WIDTH]))
        self.proj = nn.Linear(WIDTH, WIDTH)

    def parts(self, x: torch.Tensor) -> list[torch.Tensor]:
        joined = torch.cat([layer(x) for layer in self.into], 2) if len(self.into) == 1 else None
        each = joined.chunk(3, 2) if joined is not None else [layer(x) for layer in self.into]
        return [part.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2) for part in each]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(functional.scaled_dot_product_attention(*self.parts(x)).transpose(1, 2).flatten(2))


class ByHand(Attention):
    """The same, written out as before torch had a function for it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.parts(x)
        weights = (query @ key.transpose(-2, -1) * (WIDTH // self.heads) ** -0.5).softmax(-1)
        return self.proj((weights @ value).transpose(1, 2).flatten(2))


class Unscaled(Attention):
    """One that forgets to divide by the root of the width."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.parts(x)
        return self.proj(((query @ key.transpose(-2, -1)).softmax(-1) @ value).transpose(1, 2).flatten(2))


class Torchs(nn.Module):
    """Torch's own module for it."""

    def __init__(self, heads: int, split: bool) -> None:
        super().__init__()
        self.module = nn.MultiheadAttention(WIDTH, heads, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.module(x, x, x, need_weights=False)[0]
        return found


class Tokens(nn.Module):
    """A small vision transformer that gives its class token."""

    def __init__(
        self, in_channels: int, heads: int = 4, split: bool = False, attention: Callable[..., nn.Module] = Attention
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(in_channels, WIDTH, 8, 8)
        self.token, self.places = nn.Parameter(torch.zeros(1, 1, WIDTH)), nn.Parameter(torch.zeros(1, TOKENS, WIDTH))
        norms = (nn.LayerNorm(WIDTH, eps=1e-6) for _ in range(5))
        self.first, self.second = (nn.ModuleList([next(norms), next(norms)]) for _ in range(2))
        self.attention = nn.ModuleList(attention(heads, split) for _ in range(2))
        self.hidden = nn.ModuleList(nn.Linear(WIDTH, 4 * WIDTH) for _ in range(2))
        self.back = nn.ModuleList(nn.Linear(4 * WIDTH, WIDTH) for _ in range(2))
        self.last = next(norms)
        self.features = (Feature("token", WIDTH, size=()),)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.places
        for depth in range(2):
            x = x + self.attention[depth](self.first[depth](x))
            x = x + self.back[depth](functional.gelu(self.hidden[depth](self.second[depth](x))))
        return (self.last(x)[:, 0],)


class Theirs(nn.Module):
    """The same with a head, as others write it."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.trunk, self.fc = Tokens(3, **options), nn.Linear(WIDTH, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.fc(self.trunk(x)[0])
        return made


def _timm() -> nn.Module:
    return timm.models.vision_transformer.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=WIDTH, depth=2, num_heads=4, num_classes=5
    )


@pytest.fixture(autouse=True)
def tokens(backbone: Callable[[str, type[nn.Module]], None]) -> None:
    backbone("tokens", _Backbone)


class _Backbone(Tokens):
    def __init__(self, in_channels: int, heads: int = 4, split: bool = False) -> None:
        super().__init__(in_channels, heads, split)


def spec(**options: Any) -> dict[str, Any]:
    return {
        "input": {"channels": 3, "size": [32, 32]},
        "backbone": {"type": "tokens", **options},
        "head": {"type": "linear", "num_classes": 5},
    }


def exported(make: Callable[[], nn.Module], path: Path, exporter: str = "dynamo") -> nn.Module:
    return strangers.exported(Stranger(make, dict), exporter, path)


def agrees(model: nn.Module, theirs: nn.Module) -> bool:
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        return torch.allclose(model(x), theirs(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("disguise", [disguises.anonymous, disguises.functions, disguises.extended])
@pytest.mark.parametrize("exporter", ["legacy", "dynamo", "dynamo, unfolded"])
@pytest.mark.parametrize(
    "make",
    [Theirs, lambda: Theirs(attention=ByHand), lambda: Theirs(attention=Torchs), _timm],
    ids=["function", "by hand", "module", "timm"],
)
def test_a_transformer_comes_home_however_its_attention_is_written(
    make: Callable[[], nn.Module], exporter: str, disguise: disguises.Disguise, tmp_path: Path
) -> None:
    theirs = exported(make, tmp_path / "x.onnx", exporter)
    model = zoo.load(disguise(tmp_path / "x.onnx"), spec=spec())
    assert model.migration.alignment.counts == {"exact": len(model.state_dict())}
    assert agrees(model, theirs)


@pytest.mark.parametrize("exporter", ["legacy", "dynamo"])
def test_matrices_for_queries_and_keys_are_told_apart(exporter: str, tmp_path: Path) -> None:
    theirs = exported(lambda: Theirs(split=True, attention=ByHand), tmp_path / "x.onnx", exporter)
    model = zoo.load(disguises.anonymous(tmp_path / "x.onnx"), spec=spec(split=True))
    for ours, other in zip(model.backbone.attention, theirs.trunk.attention, strict=True):
        assert all(torch.equal(a.weight, b.weight) for a, b in zip(ours.into, other.into, strict=True))
    assert agrees(model, theirs)


@pytest.mark.parametrize(
    ("make", "options", "told"),
    [
        (Theirs, {"heads": 2}, "computes something else than the model with its weights"),
        (lambda: Theirs(attention=Unscaled), {}, "computes something else than the model with its weights"),
        (Theirs, {"split": True}, "is no graph of this model.* 96×32.* 32×32"),
    ],
    ids=["heads", "unscaled", "matrices"],
)
def test_another_attention_is_refused_though_its_parameters_are_the_same(
    make: Callable[[], nn.Module], options: dict[str, Any], told: str, tmp_path: Path
) -> None:
    exported(make, tmp_path / "x.onnx")
    with pytest.raises(AlignmentError, match=told):
        zoo.load(tmp_path / "x.onnx", spec=spec(**options))


@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("backbone.attention.1.into.0.weight", 1.0),  # one of the numbers of a query hardly tells tokens apart
        ("backbone.token", 0.01),
        ("backbone.places", 0.01),
    ],
)
def test_one_number_that_came_out_wrong_is_noticed(
    name: str, by: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(_timm, tmp_path / "x.onnx")
    right = align.unfolded

    def wrong(*args: object) -> Unfolded:
        found = right(*args)
        tensor = found.tensors[name].clone()
        tensor.reshape(-1)[0] += by
        return Unfolded({**found.tensors, name: tensor}, found.origins)

    monkeypatch.setattr(align, "unfolded", wrong)
    with pytest.raises(AlignmentError, match="computes something else than the model with its weights"):
        zoo.load(tmp_path / "x.onnx", spec=spec())


def test_a_token_of_its_own_for_each_sample_of_a_fixed_batch_is_refused(tmp_path: Path) -> None:
    exported(Theirs, tmp_path / "x.onnx")
    model = onnx.load(tmp_path / "x.onnx")
    (token,) = [each for each in model.graph.initializer if list(each.dims) == [2, 1, WIDTH]]
    array = numpy_helper.to_array(token).copy()
    assert np.array_equal(array[0], array[1])
    array[1] += 0.1
    token.CopyFrom(numpy_helper.from_array(array, token.name))
    onnx.save(model, tmp_path / "other.onnx")
    assert zoo.load(tmp_path / "x.onnx", spec=spec()).migration.proven
    with pytest.raises(AlignmentError, match="is no graph of this model"):
        zoo.load(tmp_path / "other.onnx", spec=spec())


@pytest.mark.parametrize("options", [{}, {"split": True}])
def test_a_transformer_is_traced_in_one_run_on_the_meta_device(options: dict[str, Any]) -> None:
    run = traced(compose(spec(**options), "meta").eval(), [32, 32], 3)
    assert run.graph is not None
    assert run.products > 2 * TOKENS * 12 * WIDTH * WIDTH
