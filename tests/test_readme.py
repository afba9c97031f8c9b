"""The README's console examples, run as they stand; its Python examples run as doctests."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path

import digits
import pytest

import zoo

README = Path(__file__).parent.parent / "README.md"


def examples() -> list[tuple[str, str]]:
    """Return each command that stands behind a ``$`` and what the README says that it prints."""
    blocks = re.findall(r"```console\n(.*?)```", README.read_text(), flags=re.DOTALL)
    return [
        found for block in blocks for found in re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", block, flags=re.MULTILINE)
    ]


def test_there_are_examples() -> None:
    assert len(examples()) >= 4


@pytest.mark.parametrize(("command", "expected"), examples(), ids=[command for command, _ in examples()])
def test_a_command_prints_what_the_readme_says(command: str, expected: str, tmp_path: Path) -> None:
    zoo.save(zoo.build("lenet", weights="digits"), tmp_path / "digits.onnx")
    test = digits.split()["test"]
    test.images[test.labels.tolist().index(2)].save(tmp_path / "two.png")
    command = re.sub(r"^zoo", str(Path(sys.executable).with_name("zoo")), command)
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert doctest.OutputChecker().check_output(expected, done.stdout, doctest.ELLIPSIS), done.stdout


@pytest.mark.parametrize("script", ["scripts/demo", "scripts/test", "scripts/check", "scripts/bench"])
def test_the_readme_names_the_scripts_and_they_can_be_run(script: str) -> None:
    assert f"./{script}" in README.read_text()
    assert (README.parent / script).stat().st_mode & 0o111
