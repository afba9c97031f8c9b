"""Killed processes, full disks, read-only folders and files that change meanwhile: nothing is ever half."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import killing
import meddling
import pytest

import zoo
from zoo.errors import WeightsError

FORMATS = ("safetensors", "pt", "onnx")


@pytest.fixture(scope="module", params=FORMATS)
def killed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What stood in the folder after a save was killed at each of its steps; the last one was not."""
    folder = tmp_path_factory.mktemp("killed")
    ran = subprocess.run(
        [sys.executable, killing.__file__, folder, request.param],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    return [json.loads(line) for line in ran.stdout.splitlines()]


def test_a_killed_save_leaves_the_old_file_or_the_new_one_whole(killed: list[dict[str, Any]]) -> None:
    *died, survived = killed
    assert survived["ended"] == 0
    assert {line["ended"] for line in died} == {-signal.SIGKILL}
    steps = survived["steps"]
    assert len(died) == len(steps) >= 10
    assert {"write", "before fsync", "before replace"} <= set(steps)
    renamed = steps.index("after replace")
    assert [line["held"] for line in died] == ["old"] * renamed + ["new"] * (len(steps) - renamed)


def test_the_content_is_on_the_disk_before_the_name_changes(killed: list[dict[str, Any]]) -> None:
    steps = killed[-1]["steps"]
    last_write = len(steps) - 1 - steps[::-1].index("write")
    assert last_write < steps.index("after fsync") < steps.index("before replace")
    assert "after fsync" in steps[steps.index("after replace") :], "the folder is synced too"


def test_what_a_killed_save_leaves_is_a_partial_file_of_the_target(killed: list[dict[str, Any]]) -> None:
    left = [name for line in killed[:-1] for name in line["others"]]
    assert left
    assert all(name.startswith(".x.") and name.endswith(".partial") for name in left)


def test_what_a_killed_save_left_is_removed_by_the_next_save(killed: list[dict[str, Any]]) -> None:
    again = [line["after the next save"] for line in killed if "after the next save" in line]
    assert again == [[]]


@pytest.mark.parametrize("format_", FORMATS)
def test_a_disk_that_is_full_leaves_the_old_file(format_: str, tmp_path: Path) -> None:
    file = zoo.save(zoo.build("lenet"), tmp_path / f"x.{format_}")
    before = file.read_bytes()
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for most in (0, 4096, 200_000):  # each stops the write elsewhere, the last one in the tensors
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
            with pytest.raises(WeightsError, match=r"what was there before is intact: .*File too large"):
                zoo.save(zoo.build("lenet"), file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


IN_A_SMALL_DISK = """
import pathlib, subprocess, sys, zoo
disk = pathlib.Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", disk], check=True)
small, large = zoo.build("lenet"), zoo.build("lenet", bottleneck={"hidden": [2000]})
for suffix in sys.argv[2:]:
    file = zoo.save(small, disk / f"x.{suffix}")
    try:
        zoo.save(large, file)
    except zoo.ZooError as error:
        print(type(error).__name__, error)
    assert zoo.fingerprint(zoo.load(file, verify=True)) == zoo.fingerprint(small)
    assert list(disk.iterdir()) == [file]
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    try:
        zoo.save(small, file)
    except zoo.ZooError as error:
        print(type(error).__name__, error)
    assert zoo.fingerprint(zoo.load(file, verify=True)) == zoo.fingerprint(small)
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    file.unlink()
"""


def in_a_namespace(*command: str | Path) -> Sequence[str | Path]:
    """Return a command that runs another one where file systems may be mounted, and nobody else sees them."""
    return ["unshare", "--user", "--map-root-user", "--mount", *command]


def may_mount(folder: Path) -> bool:
    """Tell whether a small file system can be mounted here, in a namespace of its own."""
    try:
        tried = in_a_namespace("mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", folder)
        return subprocess.run(tried, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def test_a_small_disk_and_one_that_is_read_only_are_named(tmp_path: Path) -> None:
    if not may_mount(tmp_path):
        pytest.skip("no file system may be mounted here, even in a namespace of its own")
    ran = subprocess.run(
        in_a_namespace(sys.executable, "-c", IN_A_SMALL_DISK, tmp_path, *FORMATS),
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    told = ran.stdout.splitlines()
    assert len(told) == 2 * len(FORMATS)
    for format_, full, protected in zip(FORMATS, told[::2], told[1::2], strict=True):
        start = f"WeightsError {tmp_path / 'x'}.{format_}: "
        assert full.startswith(f"{start}could not be written, what was there before is intact: "), full
        assert "No space left on device" in full
        assert protected == f"{start}cannot be written: Read-only file system ({tmp_path})"


@pytest.mark.parametrize("format_", FORMATS)
def test_a_folder_that_nobody_may_write_is_named(format_: str) -> None:
    with pytest.raises(WeightsError, match=r"^/sys/x\..*: cannot be written: .* \(/sys\)$"):
        zoo.save(zoo.build("lenet"), Path("/sys") / f"x.{format_}")


@pytest.mark.parametrize("format_", FORMATS)
def test_a_file_that_changes_while_it_is_verified_is_refused_or_right(format_: str, tmp_path: Path) -> None:
    file = zoo.save(zoo.build("lenet"), tmp_path / f"x.{format_}")
    ran = subprocess.run(
        [sys.executable, meddling.__file__, file, "300"], capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 0, ran.stderr
    outcomes = json.loads(ran.stdout)
    assert sum(outcomes.values()) == 300
    assert outcomes.keys() <= {"right", "FileFormatError", "FingerprintError", "UnsafeFileError"}
    assert outcomes.keys() & {"FileFormatError", "FingerprintError"}, "nothing changed in time"
