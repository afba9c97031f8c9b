"""A namespace of one's own: its checkpoints come home by its names, with the classifier if that computes the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import zoo
from zoo import kinds
from zoo.errors import KeymapError
from zoo.features import Feature
from zoo.spec import parse
from zoo.weights.keymaps.library import library_table
from zoo.weights.keymaps.rules import NoCounterpart, Rename

WHOLE = {"backbone": "netlib:net", "neck": "gap", "head": {"type": "linear", "num_classes": 5}}


class Net(nn.Module):
    """A model of the library: how it ends and what its norm does can be changed."""

    def __init__(
        self,
        classes: int | None = 5,
        in_channels: int = 3,
        end: Callable[[torch.Tensor], torch.Tensor] = lambda x: x,
        before: Callable[[torch.Tensor], torch.Tensor] = lambda x: x,
        norm: Callable[[], nn.Module] = lambda: nn.GroupNorm(2, 8),
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_channels, 8, 3), norm())
        self.scale = nn.Parameter(torch.ones(8))
        self.end, self.before = end, before
        if classes is not None:
            self.fc = nn.Linear(8, classes)

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        return functional.gelu(self.stem(x)) * self.scale[:, None, None]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = functional.adaptive_avg_pool2d(self.maps(x), 1).flatten(1)
        return self.end(self.fc(self.before(pooled)))


class Backbone(nn.Module):
    """The same model as a backbone."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.inner = Net(None, in_channels)
        self.features = (Feature("map", 8, 1),)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.inner.maps(x),)


class Library:
    """A namespace whose whole model is what it is given."""

    distribution = "zoo-torch"

    def __init__(self, whole: Callable[[], Any]) -> None:
        self._whole = whole

    def names(self, kind: str) -> Sequence[str]:
        return ["net"] if kind == "backbone" else []

    def component(self, kind: str, name: str) -> type[nn.Module]:
        return Backbone

    def whole(self, kind: str, name: str) -> Any:
        return self._whole()


@pytest.fixture
def offer() -> Iterator[Callable[[Callable[[], Any]], None]]:
    """Register a library with such a whole model, in place of the one before."""

    def register(whole: Callable[[], Any]) -> None:
        if "netlib" in kinds.providers:
            kinds.providers.unregister("netlib")
        kinds.providers.register("netlib", Library(whole))

    yield register
    kinds.providers.unregister("netlib")


Offer = Callable[[Callable[[], Any]], None]


def saved(path: Path, state: object) -> str:
    torch.save(state, path)
    return str(path)


def test_it_comes_home_whole_and_goes_back(offer: Offer, tmp_path: Path) -> None:
    offer(lambda: [Net(), Net(None)])
    theirs = Net(7).eval()
    path = saved(tmp_path / "net.pth", theirs.state_dict())
    model = zoo.load(path, spec={**WHOLE, "head": {"type": "linear", "num_classes": 7}})
    image = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(model(image), theirs(image))
    assert model.migration is not None
    assert model.migration.renaming is not None
    assert model.migration.renaming.keymap == "netlib"
    alone = library_table(parse({"backbone": "netlib:net"}))
    assert alone is not None
    assert {(type(rule), getattr(rule, "optional", None)) for rule in alone[1].rules} == {
        (NoCounterpart, True),
        (Rename, None),
    }


@pytest.mark.parametrize(
    "changed",
    [
        {"end": lambda x: x * 16},
        {"end": lambda x: x.softmax(1)},
        {"end": lambda x: -x},
        {"before": functional.relu},
        {"before": lambda x: x * 1.00004},
        {"before": lambda x: x.flip(1)},
        {"norm": lambda: nn.GroupNorm(2, 8, eps=0.5)},
        {"norm": lambda: nn.GroupNorm(4, 8)},
    ],
)
def test_a_classifier_of_another_function_is_left_out(changed: dict[str, Any], offer: Offer, tmp_path: Path) -> None:
    offer(lambda: [Net(**changed), Net(None)])
    path = saved(tmp_path / "net.pth", Net(**changed).state_dict())
    with pytest.raises(KeymapError, match="nothing makes 2: head"):
        zoo.load(path, spec=WHOLE)
    assert zoo.build(WHOLE, weights=path, fresh="head").migration.proven  # type: ignore[union-attr]


def broken() -> Any:
    raise OSError("its files are gone")


@pytest.mark.parametrize(
    ("whole", "told"),
    [
        (broken, "it fails to make netlib:net: OSError: its files are gone"),
        (lambda: None, "it fails to make netlib:net: TypeError"),
        (lambda: [], "of netlib:net it gives nothing; expected its model in each form, a list"),
        (lambda: [Net().state_dict()], "of netlib:net it gives OrderedDict; expected its model"),
    ],
)
def test_a_library_that_fails_harms_only_who_needs_its_names(
    whole: Callable[[], Any], told: str, offer: Offer, tmp_path: Path
) -> None:
    offer(whole)
    with pytest.raises(KeymapError, match=told):
        library_table(parse(WHOLE))
    own = zoo.build(WHOLE)
    model = zoo.load(saved(tmp_path / "own.pth", own.state_dict()), spec=WHOLE)
    assert any(f"the names of netlib could not be tried: {told}" in each for each in model.migration.uncertain)  # type: ignore[union-attr]


def test_a_library_that_is_mended_is_asked_again(offer: Offer) -> None:
    offer(broken)
    with pytest.raises(KeymapError):
        library_table(parse(WHOLE))
    offer(lambda: [Net(end=torch.sigmoid)])
    first = library_table(parse(WHOLE))
    offer(lambda: [Net()])
    second = library_table(parse(WHOLE))
    assert first is not None
    assert second is not None
    assert [len([r for r in table.rules if isinstance(r, NoCounterpart)]) for _, table in (first, second)] == [1, 0]


def test_a_library_is_asked_once_however_many_classes_and_keymaps_there_are(offer: Offer, tmp_path: Path) -> None:
    asked: list[str] = []

    def whole() -> list[nn.Module]:
        made = [Net(), Net(None)]
        asked.append(made[0].scale.device.type)
        return made

    offer(whole)
    path = saved(tmp_path / "net.pth", Net(7).state_dict())
    model = zoo.build({**WHOLE, "head": {"type": "linear", "num_classes": 9}}, weights=path, num_classes=3)
    assert len(model.transfer.reinitialised) == 2  # type: ignore[union-attr]
    assert asked == ["meta", "cpu"]


def test_a_library_that_fails_is_asked_once_for_a_load(offer: Offer, tmp_path: Path) -> None:
    asked = []

    def whole() -> Any:
        asked.append(1)
        raise OSError("its files are gone")

    offer(whole)
    zoo.load(saved(tmp_path / "own.pth", zoo.build(WHOLE).state_dict()), spec=WHOLE)
    assert len(asked) == 1
