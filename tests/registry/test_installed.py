"""A real distribution, installed by pip, seen from a fresh process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


def listed(python, *paths: Path, **environment: str) -> dict[str, str]:
    code = (
        "import json, zoo.kinds as k; print(json.dumps({e.qualified_name: e.version for e in k.backbones.entries()}))"
    )
    return json.loads(python(code, *paths, **environment).stdout)


def test_listing_shows_the_plugin_and_imports_nothing_of_it(python, acme: Path) -> None:
    code = (
        "import sys, zoo; assert 'tiny' in zoo.list_components('backbone'), zoo.list_components('backbone');"
        "assert 'acme-net' in zoo.list_models(); print(sorted({'acme_zoo', 'torch', 'pydantic'} & set(sys.modules)))"
    )
    done = python(code, acme)
    assert done.stdout == "[]\n", done.stderr


def test_the_plugin_builds_and_its_name_is_in_the_lock(python, acme: Path) -> None:
    code = (
        "import zoo, torch, json; m = zoo.build('acme-net', num_classes=3);"
        "print(json.dumps([m.lock, m.spec['backbone'], list(m(torch.zeros(2, 1, 32, 32)).shape)]))"
    )
    lock, backbone, shape = json.loads(python(code, acme).stdout)
    assert lock["acme-zoo"] == "0.3"
    assert set(lock) == {"acme-zoo", "zoo-torch"}
    assert backbone == {"type": "tiny", "width": 4}
    assert shape == [2, 3]


def test_without_the_plugin_the_name_is_unknown(python) -> None:
    done = python("import zoo; zoo.build({'backbone': 'tiny'})")
    assert "spec.backbone.type: unknown backbone 'tiny'" in done.stderr


def test_a_builtin_is_not_shadowed_but_the_other_can_be_picked(python, acme: Path) -> None:
    code = "from zoo.kinds import backbones as b; print(b.find('lenet').provider, b.find('Acme_Zoo:lenet').target)"
    assert python(code, acme).stdout == "zoo-torch acme_zoo.tiny:Tiny\n"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("import-fails", "importing it raised RuntimeError: the shared library libacme.so is too old"),
        ("exits", "importing it raised SystemExit: 3"),
        ("no-such-attribute", "tiny.py has no attribute 'Nothing'"),
        ("malformed", "its value is not of the form package.module:attribute"),
        ("swallows", "**kwargs: int is not a plain keyword parameter"),
        ("untyped", "parameter 'width' has no type hint"),
        ("not-callable", "it is 'int', not a class or function"),
    ],
)
def test_a_broken_entry_harms_only_who_asks_for_it(python, acme: Path, name: str, reason: str) -> None:
    code = (
        "import zoo\nfrom zoo.errors import BrokenEntryError, SpecError\nfrom zoo.kinds import backbones\n"
        f"try:\n    backbones.get({name!r})\nexcept BrokenEntryError as error:\n    print(error)\n"
        f"try:\n    zoo.build({{'backbone': {name!r}}})\nexcept SpecError as error:\n    print(error)\n"
        "print(type(backbones.get('tiny')).__name__, len(zoo.list_components('backbone')))"
    )
    done = python(code, acme)
    direct, through_spec, rest = done.stdout.splitlines()
    assert direct.startswith(f"backbone {name!r} of acme-zoo 0.3 (")
    assert reason in direct
    assert through_spec == f"spec.backbone.type: {direct}"
    assert rest.startswith("type ")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("featureless", "spec.backbone (featureless) of acme-zoo 0.3: what it builds has no 'features'"),
        ("no-module", "spec.backbone (no-module) of acme-zoo 0.3: it built 'int', not a torch.nn.Module"),
    ],
)
def test_a_component_that_builds_the_wrong_thing_is_named(python, acme: Path, name: str, message: str) -> None:
    assert message in python(f"import zoo; zoo.build({{'backbone': {name!r}}})", acme).stderr


def test_the_filter_hides_a_provider_but_never_the_builtins(python, acme: Path) -> None:
    assert "acme-zoo:tiny" in listed(python, acme)
    for text in ("none", "-acme-zoo", "other"):
        names = listed(python, acme, ZOO_PLUGINS=text)
        assert not [name for name in names if name.startswith("acme")]
        assert "zoo-torch:lenet" in names


def test_a_file_that_needs_the_plugin_says_what_to_install(python, acme: Path, tmp_path: Path) -> None:
    for suffix in ("pt", "safetensors", "onnx"):
        file = tmp_path / f"acme.{suffix}"
        saved = python(f"import zoo; zoo.save(zoo.build('acme-net'), {str(file)!r})", acme)
        assert file.exists(), saved.stderr
        done = python(f"import zoo; zoo.load({str(file)!r})")
        assert (
            f"zoo.errors.MissingProviderError: {file}: needs what is not installed here: pip install acme-zoo==0.3 "
            "(backbone 'tiny')"
        ) in done.stderr


def test_a_buffer_outside_the_state_dict_is_computed_on_loading(python, acme: Path, tmp_path: Path) -> None:
    file = tmp_path / "acme.safetensors"
    code = (
        f"import zoo, torch; m = zoo.build('acme-net').eval(); zoo.save(m, {str(file)!r}); n = zoo.load({str(file)!r});"
        "x = torch.randn(2, 1, 32, 32); print(torch.equal(m(x), n(x)), n.backbone.scale.tolist() == "
        "m.backbone.scale.tolist(), n.backbone.scale.device)"
    )
    done = python(code, acme)
    assert done.stdout == "True True cpu\n", done.stderr


def test_refresh_sees_what_was_installed_since(python, acme: Path) -> None:
    code = (
        "import sys, zoo, registry; before = 'tiny' in zoo.list_components('backbone');"
        f"sys.path.insert(0, {str(acme)!r}); stale = 'tiny' in zoo.list_components('backbone');"
        "registry.refresh(); print(before, stale, 'tiny' in zoo.list_components('backbone'))"
    )
    assert python(code).stdout == "False False True\n"
