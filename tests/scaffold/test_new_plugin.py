"""A new plugin installs, passes its own tests and is listed, as written; nothing that is there is overwritten."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from zoo import kinds
from zoo.errors import ScaffoldError, UnknownNameError
from zoo.scaffold import new_plugin


def test_every_file_is_written_and_told(tmp_path: Path) -> None:
    written = new_plugin(tmp_path / "new" / "plugin", kind="head", name="Wide-Net")
    assert [p.relative_to(tmp_path / "new" / "plugin").as_posix() for p in written] == [
        "pyproject.toml", "README.md", ".gitignore", "src/zoo_wide_net/__init__.py", "src/zoo_wide_net/wide_net.py",
        "tests/test_wide_net.py",
    ]  # fmt: skip
    project = tomllib.loads(written[0].read_text())["project"]
    assert project["name"] == "zoo-wide-net"
    assert project["entry-points"] == {"zoo.heads": {"Wide-Net": "zoo_wide_net.wide_net:WideNet"}}
    assert not [p for p in written if "$" in p.read_text()]


def test_it_installs_and_is_listed_and_its_readme_is_true(tmp_path: Path, python, install) -> None:
    code = "import zoo"
    for kind in kinds.COMPONENTS:
        plugin = tmp_path / kind
        new_plugin(plugin, kind=kind, name="tiny", dist=f"acme.{kind}")
        site = install(tmp_path / "site", plugin)
        example = (plugin / "README.md").read_text().split("```python\n")[1].split("```")[0]
        code += f"\nprint(zoo.list_components({kind!r}, 'tiny'))\n{example}\nprint(*sorted(model.lock))"
    done = python(code, site)
    expected = [line for kind in kinds.COMPONENTS for line in ("['tiny']", f"acme-{kind} zoo-torch")]
    assert done.stdout.splitlines() == expected, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["backbone", "neck", "bottleneck", "head"])
def test_its_own_tests_pass(kind: str, tmp_path: Path, python, install) -> None:
    new_plugin(tmp_path / "plugin", kind=kind, name="tiny")
    site = install(tmp_path / "site", tmp_path / "plugin")
    code = f"import sys, pytest; sys.exit(pytest.main(['-q', {str(tmp_path / 'plugin')!r}]))"
    done = python(code, site)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"name": "3d"}, "'3d' cannot name a component; use letters and digits"),
        ({"name": "a/b"}, "'a/b' cannot name a component"),
        ({"name": "../x"}, "cannot name a component"),
        ({"name": ""}, "cannot name a component"),
        ({"name": "class"}, "'class' is a word of Python's own"),
        ({"name": "none"}, "'none' is a word of Python's own"),
        ({"name": "GAP"}, "zoo has a neck 'GAP', and its names are never shadowed; choose another name"),
        ({"name": "tiny", "dist": "acme zoo"}, "'acme zoo' cannot name a distribution"),
        ({"name": "tiny", "dist": "zoo"}, "'zoo' would have the package 'zoo', which is taken already"),
        ({"name": "tiny", "dist": "Torch"}, "torch is installed here and is no plugin of zoo"),
        ({"name": "tiny", "dist": "zoo-torch"}, "zoo-torch is installed here and is no plugin of zoo"),
        ({"name": "tiny", "dist": "json"}, "'json' would have the package 'json'"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused_before_anything_is_written(names, message: str, tmp_path: Path) -> None:
    with pytest.raises(ScaffoldError) as raised:
        new_plugin(tmp_path / "plugin", kind="neck", **names)
    assert message in str(raised.value)
    assert not (tmp_path / "plugin").exists()


def test_an_unknown_kind_is_answered_with_the_kinds(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown kind 'haed' \(did you mean head\?\)"):
        new_plugin(tmp_path, kind="haed", name="tiny")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(ScaffoldError, match="is not empty, and nothing in it is overwritten"):
        new_plugin(tmp_path, kind="neck", name="tiny")
    with pytest.raises(ScaffoldError, match="mine is a file; name a folder"):
        new_plugin(tmp_path / "mine", kind="neck", name="tiny")
    with pytest.raises(ScaffoldError, match=r"cannot be written: Not a directory"):
        new_plugin(tmp_path / "mine" / "below", kind="neck", name="tiny")
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine").read_text() == "mine"


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    assert len(new_plugin(tmp_path, kind="neck", name="tiny")) == 6
