"""select: some features go on, untouched; what is not there is told with what is."""

from __future__ import annotations

import pytest
import torch

import zoo
from zoo import builder
from zoo.errors import ShapeError, SpecError
from zoo.features import Feature
from zoo.necks.select import Select

GIVEN = (Feature("stage1", 8, 4, (8, 8)), Feature("stage2", 16, (1, 8, 8), None, 3), Feature("fc", 32, size=()))
BACKBONE = {"type": "resnet_lite", "layers": [1, 1, 1], "width": 4}


@pytest.mark.parametrize(
    ("keep", "places"), [((-1,), [2]), ((0, "fc"), [0, 2]), (("stage2", -1), [1, 2]), ((0, 1, 2), [0, 1, 2])]
)
def test_what_is_named_goes_on_as_it_is(keep: tuple, places: list[int]) -> None:
    neck = Select(GIVEN, keep=keep)
    assert neck.features == tuple(GIVEN[place] for place in places)
    tensors = tuple(torch.zeros(place) for place in range(3))
    assert all(a is tensors[b] for a, b in zip(neck(tensors), places, strict=True))


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (
            ["stag3"],
            "found keep of 'stag3'; expected one of those that there are: 0 'stage1' (4×?×?), 1 'stage2' (8×?×?), "
            "2 'stage3' (16×?×?) (did you mean 'stage3'?)",
        ),
        ([3], "found keep of 3; expected a place from 0 to 2, or from -1 back: 0 'stage1' (4×?×?), 1 'stage2' (8×?×?)"),
        ([-4], "found keep of -4; expected a place from 0 to 2"),
        (["stage2", 0], "found keep=['stage2', 0]; expected each once and in the order in which they come: 0 'stage1'"),
        ([1, "stage2"], "found keep=[1, 'stage2']; expected each once and in the order"),
    ],
)
def test_what_is_not_there_is_told_before_a_weight_is_allocated(
    keep: list, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = []
    real = builder.assemble
    monkeypatch.setattr(builder, "assemble", lambda p, device, **o: devices.append(str(device)) or real(p, device, **o))
    with pytest.raises(ShapeError) as raised:
        zoo.build({"backbone": BACKBONE, "neck": {"type": "select", "keep": keep}})
    assert str(raised.value).startswith(f"spec.neck (select) after backbone resnet_lite: {message}")
    assert devices == ["meta"]


def test_a_name_that_several_have_wants_a_place() -> None:
    with pytest.raises(ShapeError, match="found keep of 'a', which several are called; expected a place: 0 'a' "):
        Select((Feature("a", 1), Feature("a", 2)), keep=("a",))


@pytest.mark.parametrize("keep", [[], "stage1", [1.0], [True], None])
def test_other_values_are_refused_by_the_spec(keep: object) -> None:
    with pytest.raises(SpecError, match=r"spec\.neck\.keep"):
        zoo.build({"backbone": BACKBONE, "neck": {"type": "select", "keep": keep}})
