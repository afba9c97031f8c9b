"""What a call changes of a spec: short forms that contradict a change, and those that have nothing to change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zoo
from zoo.errors import SpecError

HEAD = {"type": "fcn", "num_classes": 4}
SEGMENTER: dict[str, Any] = {"backbone": "resnet_lite", "head": HEAD, "aux": {"stage1": {"head": HEAD}}}


@pytest.mark.parametrize("call", [zoo.build, zoo.plan])
def test_a_short_form_and_a_change_that_say_different_things_are_refused(call: Callable[..., Any]) -> None:
    with pytest.raises(SpecError) as caught:
        call("resnet18", num_classes=5, head={"num_classes": 6})
    assert str(caught.value) == "num_classes: found 5, and 6 in head={'num_classes': …}; expected one of them alone"


def test_so_are_those_of_the_input_and_of_auxiliary_heads() -> None:
    with pytest.raises(SpecError) as caught:
        zoo.build(
            SEGMENTER,
            in_channels=1,
            num_classes=5,
            input={"channels": 2},
            head={"num_classes": 7},
            aux={"stage1": {"head": {"num_classes": 6}}},
        )
    assert str(caught.value).splitlines() == [
        "3 problems in the spec:",
        "  in_channels: found 1, and 2 in input={'channels': …}; expected one of them alone",
        "  num_classes: found 5, and 7 in head={'num_classes': …}; expected one of them alone",
        "  num_classes: found 5, and 6 in aux['stage1']['head']={'num_classes': …}; expected one of them alone",
    ]


def test_the_same_number_twice_is_no_contradiction() -> None:
    model = zoo.build("lenet", num_classes=6, in_channels=2, head={"num_classes": 6}, input={"channels": 2})
    assert (model.spec["head"]["num_classes"], model.spec["input"]["channels"]) == (6, 2)
    segmenter = zoo.build(SEGMENTER, num_classes=5, aux={"stage1": {"head": {"num_classes": 5}, "weight": 0.1}})
    assert segmenter.spec["aux"]["stage1"]["head"]["num_classes"] == segmenter.spec["head"]["num_classes"] == 5


def test_classes_without_a_head_are_refused() -> None:
    expected = "expected one, such as head={'type': 'linear', 'num_classes': 4}"
    with pytest.raises(SpecError) as caught:
        zoo.build("lenet", head=None, num_classes=4)
    assert str(caught.value) == f"num_classes: found 4 for a model without a head (head=None); {expected}"
    with pytest.raises(SpecError) as caught:
        zoo.build({"backbone": "lenet"}, num_classes=4)
    assert str(caught.value) == f"num_classes: found 4 for a model without a head (its spec has none); {expected}"
    assert (
        zoo.build({"backbone": "mlp"}, input={"size": [8, 8]}, head="linear", num_classes=4).head.fc.out_features == 4
    )


def test_a_contradiction_names_the_spec_file(tmp_path: Path) -> None:
    file = tmp_path / "net.json"
    file.write_text('{"backbone": "lenet"}')
    with pytest.raises(SpecError) as caught:
        zoo.build(file, num_classes=4)
    assert str(caught.value).startswith(f"{file}: num_classes: found 4 for a model without a head (its spec has none)")


@pytest.mark.parametrize("aux", [3, {"stage1": 3}, {"stage1": {"head": 3}}])
def test_what_is_no_auxiliary_head_at_all_is_found_all_the_same(aux: Any) -> None:
    with pytest.raises(SpecError, match=r"spec\.aux.*found 3|spec.aux.*: found"):
        zoo.build(SEGMENTER, num_classes=5, aux=aux)
