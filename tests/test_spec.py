"""Specs: merging, checking, normalising."""

from __future__ import annotations

import copy
import json

import pytest

from zoo import kinds
from zoo.errors import SpecError, UnknownNameError
from zoo.spec import merge, named, normalise, parse

GOOD = {
    "input": {"channels": 3, "size": [64, 64]},
    "backbone": {"type": "resnet_lite", "layers": [1, 1, 1, 1]},
    "neck": {"type": "gap"},
    "bottleneck": {"type": "linear", "out_features": 256},
    "head": {"type": "linear", "num_classes": 5},
}


def problems(spec: object) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse(spec)  # type: ignore[arg-type]
    return [str(p) for p in caught.value.problems]


@pytest.mark.parametrize("name", kinds.models.names())
def test_a_normalised_spec_is_json_and_stays_as_it_is(name: str) -> None:
    spec = normalise(named(name))
    assert json.loads(json.dumps(spec)) == spec
    assert normalise(spec) == spec
    aux = ["aux"] if name.endswith("_aux") else []
    assert list(spec) == ["input", "backbone", "neck", "bottleneck", "head", *aux]


def test_every_default_is_filled_in_and_absent_parts_are_none() -> None:
    spec = normalise({"backbone": "resnet_lite"})
    assert spec["input"] == {"channels": 3, "size": None}
    assert spec["backbone"] == {
        "type": "resnet_lite", "block": "basic", "layers": [2, 2, 2, 2], "width": 64,
        "groups": 1, "width_per_group": 64, "stem": "7x7", "shortcut": "projection", "output_stride": None,
        "out_indices": None, "zero_init_last": False, "dims": 2,
        "norm": "batch", "activation": "relu", "init": "kaiming",
    }  # fmt: skip
    assert (spec["neck"], spec["bottleneck"], spec["head"]) == (None, None, None)


def test_parsing_changes_nothing_in_the_spec_that_it_reads() -> None:
    before = copy.deepcopy(GOOD)
    normalise(GOOD)["backbone"]["layers"].append(9)
    assert before == GOOD


def test_a_named_spec_can_be_changed_without_harm() -> None:
    named("lenet")["backbone"]["channels"].append(99)
    assert named("lenet")["backbone"]["channels"] == [6, 16]


def test_problems_in_every_part_are_reported_at_once() -> None:
    assert problems(
        {
            "bakbone": "lenet",
            "input": {"chanels": 3, "size": [0, 4]},
            "backbone": {"type": "resnet_lit"},
            "neck": {"type": "adaptive_pool", "sise": 3, "flatten": "yes"},
            "bottleneck": 3,
            "head": {"num_classes": 5},
        }
    ) == [
        "spec.bakbone: unknown part; a spec has input, backbone, neck, bottleneck, head, aux (did you mean backbone?)",
        "spec.input.chanels: unknown parameter; the input takes channels, size (did you mean channels?)",
        "spec.input.size[0]: found 0 (int); expected greater than 0",
        "spec.backbone.type: unknown backbone 'resnet_lit' (did you mean resnet_lite?); registered: lenet, mlp, "
        "resnet_lite, vgg_lite",
        "spec.neck.sise: unknown parameter; adaptive_pool takes size, pool, flatten (did you mean size?)",
        "spec.neck.flatten: found 'yes' (str); expected bool",
        f"spec.bottleneck: found 3; expected a dict with a 'type', one of {', '.join(kinds.bottlenecks.names())}",
        f"spec.head.type: missing; choose one of {', '.join(kinds.heads.names())}",
    ]


def test_one_problem_alone_is_told_without_a_headline() -> None:
    with pytest.raises(SpecError) as caught:
        parse({"backbone": {"type": "no-such-thing"}})
    assert str(caught.value).startswith("spec.backbone.type: unknown backbone 'no-such-thing'; registered: ")
    assert isinstance(caught.value.problems[0].error, UnknownNameError)
    assert isinstance(caught.value.__cause__, UnknownNameError)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (5, "spec: found int; expected a dict with a 'backbone'"),
        ({"backbone": "lenet", "head": {"type": "linear", "num_classes": 3, 5: 1}}, "spec.head.5: unknown parameter; "
         "linear takes num_classes, dropout, bias, init"),
        (
            {"backbone": "lenet", "head": {"type": "linear", "num_classes": 10**5000}},
            "spec.head.num_classes: found a value too large to print (int), which JSON cannot say; expected int > 0",
        ),
        ([], "spec: found list; expected a dict with a 'backbone'"),
        ({}, "spec.backbone: missing; choose one of lenet, mlp, resnet_lite, vgg_lite"),
        (
            {"backbone": "mlp", "input": 3},
            "spec.input: found 3; expected a dict such as {'channels': 3, 'size': [224, 224]}",
        ),
        ({"backbone": {"type": dict}}, "spec.backbone.type: found <class 'dict'>, not a name; choose one of lenet, "
         "mlp, resnet_lite, vgg_lite"),
        ({"backbone": {"type": "os:system"}}, "spec.backbone.type: unknown backbone 'os:system'; registered: lenet, "
         "mlp, resnet_lite, vgg_lite"),
    ],
)  # fmt: skip
def test_what_is_no_spec_is_refused(spec: object, message: str) -> None:
    assert problems(spec) == [message]


def test_changes_of_the_same_type_merge() -> None:
    merged = merge(GOOD, {"head": {"num_classes": 62}, "backbone": {"type": "resnet_lite", "width": 8}})
    assert merged["head"] == {"type": "linear", "num_classes": 62}
    assert merged["backbone"] == {"type": "resnet_lite", "layers": [1, 1, 1, 1], "width": 8}
    assert GOOD["head"] == {"type": "linear", "num_classes": 5}


def test_a_change_of_type_replaces_the_part_and_none_removes_it() -> None:
    merged = merge(GOOD, {"backbone": "lenet", "bottleneck": None, "neck": {"type": "adaptive_pool", "size": 2}})
    assert merged["backbone"] == {"type": "lenet"}
    assert merged["bottleneck"] is None
    assert merged["neck"] == {"type": "adaptive_pool", "size": 2}


@pytest.mark.parametrize("spelling", ["ResNet-Lite", "zoo-torch:resnet_lite", "RESNET_LITE"])
def test_another_spelling_of_the_type_is_the_same_type(spelling: str) -> None:
    merged = merge(GOOD, {"backbone": {"type": spelling, "width": 8}})
    assert merged["backbone"] == {"type": spelling, "layers": [1, 1, 1, 1], "width": 8}


def test_a_part_that_was_not_there_can_be_added() -> None:
    assert merge({"backbone": "mlp"}, {"head": {"type": "linear", "num_classes": 2}})["head"]["num_classes"] == 2
