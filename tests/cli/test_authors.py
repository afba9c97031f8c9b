"""zoo check and zoo new-plugin: reports with an exit code, and what plugin authors start from."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from zoo.cli import main


def run(*words: str | Path, fails: int = 0):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == fails, result.output
    return result


def test_check_prints_a_report() -> None:
    lines = run("check", "gap").stdout.splitlines()
    assert lines[:2] == ["neck gap", "  pass      builds"]
    assert lines[-1] == "18 passed, 1 skipped"


def test_check_tells_programs_the_same() -> None:
    report = json.loads(run("check", "vgg16", "--json").stdout)
    assert report["ok"] is True
    assert {"subject": "model vgg16", "name": "builds", "outcome": "pass", "why": ""} in report["results"]
    assert {r["subject"] for r in report["results"]} == {"model vgg16"}


def test_check_of_a_keymap() -> None:
    lines = run("check", "torchvision").stdout.splitlines()
    assert lines[0] == "keymap torchvision"
    assert lines[-1] == "5 passed"


def test_check_of_an_unknown_name_is_answered_with_the_nearest() -> None:
    result = run("check", "flaten", fails=1)
    assert "unknown component, model, format, keymap or distribution 'flaten' (did you mean flatten?)" in result.stderr


def checked(python, fleet: Path, dist: str, code: int) -> list[dict[str, str]]:
    done = python(f"from zoo.cli import main; main(['check', {dist!r}, '--json'])", fleet)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)["results"]


def test_check_of_a_good_distribution_passes(python, fleet: Path) -> None:
    results = checked(python, fleet, "acme-zoo", 0)
    assert {r["subject"] for r in results if r["outcome"] == "pass"} == {
        "backbone tiny", "neck gmax", "bottleneck halve", "head binary", "model acme-net", "format npz", "keymap acme",
    }  # fmt: skip
    assert {r["why"] for r in results if r["subject"] == "backbone little"} == {"it is an old name of 'tiny'"}


def test_check_of_a_distribution_fails_with_what_is_broken_in_it(python, fleet: Path) -> None:
    results = checked(python, fleet, "broken-zoo", 1)
    failed = {r["subject"]: r["why"] for r in results if r["name"] == "builds" and r["outcome"] == "fail"}
    assert {f"backbone {name}" for name in ("exits", "malformed", "swallows", "featureless", "builds-a-number")} <= set(
        failed
    )
    assert "libacme.so is too old" in failed["backbone import-fails"]
    assert "what it builds has no 'features'" in failed["backbone featureless"]
    unfit = {r["why"] for r in results if r["subject"] == "keymap brk" and r["outcome"] == "fail"}
    assert [why for why in unfit if "it is 'int', not a Keymap" not in why] == []
    assert unfit
    assert not [r for r in results if r["outcome"] == "pass"]


def test_new_plugin_tells_what_it_wrote_and_what_to_do_next(tmp_path: Path) -> None:
    result = run("new-plugin", tmp_path / "x", "--kind", "neck", "--name", "tiny", "--dist", "acme-tiny")
    assert str(tmp_path / "x" / "src" / "acme_tiny" / "tiny.py") in result.stdout.splitlines()
    assert result.stderr == f"now: pip install {tmp_path / 'x'} && zoo check tiny\n"
    again = run("new-plugin", tmp_path / "x", "--kind", "neck", "--name", "tiny", fails=1)
    assert again.stderr.startswith(f"Error: {tmp_path / 'x'} is not empty")
