"""Every check of a keymap finds the fault that it is there for; a sound keymap passes them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

import zoo
from zoo import kinds, testing
from zoo.errors import UnknownNameError, ZooError
from zoo.testing.keymaps import KEYMAP_CHECKS
from zoo.weights.keymaps.keymap import Constant, Default, Keymap, NoCounterpart, Rename, Rule, Table

WHY = "because"
BACKBONE, BOTTLENECK, HEAD = (
    Rename("c{i}.{name}", "backbone.stages.{i}.conv.{name}"),
    Rename("f{i}.{name}", "bottleneck.layers.{i}.linear.{name}"),
    Rename("out.{name}", "head.fc.{name}"),
)
SOUND = (BACKBONE, BOTTLENECK, HEAD)
LENET = {"backbone": "lenet", "neck": "flatten", "bottleneck": "mlp", "head": "linear"}


class Forgets(Rename):
    """A rule with code of its own that loses what it is given."""

    def convert(self, tensors, towards):
        return (tensors[0] * 2,)


Register = Callable[..., None]


@pytest.fixture
def register() -> Iterator[Register]:
    def put(*rules: Rule, **parts: str) -> None:
        kinds.keymaps.register("mine", Keymap("mine", (Table(rules=rules, **(parts or LENET)),)))

    yield put
    kinds.keymaps.unregister("mine")


def theirs() -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        model = zoo.build("lenet")
    return Keymap("mine", (Table(rules=SOUND, **LENET),)).to_theirs(model)


FAULTS = [
    ("models", (BACKBONE,), {"backbone": "lenet"}, None,
     "no named model is made of backbone lenet; give one: zoo.testing.check_keymap('mine', spec=…)"),
    ("keys", (BACKBONE, BOTTLENECK), {}, None,
     "zoo-torch:lenet, to theirs: no rule matches 2: head.fc.weight; head.fc.bias"),
    ("keys", (*SOUND[:2], Rename("exit.{name}", "head.fc.{name}")), {}, theirs,
     "lenet, to ours: no rule matches 2: out.weight; out.bias"),
    ("keys", SOUND, {}, lambda: {k: v for k, v in theirs().items() if k != "out.bias"},
     "lenet, to ours: nothing makes 1: head.fc.bias"),
    ("keys", (*SOUND, NoCounterpart("n", WHY, value=1, dtype="int64")), {}, theirs,
     "lenet, to theirs: n is made, and they have none"),
    ("keys", (*SOUND, NoCounterpart("n", WHY, value=1, dtype="int64")), {},
     lambda: {**theirs(), "n": torch.tensor(2)},
     "lenet, to ours: the value disagrees of 1: n: it holds something else than 1"),
    ("keys", (*SOUND[:2], Rename("out.weight", "head.fc.weight"), Constant("head.fc.bias", 0, "float64", WHY)), {},
     None,
     "head.fc.bias is made as torch.float64, the model has torch.float32 (Constant head.fc.bias)"),
    ("rules-used", (*SOUND, Rename("old.{name}", "head.old.{name}")), {}, None,
     "nothing in zoo-torch:lenet needs the rule Rename old.{name} ↔ head.old.{name} of backbone lenet, neck flatten"),
    ("rules-used", (*SOUND, NoCounterpart("aux.{rest...}", WHY)), {}, theirs,
     "nothing in lenet, zoo-torch:lenet needs the rule NoCounterpart aux.{rest...}"),
    ("there-and-back", (*SOUND[:2], Forgets("out.{name}", "head.fc.{name}")), {}, None,
     "zoo-torch:lenet comes back as something else in: out.weight, out.bias"),
    ("defaults", (*SOUND, Default("head.fc.bias", 0, "int64", WHY)), {}, None,
     "head.fc.bias is made as torch.int64, the model has torch.float32 (Default head.fc.bias)"),
    ("defaults", (*SOUND, Default("head.fc.scale", 0, "float32", WHY)), {}, None,
     "nothing in zoo-torch:lenet needs the rule Default head.fc.scale of backbone lenet"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "rules", "parts", "peer", "why"), FAULTS, ids=range(len(FAULTS)))
def test_a_fault_is_found_by_its_check(check: str, rules, parts, peer, why: str, register: Register) -> None:
    register(*rules, **parts)
    report = testing.check_keymap("mine", peer and "lenet", peer and peer())
    assert check in [f.name for f in report.failures]
    (found,) = [f for f in report.failures if f.name == check]
    assert why in found.why


def test_there_is_a_fault_for_every_check() -> None:
    assert {check for check, *_ in FAULTS} == set(KEYMAP_CHECKS)


@pytest.mark.parametrize("peer", [None, theirs], ids=["alone", "beside theirs"])
def test_a_sound_keymap_passes_every_check_and_skips_what_it_has_no_rule_for(peer, register: Register) -> None:
    register(*SOUND)
    report = testing.check_keymap("mine", peer and "lenet", peer and peer())
    assert [(r.name, r.outcome) for r in report.results] == [
        ("models", "pass"), ("keys", "pass"), ("rules-used", "pass"), ("there-and-back", "pass"), ("defaults", "skip"),
    ]  # fmt: skip
    assert report.results[0].subject == ('keymap mine {"spec": "lenet"}' if peer else "keymap mine")


@pytest.mark.parametrize("optional", [False, True])
def test_what_is_lost_is_left_out_of_the_comparison(optional: bool, register: Register) -> None:
    register(*SOUND, NoCounterpart("aux.{rest...}", WHY, optional=optional))
    for peer in (None, {**theirs(), "aux.weight": torch.empty(3, device="meta")}):
        report = testing.check_keymap("mine", peer and "lenet", peer)
        assert report.ok, report


def test_a_keymap_that_is_only_for_other_models_than_those_with_a_name_is_checked_on_a_spec(register: Register) -> None:
    register(BACKBONE, backbone="lenet")
    assert not testing.check_keymap("mine").ok
    spec = {"input": {"channels": 1, "size": [32, 32]}, "backbone": "lenet"}
    assert testing.check_keymap("mine", spec).ok
    found = testing.cases("local", parameters={"keymap:mine": [{"spec": spec}, {"spec": spec}]})
    assert [str(c) for c in found][:2] == ["keymap:mine-0-models", "keymap:mine-0-keys"]
    assert testing.Report.of(case.result() for case in found).ok


def test_a_model_of_theirs_and_no_spec_is_refused() -> None:
    with pytest.raises(ZooError, match="theirs is given without a spec; say which model of ours it is to become"):
        testing.check_keymap("torchvision", theirs={})


def test_a_keymap_that_is_not_there_fails_with_the_nearest_name() -> None:
    report = testing.check_keymap("torchvison")
    assert {f.why for f in report.failures} == {
        "unknown keymap 'torchvison' (did you mean torchvision or torchvision_old?); registered: "
        "segmentation_models_pytorch, segmentation_models_pytorch_encoder, timm, torchvision, torchvision_old"
    }
    with pytest.raises(UnknownNameError, match=r"unknown check 'key' \(did you mean keys"):
        testing.check_keymap("timm", expected_failures={"key": ""})
