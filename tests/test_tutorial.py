"""The tutorial "Publish a backbone", done from top to bottom as it stands: its files written, its commands run."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TUTORIAL = Path(__file__).parent.parent / "docs" / "publish-a-backbone.md"
BLOCK = re.compile(r'^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$', re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


@dataclass
class Reader:
    """A person with a shell, who may use no network and installs into a folder of their own."""

    folder: Path
    site: Path

    def run(self, command: str) -> str:
        if command.startswith("cd "):
            self.folder /= command.removeprefix("cd ")
            return ""
        tools = Path(sys.executable).parent
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "ZOO_", "PYTHON", "PYTEST_"))}
        environment = {
            **inherited,
            "PATH": os.pathsep.join([str(tools), inherited.get("PATH", "")]),
            "PYTHONPATH": str(self.site),
            "PIP_TARGET": str(self.site),
            "PIP_UPGRADE": "1",
            "PIP_NO_INDEX": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        if command.startswith("pip wheel"):
            del environment["PIP_TARGET"], environment["PIP_UPGRADE"]
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}"
        return done.stdout


def test_the_tutorial_works_as_written(tmp_path: Path) -> None:
    reader = Reader(tmp_path, tmp_path / "site")
    commands = 0
    for block in BLOCK.finditer(TUTORIAL.read_text()):
        language, title, text = block["language"], block["title"], block["text"]
        if language == "toml":
            assert text in (reader.folder / title).read_text()
        elif language == "python":
            assert (reader.folder / title).exists()
            (reader.folder / title).write_text(text)
        else:
            assert language == "console"
            for command, expected in COMMAND.findall(text):
                printed = reader.run(command)
                same = doctest.OutputChecker().check_output(expected, printed, doctest.ELLIPSIS)
                assert same, f"$ {command}\nexpected:\n{expected}\nprinted:\n{printed}"
                commands += 1
    assert commands >= 12


def test_every_block_of_the_tutorial_is_one_that_the_test_above_reads() -> None:
    fences = re.findall(r"^```", TUTORIAL.read_text(), re.MULTILINE)
    assert len(fences) == 2 * len(BLOCK.findall(TUTORIAL.read_text()))
