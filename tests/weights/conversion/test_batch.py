"""Many conversions: each file by itself, resumed where a run was stopped, refused before anything is written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from weights_support import listing

import zoo
from zoo.errors import UnknownNameError, WeightsError
from zoo.weights.conversion.batch import convert_all


def make_sources(folder: Path, *names: str) -> list[Path]:
    return [zoo.save(zoo.build("lenet"), folder / f"{name}.pt") for name in names]


def test_many_files_are_converted_and_a_second_run_finds_them_done(tmp_path: Path) -> None:
    sources = make_sources(tmp_path, "a", "b")
    (tmp_path / "out").mkdir()
    first = convert_all(sources, "safetensors", tmp_path / "out")
    assert [o.state for o in first.outcomes] == ["converted", "converted"]
    assert str(first) == "2 converted, 0 skipped, 0 failed"
    stamps = {f.name: f.stat().st_mtime_ns for f in (tmp_path / "out").iterdir()}
    second = convert_all(sources, ".safetensors", tmp_path / "out")
    assert str(second) == "0 converted, 2 skipped, 0 failed"
    assert stamps == {f.name: f.stat().st_mtime_ns for f in (tmp_path / "out").iterdir()}
    assert str(convert_all(sources, "safetensors", tmp_path / "out", force=True)) == "2 converted, 0 skipped, 0 failed"


def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    sources = make_sources(tmp_path, "a", "b", "c")
    (tmp_path / "out").mkdir()
    code = """
import os, signal, sys
from zoo.weights.conversion import batch
from zoo.weights.conversion import convert as conversion
def killed_at_b(folder, path, last, honest=conversion.publish):
    if path.stem == "b":
        os.kill(os.getpid(), signal.SIGKILL)
    return honest(folder, path, last)
conversion.publish = killed_at_b
batch.convert_all(sys.argv[2:], "safetensors", sys.argv[1])
"""
    killed = subprocess.run([sys.executable, "-c", code, tmp_path / "out", *sources], check=False)
    assert killed.returncode == -9
    assert len(listing(tmp_path / "out")) == 2  # a, and what is left of b
    again = convert_all(sources, "safetensors", tmp_path / "out")
    assert [o.state for o in again.outcomes] == ["skipped", "converted", "converted"]
    assert listing(tmp_path / "out") == ["a.safetensors", "b.safetensors", "c.safetensors"]
    assert [zoo.fingerprint(o.target) for o in again.outcomes] == [zoo.fingerprint(s) for s in sources]


@pytest.mark.parametrize("options", [{}, {"spec": "lenet"}, {"max_shard_size": "50KB"}], ids=str)
def test_what_is_done_is_known_for_plain_and_sharded_files_too(options: dict[str, str], tmp_path: Path) -> None:
    torch.save(zoo.build("lenet").state_dict(), tmp_path / "a.pt")
    states = [convert_all([tmp_path / "a.pt"], "safetensors", tmp_path, **options).outcomes[0].state for _ in "12"]
    assert states == ["converted", "skipped"]


def test_a_target_that_only_looks_done_is_not_skipped(tmp_path: Path) -> None:
    (source,) = make_sources(tmp_path, "a")
    target = tmp_path / "a.safetensors"
    zoo.convert(source, target)
    content = bytearray(target.read_bytes())
    content[-1] ^= 1
    for damaged in (bytes(content), bytes(content[:100]), zoo.save(zoo.build("lenet"), tmp_path / "x.pt").read_bytes()):
        target.write_bytes(damaged)
        (outcome,) = convert_all([source], "safetensors").outcomes
        assert outcome.state == "failed"
        assert "a.safetensors: exists already" in outcome.error
        assert target.read_bytes() == damaged


def test_one_bad_file_does_not_stop_the_rest(tmp_path: Path) -> None:
    good, other = make_sources(tmp_path, "a", "c")
    bad = tmp_path / "b.pt"
    bad.write_bytes(b"PK\x03\x04")
    report = convert_all([good, bad, tmp_path / "d.pt", other], "safetensors")
    assert [o.state for o in report.outcomes] == ["converted", "failed", "failed", "converted"]
    assert not report.ok
    assert report.outcomes[1].error.startswith(f"{bad}: not a whole PyTorch file")
    assert report.outcomes[2].error == f"{tmp_path / 'd.pt'}: there is no such file"


def test_what_cannot_go_well_is_told_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    sources = [*make_sources(tmp_path, "a", "b"), *make_sources(tmp_path / "sub", "a")]
    with pytest.raises(WeightsError, match=r"a.safetensors: would be made of both .*/a.pt and .*sub/a.pt"):
        convert_all(sources, "safetensors", tmp_path)
    with pytest.raises(WeightsError, match=r"nowhere: there is no such folder; make it first"):
        convert_all(sources[:2], "safetensors", tmp_path / "nowhere")
    with pytest.raises(UnknownNameError, match=r"unknown format 'safetensor' \(did you mean safetensors\?"):
        convert_all(sources[:2], "safetensor")
    with pytest.raises(WeightsError, match=r"twin.safetensors: cannot hold the tensors of 2 models"):
        convert_all(sources[:2], "onnx", weights=tmp_path / "twin.safetensors")
    assert listing(tmp_path) == ["a.pt", "b.pt", "sub"]
