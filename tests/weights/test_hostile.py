"""Files that attack their reader: each is refused in words, runs nothing, takes little memory and little time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import make_hostile
import pytest
from hostile import large
from hostile.case import MARK, WAYS

SCRIPTS = Path(make_hostile.__file__).parent
CORPUS = make_hostile.corpus()
MOST = 200_000_000
"""How much memory a refusal may take, in bytes."""


def read_all(folder: Path, work: Path, *ways: str) -> dict[str, dict[str, Any]]:
    """Read all files of a folder in a process of their own, and return what it found by file."""
    work.mkdir()
    env = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    ran = subprocess.run(
        [sys.executable, "-m", "hostile.run", str(folder), *ways],
        capture_output=True, text=True, cwd=work, env=env, timeout=1200, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, f"ended with {ran.returncode} at {ran.stderr[-2000:]}"
    return {line["file"]: line for line in map(json.loads, ran.stdout.splitlines())}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return read_all(make_hostile.FOLDER, tmp_path_factory.mktemp("hostile") / "work")


def test_the_files_are_those_that_the_script_makes() -> None:
    assert {path.name for path in make_hostile.FOLDER.iterdir()} == CORPUS.keys()
    changed = [n for n, case in CORPUS.items() if (make_hostile.FOLDER / n).read_bytes() != case.data]
    assert not changed, f"run scripts/make_hostile.py: {changed}"
    assert sum(len(case.data) for case in CORPUS.values()) < 1_000_000


@pytest.mark.parametrize("name", CORPUS)
def test_each_file_is_answered_as_it_should_be(name: str, found: dict[str, dict[str, Any]]) -> None:
    _compare(found[name], CORPUS[name])


def _compare(line: dict[str, Any], case: Any) -> None:
    for way, answer in line["answers"].items():
        expected = case.answer(way)
        if expected is None:
            assert answer is None, f"{way}: {answer}"
        else:
            assert answer is not None, f"{way}: nothing was wrong; expected {expected}"
            error, phrase = expected
            assert answer[0] == error, f"{way}: {answer}"
            assert phrase in answer[1], f"{way}"
            assert answer[1].replace("\n  ", "").isprintable(), "a message can be shown on a terminal"
            assert len(answer[1]) < 10_000, "a message can be read"
    assert line["made"] == [], "something in the file ran"
    assert line["grown"] < MOST, "memory"


def test_the_code_in_the_files_would_show_if_it_ran(tmp_path: Path) -> None:
    load = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
    for name in ("protocol-0.pt", "protocol-2.pt", "protocol-3.pt"):
        subprocess.run([sys.executable, "-c", load, make_hostile.FOLDER / name], cwd=tmp_path, check=True)
        (tmp_path / MARK).rmdir()


QUICK = {"large.pt", "large-nested.safetensors", "large-names.safetensors", "large-lists.pt"}
"""Those of the large files that the default run reads."""


@pytest.mark.parametrize("quick", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_large_files_are_refused_in_little_memory(quick: bool, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    checked = 0
    for number, case in enumerate(case for case in large.cases() if not quick or case.name in QUICK):
        (tmp_path / "files" / case.name).write_bytes(case.data)
        # A process for each: memory that an earlier file made it take would hide what a later one takes.
        found = read_all(tmp_path / "files", tmp_path / str(number), *(["fingerprint"] if quick else WAYS))
        _compare(found[case.name], case)
        (tmp_path / "files" / case.name).unlink()
        checked += 1
    assert checked == len(QUICK) if quick else checked > 25
