"""Names, lookups and registration by hand; what an installed plugin does is in test_installed.py."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator

import pytest

from registry import (
    BrokenEntryError,
    Contract,
    NameTakenError,
    Registry,
    RegistryError,
    Renamed,
    UnknownNameError,
    refresh,
)
from registry.names import canonical, matches, nearest
from registry.providers import provider_filter
from zoo import kinds


@pytest.fixture
def shelf() -> Registry:
    return Registry("zoo.nobody-has-this-group", kind="thing", builtin="zoo-torch")


@pytest.fixture
def backbones() -> Iterator[Registry]:
    registry = kinds.backbones
    before = set(registry.names())
    yield registry
    for name in set(registry.names()) - before:
        registry.unregister(name)


def test_an_empty_group_lists_nothing(shelf: Registry) -> None:
    assert shelf.names() == []
    assert shelf.entries() == ()
    assert "anything" not in shelf


@pytest.mark.parametrize("spelling", ["resnet_lite", "ResNet-Lite", "RESNET_LITE", "zoo-torch:resnet_lite"])
def test_spellings_of_one_name_find_one_entry(spelling: str) -> None:
    assert kinds.backbones.find(spelling).target == "zoo.backbones.resnet:ResNet"


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        kinds.backbones.get("resnet_lit")
    assert caught.value.kind == "backbone"
    assert caught.value.name == "resnet_lit"
    assert caught.value.nearest == ("resnet_lite",)
    assert set(caught.value.known) >= {"lenet", "mlp", "resnet_lite", "vgg_lite"}
    assert str(caught.value) == (
        "unknown backbone 'resnet_lit' (did you mean resnet_lite?); registered: lenet, mlp, resnet_lite, vgg_lite"
    )


def test_a_name_of_another_provider_is_unknown() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown backbone 'acme-zoo:lenet' \(did you mean lenet\?\)"):
        kinds.backbones.find("acme-zoo:lenet")


def test_registering_an_object_makes_it_available(shelf: Registry) -> None:
    entry = shelf.register("box", dict)
    assert shelf.get("Box") is dict
    assert (entry.provider, entry.target) == ("local", "builtins:dict")
    shelf.unregister("BOX")
    assert "box" not in shelf


def test_registering_a_target_imports_it_only_when_it_is_asked_for(shelf: Registry) -> None:
    shelf.register("absent", "no_such_package.module:Thing")
    assert shelf.names() == ["absent"]
    with pytest.raises(BrokenEntryError, match="No module named 'no_such_package'") as caught:
        shelf.get("absent")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert caught.value.entry.target == "no_such_package.module:Thing"


def test_registering_the_same_target_again_is_no_conflict(shelf: Registry) -> None:
    assert shelf.register("box", "builtins:dict") == shelf.register("Box".lower(), "builtins:dict")


def test_registering_a_taken_name_is_refused(backbones: Registry) -> None:
    with pytest.raises(NameTakenError, match="backbone 'LeNet' is taken by zoo-torch") as caught:
        backbones.register("LeNet", "somewhere:Else")
    assert caught.value.taken.target == "zoo.backbones.lenet:LeNet"


def test_registering_what_cannot_be_a_component_is_refused(backbones: Registry) -> None:
    with pytest.raises(BrokenEntryError, match="is 'int', not a class or function"):
        backbones.register("number", 7)
    assert "number" not in backbones


def test_unregistering_what_was_not_registered_is_an_error(shelf: Registry) -> None:
    with pytest.raises(UnknownNameError, match="unknown thing 'box'"):
        shelf.unregister("box")


def test_errors_survive_pickling() -> None:
    with pytest.raises(UnknownNameError) as caught:
        kinds.heads.get("liner")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.nearest, type(copy)) == (str(caught.value), ("linear",), UnknownNameError)


def test_many_threads_get_one_object(shelf: Registry) -> None:
    shelf.register("decimal", "decimal:Decimal")
    barrier, found = threading.Barrier(16), []

    def ask() -> None:
        barrier.wait()
        found.append(shelf.get("decimal"))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(found) == 16
    assert len({id(each) for each in found}) == 1


def test_names_compare_by_their_canonical_form() -> None:
    assert canonical("VGG-Lite_2") == "vgg_lite_2"
    assert matches("vgg-lite", "VGG_*")
    assert not matches("lenet", "vgg*")
    assert nearest("btch", ["batch", "group"]) == ("batch",)
    assert nearest("completely-else", ["batch", "group"]) == ()


@pytest.mark.parametrize(
    ("text", "passing", "stopped"),
    [
        ("", ["acme-zoo", "other"], []),
        ("none", [], ["acme-zoo", "other"]),
        ("Acme_Zoo", ["acme-zoo"], ["other"]),
        ("-acme.zoo", ["other"], ["acme-zoo"]),
        ("acme-zoo, other", ["acme-zoo", "other"], ["third"]),
    ],
)
def test_the_filter_says_whose_entries_count(text: str, passing: list[str], stopped: list[str]) -> None:
    wanted = provider_filter(text)
    assert [p for p in (*passing, *stopped) if wanted(p)] == passing


def test_a_decorator_registers_what_it_decorates(shelf: Registry) -> None:
    @shelf.register("box")
    class Box:
        pass

    assert shelf.get("box") is Box


def test_a_builtin_is_overridden_only_on_request_and_given_back(backbones: Registry) -> None:
    real = backbones.get("lenet")

    def mine(in_channels: int) -> None: ...

    backbones.register("LeNet", mine, override=True)
    try:
        assert backbones.get("lenet") is mine
        assert backbones.get("zoo-torch:lenet") is real
    finally:
        backbones.unregister("lenet")
    assert backbones.get("lenet") is real


def test_a_scoped_override_ends_with_its_block_on_errors_too(shelf: Registry) -> None:
    shelf.register("box", dict)

    def fail_within() -> None:
        with shelf.overriding("box", list):
            assert shelf.get("box") is list
            with shelf.overriding("box", "builtins:set"):
                assert shelf.get("box") is set
            assert shelf.get("box") is list
            raise RuntimeError("within")

    with pytest.raises(RuntimeError, match="within"):
        fail_within()
    assert shelf.get("box") is dict


def test_an_override_that_cannot_be_a_component_changes_nothing(backbones: Registry) -> None:
    with pytest.raises(BrokenEntryError, match="is 'int', not a class or function"), backbones.overriding("lenet", 7):
        pass
    assert backbones.find("lenet").provider == "zoo-torch"


def test_a_name_with_a_colon_cannot_be_registered(shelf: Registry) -> None:
    with pytest.raises(RegistryError, match="':' stands between a provider and a name"):
        shelf.register("my:box", dict)


def test_a_failed_import_is_remembered_until_a_refresh(shelf: Registry, tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    shelf.register("later", "comes_later:THING")
    for _ in range(2):
        with pytest.raises(BrokenEntryError, match="No module named 'comes_later'"):
            shelf.get("later")
    assert shelf.state(shelf.find("later"))[0] == "broken"
    (tmp_path / "comes_later.py").write_text("THING = 3")
    refresh()
    assert shelf.get("later") == 3
    assert shelf.state(shelf.find("later")) == ("ok", "")


def test_a_renamed_name_forwards_with_a_warning_each_time(shelf: Registry) -> None:
    shelf.register("new", dict)
    shelf.register("old", Renamed("new", since="2.0"))
    for _ in range(2):
        with pytest.warns(FutureWarning, match=r"thing 'old' is called 'new' since local 2\.0"):
            assert shelf.get("old") is dict


@pytest.mark.parametrize(
    ("stated", "told"),
    [(None, ""), ("1", ""), ("2", "newer version of the application"), ("x", "version of the plugin")],
)
def test_a_contract_tells_who_has_to_move(stated: str | None, told: str) -> None:
    fault = Contract("zoo.contract", 1).fault(stated)
    assert told in fault
    assert bool(fault) == bool(told)
