"""What goes wrong in a conversion is told, and the old target stays until the new one is whole and proven."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from weights_support import listing, odd_tensors

import zoo
from zoo.errors import FileFormatError, FingerprintError, WeightsError


def test_a_changed_source_is_found_and_nothing_is_written(tmp_path: Path) -> None:
    model = zoo.build("lenet")
    source = zoo.save(model, tmp_path / "x.safetensors")
    content = bytearray(source.read_bytes())
    content[-1] ^= 1
    source.write_bytes(content)
    (tmp_path / "out.pt").write_text("old")
    with pytest.raises(FingerprintError, match=r"x.safetensors: its tensors were changed") as caught:
        zoo.convert(source, tmp_path / "out.pt", force=True)
    assert caught.value.expected == zoo.fingerprint(model)
    assert (tmp_path / "out.pt").read_text() == "old"
    assert listing(tmp_path) == ["out.pt", "x.safetensors"]
    report = zoo.convert(source, tmp_path / "new.pt", verify=False)
    assert (report.verified, report.fingerprint) == (False, zoo.fingerprint(model))
    assert "not verified" in str(report)
    with pytest.raises(FingerprintError):  # the claim went along, so that it is found later
        zoo.load(tmp_path / "new.pt", verify=True)


@pytest.mark.parametrize("with_spec", [True, False])
def test_a_write_that_goes_wrong_is_found_before_the_old_file_is_replaced(
    with_spec: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import zoo.weights.safetensors.format as format_

    source, target = tmp_path / "x.pt", tmp_path / "x.safetensors"
    zoo.save(zoo.build("lenet"), source) if with_spec else torch.save(odd_tensors(), source)
    target.write_text("old")
    honest = format_.write_tensors

    def flip_a_bit(file, *rest: object) -> None:
        honest(file, *rest)
        file.seek(-1, 1)
        file.write(b"\x77")

    monkeypatch.setattr(format_, "write_tensors", flip_a_bit)
    with pytest.raises(WeightsError, match=r"x.safetensors: was not written, the disk or the memory may be at fault"):
        zoo.convert(source, target, force=True)
    assert target.read_text() == "old"
    assert listing(tmp_path) == ["x.pt", "x.safetensors"]


def test_what_exists_is_replaced_only_when_told_so(tmp_path: Path) -> None:
    source = zoo.save(zoo.build("lenet"), tmp_path / "x.pt")
    target = tmp_path / "x.safetensors"
    target.write_text("precious")
    target.chmod(0o604)
    with pytest.raises(WeightsError, match=r"x.safetensors: exists already; to replace it: force=True \(zoo convert"):
        zoo.convert(source, target)
    assert target.read_text() == "precious"
    zoo.convert(source, target, force=True)
    assert zoo.fingerprint(target) == zoo.fingerprint(source)
    assert target.stat().st_mode & 0o777 == 0o604


def test_of_a_link_the_target_is_replaced(tmp_path: Path) -> None:
    source = zoo.save(zoo.build("lenet"), tmp_path / "x.pt")
    (tmp_path / "blobs").mkdir()
    blob, link = tmp_path / "blobs" / "0a1b", tmp_path / "x.safetensors"
    blob.write_text("old")
    link.symlink_to(blob)
    zoo.convert(source, link, force=True)
    assert link.is_symlink()
    assert zoo.fingerprint(link) == zoo.fingerprint(source)
    assert listing(tmp_path / "blobs") == ["0a1b"]


def test_source_and_target_may_not_be_one_file_also_through_links(tmp_path: Path) -> None:
    source = zoo.save(zoo.build("lenet"), tmp_path / "x.pt")
    (tmp_path / "soft.pt").symlink_to(source)
    (tmp_path / "hard.pt").hardlink_to(source)
    for target in (source, tmp_path / "." / "x.pt", tmp_path / "soft.pt", tmp_path / "hard.pt"):
        with pytest.raises(WeightsError, match="is the source itself"):
            zoo.convert(source, target, force=True)


def test_what_is_no_possible_source_or_target_is_told(tmp_path: Path) -> None:
    source = zoo.save(zoo.build("lenet"), tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="files only: found '-' as the source"):
        zoo.convert("-", tmp_path / "y.pt")
    with pytest.raises(WeightsError, match="files only: found '-' as the target"):
        zoo.convert(source, "-")
    with pytest.raises(WeightsError, match=r"y.pt: there is no folder .*nowhere; make it first"):
        zoo.convert(source, tmp_path / "nowhere" / "y.pt")
    with pytest.raises(FileFormatError, match=r"y.foo: suffix '.foo' names no format; expected one of .*\.safetensors"):
        zoo.convert(source, tmp_path / "y.foo")
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(WeightsError, match=r"folder.pt: is a folder; name the file: .*folder.pt/x.safetensors"):
        zoo.convert(source, tmp_path / "folder.pt")
    with pytest.raises(FileFormatError, match="there is no such file"):
        zoo.convert(tmp_path / "absent.pt", tmp_path / "y.pt")
    with pytest.raises(WeightsError, match=r"y.pt: the format .pt has no option 'max_shard_size'; it takes none"):
        zoo.convert(source, tmp_path / "y.pt", max_shard_size="1MB")
    torch.save({"a": torch.ones(2, dtype=torch.complex128)}, tmp_path / "complex.pt")
    with pytest.raises(WeightsError, match=r"/y.safetensors: .safetensors cannot hold 'a', which is complex128"):
        zoo.convert(tmp_path / "complex.pt", tmp_path / "y.safetensors")
    assert listing(tmp_path) == ["complex.pt", "folder.pt", "x.pt"]


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    torch.save({f"layer{i}": torch.full((1024, 1024), float(i)) for i in range(24)}, tmp_path / "x.pt")  # 96 MiB
    code = """
import sys, zoo
def anonymous():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) // 1024
peaks = []
zoo.convert(sys.argv[1], sys.argv[2] + "/warm.safetensors")
before = anonymous()
zoo.convert(sys.argv[1], sys.argv[2] + "/y.safetensors", progress=lambda *_: peaks.append(anonymous()))
print(max(peaks) - before)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "x.pt", tmp_path], capture_output=True, check=True)
    assert int(done.stdout) < 16


KILLER = """
import os, random, signal, sys, time
import zoo.weights.conversion.convert, zoo.weights.pt.format, zoo.weights.safetensors.format
target, *sources = sys.argv[1:]
delays = random.Random(0)
found = set()
for _ in range(15):  # one process is forked for each kill: importing torch takes longer than all that is tested
    child = os.fork()
    if not child:
        while True:
            for source in sources:
                zoo.convert(source, target, force=True)
    time.sleep(delays.uniform(0.02, 0.25))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found.add(open(target, "rb").read())
    print(len([name for name in os.listdir(os.path.dirname(target)) if name.endswith(".partial")]), end=" ")
whole = {open(source + ".whole", "rb").read() for source in sources}
print(len(found), found <= whole)
"""


def test_kill_9_at_any_time_leaves_a_whole_file_and_no_litter_for_long(tmp_path: Path) -> None:
    sources = [tmp_path / "a.pt", tmp_path / "b.pt"]
    folder = tmp_path / "out"
    folder.mkdir()
    target = folder / "x.safetensors"
    for source in sources:
        torch.save({f"layer{i}": torch.randn(64, 1024) for i in range(16)}, source)
        zoo.convert(source, target, force=True)
        Path(f"{source}.whole").write_bytes(target.read_bytes())
    done = subprocess.run([sys.executable, "-c", KILLER, target, *sources], capture_output=True, text=True, check=True)
    *littered, kinds_found, whole = done.stdout.split()
    assert whole == "True"
    assert kinds_found == "2"
    assert "1" in littered  # some were killed half-way
    assert set(littered) <= {"0", "1"}  # and each cleaned up after the one before
    zoo.convert(sources[0], target, force=True)
    assert listing(folder) == [target.name]
