"""Durable writes: the old file or the new one, never a part; permissions and links are kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import zoo
from zoo.errors import WeightsError
from zoo.weights.durable import replacing


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

    monkeypatch.setattr("zoo.weights.safetensors.write_tensors", full)
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
