"""What the tests of both libraries need: a guard on the network, and the checks that each model has to pass."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
import torch

import zoo
from zoo import kinds
from zoo.builder import compose
from zoo.features import Feature


@pytest.fixture(autouse=True)
def no_download(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Fail on every way in which a library fetches weights; returns the calls that were made."""
    calls: list[str] = []

    def refuse(called: str) -> Callable[..., None]:
        def fail(*args: object, **_: object) -> None:
            calls.append(called)
            raise OSError(f"{called} was called in a test")

        return fail

    for target in (
        "torch.hub.load_state_dict_from_url",
        "torch.hub.download_url_to_file",
        "torchvision.models._api.load_state_dict_from_url",
        "timm.models._builder.load_state_dict_from_url",
        "timm.models._builder.load_state_dict_from_hf",
        "timm.models._builder.load_custom_from_hf",
        "timm.models._builder.download_cached_file",
        "timm.models._hub.hf_hub_download",
        "huggingface_hub.hf_hub_download",
    ):
        monkeypatch.setattr(target, refuse(target))
    monkeypatch.setattr(socket.socket, "connect", refuse("socket.connect"))
    return calls


@pytest.fixture
def gives_what_it_declares() -> Callable[..., tuple[Feature, ...]]:
    """Build a backbone and compare every feature with the map that it gives, at one size or at two."""

    def check(name: str, size: int, larger: int | None = None, device: str = "meta", channels: int = 3) -> tuple:
        stated = {"input": {"channels": channels, "size": [size, size]}, "backbone": name}
        model = compose(stated, device).eval()
        found = _sizes(model, channels, size, device)
        assert found == [(f.channels, *(f.size or ())) for f in model.features]
        assert len({f.name for f in model.features}) == len(model.features)
        if device == "meta" and larger is None:
            assert all(abs(size / f.stride - f.size[0]) <= 1 for f in model.features), model.features
        elif larger is not None:
            assert all((larger - size) % f.stride == 0 for f in model.features), "not a size that shows the strides"
            for feature, (_, *grown) in zip(model.features, _sizes(model, channels, larger, device), strict=True):
                assert [(n - feature.size[0]) * feature.stride for n in grown] == [larger - size] * 2, feature
        return model.features

    return check


def _sizes(model: zoo.Model, channels: int, size: int, device: str) -> list[tuple[int, ...]]:
    with torch.no_grad():
        return [tuple(m.shape[1:]) for m in model(torch.zeros(1, channels, size, size, device=device))]


@pytest.fixture
def build() -> Callable[..., zoo.Model]:
    """Build a model around a backbone of a library."""

    def around(name: str, size: int | None = None, channels: int = 3, **parameters: object) -> zoo.Model:
        plane = None if size is None else [size, size]
        return zoo.build(
            {"input": {"channels": channels, "size": plane}, "backbone": {"type": name, **parameters}, "neck": "gap"}
        )

    return around


@pytest.fixture
def component() -> Callable[[str], Callable[..., torch.nn.Module]]:
    return kinds.backbones.get
