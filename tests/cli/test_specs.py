"""zoo schema and zoo validate."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

import zoo
from zoo.cli import main


def run(*words: str | Path, fails: int = 0):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == fails, result.output
    assert "Traceback" not in result.output
    return result


def test_schema_prints_the_schema_or_writes_it(tmp_path: Path) -> None:
    printed = run("schema").stdout
    assert json.loads(printed) == zoo.schema()
    assert "×" in printed
    file = tmp_path / "zoo.schema.json"
    assert run("schema", "-o", file).output == ""
    assert file.read_text(encoding="utf-8") == printed
    assert "No such file or directory" in run("schema", "-o", tmp_path / "no" / "x.json", fails=2).stderr


def test_validate_says_ok_of_each_file_that_is(tmp_path: Path) -> None:
    files = [tmp_path / "a.yaml", tmp_path / "b.toml"]
    files[0].write_text("{backbone: resnet_lite, neck: gap, head: {type: linear, num_classes: 3}}")
    files[1].write_text('backbone = "resnet_lite"')
    assert run("validate", *files).output == f"{files[0]}: ok\n{files[1]}: ok\n"


def test_validate_tells_all_problems_of_all_files(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.yaml" for name in "abcd"]
    files[0].write_text("{backbone: lent, nek: gap}")
    files[1].write_text("backbone: resnet_lite")
    files[2].write_text("{backbone: resnet_lite, head: {type: linear, num_classes: 3}}")
    result = run("validate", *files, fails=1)
    assert result.stdout == f"{files[1]}: ok\n"
    assert result.stderr.startswith(f"{files[0]}: 2 problems in the spec:\n  spec.nek: unknown part")
    assert f"{files[2]}: spec.head (linear) after backbone resnet_lite: found the map" in result.stderr
    assert result.stderr.endswith(f"{files[3]}: there is no such file\n")


def test_validate_wants_a_file() -> None:
    assert "Missing argument 'SPECFILE...'" in run("validate", fails=2).stderr
