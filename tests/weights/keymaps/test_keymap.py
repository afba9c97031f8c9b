"""Keymaps: which table is taken, what the two ways refuse, and files that are loaded with one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import zoo
from registry import Renamed
from zoo import kinds
from zoo.backbones.lenet import LeNet
from zoo.errors import KeymapError, MissingSpecError, RuleError, SpecError, UnknownNameError, ZooError
from zoo.spec import named, parse
from zoo.weights.keymaps.keymap import Constant, Default, Join, Keymap, NoCounterpart, Rename, Table
from zoo.weights.parity import compare

LENET = Table(
    backbone="lenet",
    neck="flatten",
    bottleneck="mlp",
    head="linear",
    rules=(
        Rename("c{i+1}.{name}", "backbone.stages.{i}.conv.{name}"),
        Rename("f{i}.{name}", "bottleneck.layers.{i}.linear.{name}"),
        Join(("logits.low", "logits.high"), "head.fc.weight", sizes=(4, 6)),
        Constant("head.fc.bias", 0, "float32", "their last layer has no bias"),
        NoCounterpart("scale", "they divide by it while reading images", value=255, dtype="int64"),
    ),
)
PLAIN = Table(backbone="lenet", rules=(Rename("{rest...}", "backbone.{rest...}"),))
ACME = Keymap("acme", (LENET, PLAIN))


def without_bias() -> zoo.Model:
    model = zoo.build("lenet")
    with torch.no_grad():
        model.get_parameter("head.fc.bias").zero_()
    return model


@pytest.fixture
def theirs() -> dict[str, torch.Tensor]:
    return ACME.to_theirs(without_bias())


@pytest.fixture
def acme() -> Iterator[None]:
    kinds.keymaps.register("acme", ACME)
    yield
    kinds.keymaps.unregister("acme")


def faults(raised: pytest.ExceptionInfo[KeymapError]) -> list[tuple[str, str]]:
    return [(p.fault, p.key) for p in raised.value.problems]


# Which table.


def test_a_table_is_found_by_the_components_whatever_the_spec_calls_them() -> None:
    for backbone in ("lenet", "LeNet", "zoo-torch:lenet"):
        spec = {**named("lenet"), "backbone": {"type": backbone}, "head": "linear"}
        spec["head"] = {"type": "Linear", "num_classes": 3}
        assert ACME.table_for(parse(spec)) is LENET
    spec = {"input": {"channels": 1, "size": [32, 32]}, "backbone": "lenet"}
    assert ACME.table_for(parse(spec)) is PLAIN
    shouted = Keymap("acme", (Table(backbone="ZOO-TORCH:LENET", rules=PLAIN.rules),))
    assert str(shouted.table_for(parse(spec))) == "backbone ZOO-TORCH:LENET"


def test_an_old_name_of_a_component_leads_to_the_new_one() -> None:
    kinds.backbones.register("lenet5", Renamed("lenet"))
    try:
        table = Table(backbone="lenet5", rules=PLAIN.rules)
        with pytest.warns(FutureWarning, match="'lenet5' is called 'lenet'"):
            assert table.speaks_of(parse({"input": {"channels": 1, "size": [32, 32]}, "backbone": "lenet"}))
    finally:
        kinds.backbones.unregister("lenet5")


def test_a_component_of_the_same_name_from_elsewhere_is_another_one() -> None:
    spec = {"input": {"channels": 1, "size": [32, 32]}, "backbone": "lenet"}
    parsed = parse(spec)
    with kinds.backbones.overriding("lenet", LeNet):
        assert not PLAIN.speaks_of(parsed)
        assert PLAIN.speaks_of(parse(spec))


def test_a_model_that_no_table_speaks_of_is_told_with_those_that_there_are() -> None:
    with pytest.raises(KeymapError) as raised:
        ACME.to_ours({}, "resnet18")
    assert str(raised.value) == (
        "keymap 'acme': the model is backbone resnet_lite, neck gap, head linear; there are tables for:\n"
        "  backbone lenet, neck flatten, bottleneck mlp, head linear\n  backbone lenet"
    )
    assert (raised.value.keymap, raised.value.problems, raised.value.path) == ("acme", (), "")


def test_of_two_tables_the_one_that_asks_for_more_parameters_counts() -> None:
    narrow = Table(
        backbone="lenet", parameters={"backbone.pool": "max"}, rules=(Rename("m.{rest...}", "backbone.{rest...}"),)
    )
    keymap = Keymap("acme", (PLAIN, narrow))
    spec = {"input": {"channels": 1, "size": [32, 32]}, "backbone": {"type": "lenet", "pool": "max"}}
    assert keymap.table_for(parse(spec)) is narrow
    assert keymap.table_for(parse({**spec, "backbone": "lenet"})) is PLAIN
    assert str(narrow) == "backbone lenet, with backbone.pool='max'"
    with pytest.raises(KeymapError, match=r"there are tables for:\n  backbone lenet, with backbone.pool='max'"):
        Keymap("acme", (narrow,)).table_for(parse({**spec, "backbone": "lenet"}))


@pytest.mark.parametrize("path", ["pool", "neck.size", "backbone."])
def test_parameters_of_a_table_are_of_its_parts(path: str) -> None:
    with pytest.raises(RuleError, match=f"parameters has '{path}'; expected a part of it and a parameter"):
        Table(backbone="lenet", parameters={path: 1}, rules=PLAIN.rules)


def test_a_table_for_what_is_not_installed_is_passed_over() -> None:
    keymap = Keymap("acme", (Table(backbone="nowhere:tiny", rules=PLAIN.rules), LENET))
    assert keymap.table_for(parse(named("lenet"))) is LENET


# There and back.


def test_a_model_goes_there_and_back_bit_for_bit(theirs: dict[str, torch.Tensor]) -> None:
    model = without_bias()
    model.load_state_dict(ACME.to_ours(theirs, "lenet"))
    assert list(theirs) == [
        "c1.weight", "c1.bias", "c2.weight", "c2.bias", "f0.weight", "f0.bias", "f1.weight", "f1.bias",
        "logits.low", "logits.high", "scale",
    ]  # fmt: skip
    assert compare(theirs, ACME.to_theirs(model)).holds
    assert compare(theirs, ACME.to_theirs(model.state_dict(), "lenet")).holds
    assert list(ACME.to_ours(theirs, "lenet")) == list(model.state_dict())


def test_neither_way_changes_what_it_is_given(theirs: dict[str, torch.Tensor]) -> None:
    before = {name: tensor.clone() for name, tensor in theirs.items()}
    ours = ACME.to_ours(theirs, "lenet")
    assert ours["backbone.stages.0.conv.weight"] is theirs["c1.weight"]
    ours["head.fc.weight"].zero_()  # what was joined has memory of its own
    assert compare(before, theirs).holds


def test_a_compiled_model_is_as_good_as_the_one_inside(theirs: dict[str, torch.Tensor]) -> None:
    class Compiled(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self._orig_mod = module

    assert ACME.to_theirs(Compiled(without_bias())).keys() == theirs.keys()


def test_a_plan_can_be_looked_at_without_a_single_number() -> None:
    with torch.device("meta"):
        theirs = {"c1.weight": torch.empty(6, 1, 5, 5)}
    plan = ACME.plan(theirs, "lenet")
    assert [(step.given, step.made) for step in plan.steps if step.given] == [
        (("c1.weight",), ("backbone.stages.0.conv.weight",))
    ]
    assert [str(rule) for rule in plan.unused] == [str(LENET.rules[n]) for n in (1, 2, 4)]
    assert len([p for p in plan.problems if p.fault == "missing"]) == 8


def test_a_state_dict_without_a_spec_is_refused() -> None:
    with pytest.raises(ZooError, match="does not say of which model it is; give the spec too"):
        ACME.to_theirs({})


def test_a_wrong_spec_is_a_spec_error() -> None:
    with pytest.raises(SpecError, match=r"spec\.backbone\.type: unknown backbone 'lenett'"):
        ACME.to_ours({}, {"backbone": "lenett"})


def test_a_constant_that_was_trained_is_not_lost_in_silence() -> None:
    model = zoo.build("lenet")
    with pytest.raises(KeymapError) as raised:
        ACME.to_theirs(model)
    assert faults(raised) == [("value", "head.fc.bias")]
    assert str(raised.value) == (
        "keymap 'acme': these tensors cannot get the names of acme:\n"
        "  the value disagrees of 1: head.fc.bias: it holds something else than 0 (Constant head.fc.bias)"
    )


def test_tensors_that_are_not_those_of_the_spec_get_no_names_of_theirs(theirs: dict[str, torch.Tensor]) -> None:
    state = without_bias().state_dict()
    del state["backbone.stages.0.conv.bias"]
    state["backbone.stages.7.conv.bias"] = torch.zeros(3)
    state["bottleneck.layers.0.linear.bias"] = torch.zeros(3)
    with pytest.raises(KeymapError) as raised:
        ACME.to_theirs(state, "lenet")
    assert faults(raised) == [
        ("missing", "backbone.stages.0.conv.bias"),
        ("unexpected", "backbone.stages.7.conv.bias"),
        ("shape", "bottleneck.layers.0.linear.bias"),
    ]


def test_a_rule_without_a_way_back_is_named_with_its_reason() -> None:
    rules = (
        Rename("a.{rest...}", "backbone.{rest...}"),
        NoCounterpart("b.{rest...}", "only used in training"),
    )
    lossy = Keymap("acme", (Table(backbone="lenet", rules=rules),))
    model = zoo.build({"input": {"channels": 1, "size": [32, 32]}, "backbone": "lenet"})
    with pytest.raises(KeymapError) as raised:
        lossy.to_theirs(model)
    assert faults(raised) == [("one-way", "b.{rest...}")]
    assert "there is no way back for 1: b.{rest...}: only used in training (NoCounterpart b.{rest...})" in str(
        raised.value
    )
    theirs = {f"a.{name.removeprefix('backbone.')}": tensor for name, tensor in model.state_dict().items()}
    assert compare(lossy.to_ours({**theirs, "b.x": torch.zeros(1)}, model.spec), model.state_dict()).holds


# Files.


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_file_of_theirs_is_loaded(suffix: str, theirs: dict[str, torch.Tensor], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / f"theirs.{suffix}"
    if suffix == "pth":
        torch.save(theirs, path)
    else:
        save_file({name: tensor.contiguous() for name, tensor in theirs.items()}, path)
    model = zoo.load(path, spec="lenet", keymap="acme")
    assert not model.training
    assert compare(ACME.to_theirs(model), theirs).holds
    again = zoo.load(zoo.save(model, tmp_path / "ours.safetensors"))
    assert compare(again.state_dict(), model.state_dict()).holds


@pytest.mark.usefixtures("acme")
def test_tensors_that_do_not_fit_are_told_with_the_file(theirs: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "theirs.pth"
    torch.save({**theirs, "extra": torch.zeros(1), "c1.bias": torch.zeros(7)}, path)
    with pytest.raises(KeymapError) as raised:
        zoo.load(path, spec="lenet", keymap="acme")
    assert raised.value.path == str(path)
    assert str(raised.value) == (
        f"{path}: keymap 'acme': these are not the tensors of such a model in the names of acme; is the spec theirs?\n"
        "  no rule matches 1: extra\n"
        "  the shapes disagree of 1: backbone.stages.0.conv.bias: c1.bias makes (7,); the model has (6,)\n"
        f"  zoo identify {path} tells what it can be of"
    )


@pytest.mark.usefixtures("acme")
def test_a_keymap_needs_a_spec_and_a_file_that_is_not_ours(theirs: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save(theirs, tmp_path / "theirs.pth")
    with pytest.raises(MissingSpecError, match=r"theirs.pth: carries no spec; say what it holds"):
        zoo.load(tmp_path / "theirs.pth", keymap="acme")
    zoo.save(without_bias(), tmp_path / "ours.pth")
    for spec in (None, "lenet"):
        with pytest.raises(KeymapError, match=r"ours.pth: keymap 'acme': zoo wrote this file, .*; leave keymap= out"):
            zoo.load(tmp_path / "ours.pth", spec=spec, keymap="acme")


@pytest.mark.parametrize(
    ("keymap", "error", "message"),
    [
        (
            "torchvison",
            UnknownNameError,
            r"unknown keymap 'torchvison' \(did you mean torchvision or torchvision_old\?\)",
        ),
        ("zoo.weights.keymaps.timm:TIMM", UnknownNameError, "unknown keymap"),
        ("os:system", UnknownNameError, "unknown keymap"),
        (ACME, KeymapError, "found 'Keymap'; expected the name of a keymap that is registered"),
        (dict, KeymapError, "found 'type'; expected the name of a keymap that is registered"),
    ],
)
def test_a_keymap_is_a_registered_name_and_nothing_else(keymap, error, message: str, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "theirs.pth")
    with pytest.raises(error, match=message):
        zoo.load(tmp_path / "theirs.pth", spec="lenet", keymap=keymap)


@pytest.mark.parametrize("target", [{"": ""}, Keymap, lambda state: state, LENET])
def test_what_is_no_keymap_is_not_registered(target: object) -> None:
    with pytest.raises(
        ZooError, match=r"it is '\w+', not a Keymap: zoo.weights.keymaps.keymap.Keymap\(library, tables\)"
    ):
        kinds.keymaps.register("mine", target)
    assert "mine" not in kinds.keymaps


def test_listing_keymaps_imports_neither_them_nor_torch(python) -> None:
    done = python(
        "import sys; from zoo.kinds import keymaps; print(keymaps.names(), 'torch' in sys.modules, "
        "[m for m in sys.modules if 'keymap' in m])"
    )
    assert done.stdout == (
        "['segmentation_models_pytorch', 'segmentation_models_pytorch_encoder', 'timm', 'torchvision', "
        "'torchvision_old'] False []\n"
    ), done.stderr


def test_a_missing_counter_is_filled_in_and_a_missing_weight_is_not(theirs: dict[str, torch.Tensor]) -> None:
    rules = (*PLAIN.rules, Default("backbone.stages.{i}.conv.bias", 1, "float32", "old files have none"))
    keymap = Keymap("acme", (Table(backbone="lenet", rules=rules),))
    model = zoo.build({"input": {"channels": 1, "size": [32, 32]}, "backbone": "lenet"})
    theirs = keymap.to_theirs(model)
    del theirs["stages.0.conv.bias"]
    ours = keymap.to_ours(theirs, model.spec)
    assert torch.equal(ours["backbone.stages.0.conv.bias"], torch.ones(6))
    assert ours["backbone.stages.1.conv.bias"] is theirs["stages.1.conv.bias"]
    del theirs["stages.0.conv.weight"]
    with pytest.raises(KeymapError) as raised:
        keymap.to_ours(theirs, model.spec)
    assert faults(raised) == [("missing", "backbone.stages.0.conv.weight")]
