"""Durable writes: the old file or the new one, never a part; no litter; permissions and links are kept."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import zoo
from zoo.errors import WeightsError
from zoo.weights.durable import publish, replacing, staging


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    file.write_text("old")

    def write_half() -> None:
        with replacing(file) as temporary:
            temporary.write_text("ne")
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        write_half()
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = zoo.save(zoo.build("lenet"), tmp_path / "x.safetensors")
    before = file.read_bytes()

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zoo.weights.safetensors.format.write_tensors", full)
    with pytest.raises(WeightsError, match=r"what was there before is intact: .*No space left on device"):
        zoo.save(zoo.build("lenet"), file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("format_", ["pt", "safetensors", "onnx"])
def test_permissions_come_from_the_umask_or_from_the_file_that_was_there(format_: str, tmp_path: Path) -> None:
    model, file = zoo.build("lenet"), tmp_path / f"x.{format_}"
    umask = os.umask(0o027)
    try:
        zoo.save(model, file)
        assert file.stat().st_mode & 0o777 == 0o640
        file.chmod(0o604)
        zoo.save(model, file)
        assert file.stat().st_mode & 0o777 == 0o604
    finally:
        os.umask(umask)


def test_of_a_link_the_target_is_replaced(tmp_path: Path) -> None:
    real, link = tmp_path / "real.safetensors", tmp_path / "link.safetensors"
    real.write_text("old")
    link.symlink_to(real)
    zoo.save(zoo.build("lenet"), link)
    assert link.is_symlink()
    assert zoo.load(real).spec["backbone"]["type"] == "lenet"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"cannot be written: No such file or directory \(.*nowhere\)"):
        zoo.save(zoo.build("lenet"), tmp_path / "nowhere" / "x.pt")


KILLED = """
import os, pathlib, signal, sys
from zoo.weights.durable import replacing, staging
kind = {"file": replacing, "folder": staging}[sys.argv[2]]
with kind(pathlib.Path(sys.argv[1])) as temporary:
    (temporary / "x" if temporary.is_dir() else temporary).write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def left_by_a_killed_writer(file: Path, kind: str) -> Path:
    before = set(file.parent.iterdir())
    subprocess.run([sys.executable, "-c", KILLED, file, kind], check=False, timeout=60)
    (left,) = set(file.parent.iterdir()) - before
    return left


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_writer_left_is_removed_by_the_next_one(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "x [1].pt"
    file.write_text("old")
    left = left_by_a_killed_writer(file, kind)
    assert left.name.startswith(".x [1].pt.")
    assert left.name.endswith(".partial")
    with replacing(file) as temporary:
        assert not left.exists()
        temporary.write_text("new")
    assert [f.read_text() for f in tmp_path.iterdir()] == ["new"]


def test_what_a_living_writer_writes_and_what_is_of_another_target_stays(tmp_path: Path) -> None:
    file, other = tmp_path / "x.pt", tmp_path / "x.pt.x.pt"
    left = left_by_a_killed_writer(other, "file")
    (tmp_path / ".x.pt.0123456789abcdef.partial.bak").touch()
    with replacing(file) as first, replacing(file) as second, staging(file) as third:
        assert len({first, second, third}) == 3
        first.write_text("first")
        second.write_text("second")
        with replacing(file) as fourth:
            fourth.write_text("fourth")
        assert file.read_text() == "fourth"
        assert third.is_dir()
    assert file.read_text() == "first"
    assert {f.name for f in tmp_path.iterdir()} == {file.name, left.name, ".x.pt.0123456789abcdef.partial.bak"}


def test_many_writers_of_one_target_do_not_take_each_other_for_left_over(tmp_path: Path) -> None:
    def write(number: int) -> None:
        for _ in range(30):
            with replacing(tmp_path / "x") as temporary:
                temporary.write_text(str(number))
            with staging(tmp_path / "x") as folder:
                (folder / "x").write_text(str(number))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(write, range(8))) == [None] * 8
    assert [f.name for f in tmp_path.iterdir()] == ["x"]


def test_a_link_called_like_a_left_over_file_is_no_way_to_another_one(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (tmp_path / ".x.0123456789abcdef.partial").symlink_to(precious)
    with replacing(tmp_path / "x") as temporary:
        temporary.write_text("new")
    assert precious.read_text() == "kept"


def test_the_files_of_a_staging_folder_are_published_together_the_last_one_last(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "a").chmod(0o604)
    with staging(tmp_path / "c") as folder:
        for name in "cba":
            with replacing(folder / name) as temporary:
                temporary.write_text(f"new {name}")
        assert (tmp_path / "a").read_text() == "old"
        published = publish(folder, tmp_path / "c", "b")
    assert published == [tmp_path / name for name in "acb"]
    assert {f.name: f.read_text() for f in tmp_path.iterdir()} == {name: f"new {name}" for name in "abc"}
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o604


def test_what_is_not_published_is_gone(tmp_path: Path) -> None:
    with staging(tmp_path / "x") as folder:
        (folder / "x").write_text("x")
    assert list(tmp_path.iterdir()) == []
    with (
        pytest.raises(WeightsError, match=r"x: could not be written.*No space left on device"),
        staging(tmp_path / "x"),
    ):
        raise OSError(28, "No space left on device")
    with pytest.raises(WeightsError, match="cannot be written: No such file or directory"):
        staging(tmp_path / "nowhere" / "x").__enter__()
