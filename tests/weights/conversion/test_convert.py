"""Every direction between formats: bit for bit, byte for byte what zoo.save writes, old or new and never a part."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

import zoo
from zoo import kinds
from zoo.errors import FileFormatError, FingerprintError, MissingSpecError, UnknownNameError, WeightsError
from zoo.lock import LockWarning
from zoo.weights.checkpoint import Checkpoint
from zoo.weights.conversion.batch import convert_all
from zoo.weights.parity import compare
from zoo.weights.reading import read
from zoo.weights.writing import write

FORMATS = ("pt", "safetensors", "onnx")
LIGHT = ("pt", "safetensors")
DIRECTIONS = list(itertools.product(FORMATS, FORMATS))
RECORD = zoo.Record(
    data="made up",
    licence="CC0",
    split="all",
    metrics={"test_accuracy": 0.5},
    preprocessing=zoo.Preprocessing(size=(32, 32), mean=(0.5,), std=(0.25,)),
    labels=tuple("0123456789"),
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory):
    """Give a model by name, fresh or random, and its file in each format; each is exported once."""
    known: dict[tuple[str, bool], tuple[zoo.Model, dict[str, Path]]] = {}

    def give(name: str, fill=None) -> tuple[zoo.Model, dict[str, Path]]:
        key = (name, fill is not None)
        if key not in known:
            model = zoo.build(name)
            if fill:
                fill(model)
            model.record = RECORD
            folder = tmp_path_factory.mktemp(name)
            known[key] = model, {f: zoo.save(model, folder / f"{name}.{f}") for f in FORMATS}
        return known[key]

    return give


def listing(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "randomised"])
@pytest.mark.parametrize("name", ["lenet", "resnet-lite"])
@pytest.mark.parametrize(("before", "after"), DIRECTIONS)
def test_all_nine_directions_keep_every_bit_and_write_what_save_writes(
    before: str, after: str, name: str, fresh: bool, saved, randomise, tmp_path: Path
) -> None:
    model, files = saved(name, None if fresh else randomise)
    source, target = files[before], tmp_path / f"out.{after}"
    report = zoo.convert(source, target)
    back = zoo.load(target, verify=True)
    parity = compare(model.state_dict(), back.state_dict())
    assert (parity.differing, parity.total) == ((), len(model.state_dict()))
    assert (back.spec, back.lock, back.record) == (model.spec, model.lock, RECORD)
    assert target.read_bytes() == files[after].read_bytes()
    assert listing(tmp_path) == [target.name]
    assert (report.source, report.target) == (str(source), str(target))
    assert (report.source_format, report.target_format) == (before, after)
    assert (report.tensors, report.verified, report.casts) == (len(model.state_dict()), True, None)
    assert report.bytes == sum(t.nbytes for t in model.state_dict().values())
    assert report.fingerprint == zoo.fingerprint(model) == zoo.fingerprint(target)


@pytest.mark.parametrize(("before", "after"), DIRECTIONS)
def test_tied_weights_stay_tied(before: str, after: str, tmp_path: Path) -> None:
    model = zoo.build("mlp", backbone={"hidden": [64, 64, 64]})
    model.backbone.layers[2].linear.weight = model.backbone.layers[1].linear.weight
    source = zoo.save(model, tmp_path / f"tied.{before}")
    target = Path(zoo.convert(source, tmp_path / f"out.{after}").target)
    back = zoo.load(target)
    assert back.backbone.layers[2].linear.weight is back.backbone.layers[1].linear.weight
    assert compare(model.state_dict(), back.state_dict()).holds
    assert target.read_bytes() == zoo.save(zoo.load(source), tmp_path / f"again.{after}").read_bytes()


def odd_tensors() -> dict[str, torch.Tensor]:
    return {
        "z.weight": torch.randn(3, 4),
        "a.scalar": torch.tensor(5),
        "m.empty": torch.empty(0, 3),
        "b.nan": torch.tensor([float("nan"), -0.0], dtype=torch.float16),
        "c.flags": torch.tensor([True, False, True]),
        "d.view": torch.randn(4, 6).t(),
    }


@pytest.mark.parametrize("after", LIGHT)
def test_a_file_from_elsewhere_needs_no_model(after: str, tmp_path: Path) -> None:
    tensors = odd_tensors()
    torch.save(tensors, tmp_path / "plain.pt")
    report = zoo.convert(tmp_path / "plain.pt", tmp_path / f"out.{after}")
    found = read(report.target)
    assert found.artifact is None
    assert compare(tensors, found.state_dict()).holds
    assert report.fingerprint == zoo.fingerprint(tmp_path / "plain.pt") == zoo.fingerprint(report.target)
    if after == "pt":
        assert list(torch.load(report.target, weights_only=True)) == list(tensors)
    else:
        assert compare(tensors, safetensors.torch.load_file(report.target)).holds


def test_safetensors_from_elsewhere_become_a_plain_state_dict(tmp_path: Path) -> None:
    tensors = {"b": torch.randn(3), "a": torch.randn(2, 2).bfloat16()}
    safetensors.torch.save_file(tensors, tmp_path / "plain.safetensors", metadata={"format": "pt"})
    zoo.convert(tmp_path / "plain.safetensors", tmp_path / "out.pt")
    assert compare(tensors, torch.load(tmp_path / "out.pt", weights_only=True)).holds


def test_tied_tensors_without_a_spec_are_under_each_name_for_whoever_reads_them(tmp_path: Path) -> None:
    weight = torch.randn(3, 3)
    torch.save(OrderedDict(first=weight, other=torch.ones(2), second=weight), tmp_path / "tied.pt")
    to_safetensors = zoo.convert(tmp_path / "tied.pt", tmp_path / "out.safetensors")
    assert sorted(safetensors.torch.load_file(to_safetensors.target)) == ["first", "other", "second"]
    to_pt = zoo.convert(tmp_path / "tied.pt", tmp_path / "out.pt")
    state = torch.load(to_pt.target, weights_only=True)
    assert list(state) == ["first", "other", "second"]
    assert state["first"].data_ptr() == state["second"].data_ptr()
    for report in (to_safetensors, to_pt):
        assert report.fingerprint == zoo.fingerprint(report.target)
    (tmp_path / "sub").mkdir()
    states = [
        convert_all([tmp_path / "tied.pt"], format_, tmp_path / "sub").outcomes[0].state
        for format_ in ("safetensors", "pt", "safetensors", "pt")
    ]
    assert states == ["converted", "converted", "skipped", "skipped"]


def test_a_file_from_elsewhere_becomes_an_artifact_with_spec(tmp_path: Path) -> None:
    model = zoo.build("lenet")
    torch.save(model.state_dict(), tmp_path / "plain.pt")
    for format_ in FORMATS:
        report = zoo.convert(tmp_path / "plain.pt", tmp_path / f"out.{format_}", spec="lenet")
        assert compare(model.state_dict(), zoo.load(report.target, verify=True).state_dict()).holds
    with pytest.raises(zoo.ZooError, match="do not fit the model"):
        zoo.convert(tmp_path / "plain.pt", tmp_path / "other.pt", spec="resnet-lite")


def test_onnx_without_a_spec_is_refused_and_told_what_is_missing(tmp_path: Path) -> None:
    torch.save(odd_tensors(), tmp_path / "plain.pt")
    with pytest.raises(
        MissingSpecError, match=r"plain.pt: carries no spec, and .onnx needs the model.*spec='resnet18'"
    ):
        zoo.convert(tmp_path / "plain.pt", tmp_path / "out.onnx")
    assert listing(tmp_path) == ["plain.pt"]


def test_the_lock_of_the_source_is_not_forged(tmp_path: Path) -> None:
    model = zoo.build("lenet")
    made = Checkpoint.of(model)
    elsewhere = made.artifact.model_copy(update={"lock": {"zoo-torch": "0.0.9"}})
    source = write(model, Checkpoint(made.tensors, {}, elsewhere, made.order).sealed(), tmp_path / "x.pt")
    with pytest.warns(LockWarning, match="zoo-torch was 0.0.9"):
        zoo.convert(source, tmp_path / "x.safetensors")
    assert zoo.inspect(tmp_path / "x.safetensors").lock == {"zoo-torch": "0.0.9"}


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


def test_several_files_and_back(tmp_path: Path) -> None:
    first, second = (zoo.save(zoo.build("resnet-lite"), tmp_path / f"{n}.pt") for n in "ab")
    report = zoo.convert(first, tmp_path / "x.safetensors", max_shard_size="100KB")
    index = tmp_path / "x.safetensors.index.json"
    assert report.target == str(index)
    shards = set(json.loads(index.read_text())["weight_map"].values())
    assert len(shards) > 2
    assert set(listing(tmp_path)) == {"a.pt", "b.pt", index.name, *shards}
    with pytest.raises(WeightsError, match=r"index.json: exists already"):
        zoo.convert(second, tmp_path / "x.safetensors", max_shard_size="100KB")
    zoo.convert(second, tmp_path / "x.safetensors", max_shard_size="100KB", force=True)
    assert zoo.fingerprint(index) == zoo.fingerprint(second)
    assert not shards & set(listing(tmp_path))
    back = zoo.convert(index, tmp_path / "whole.pt")
    assert (back.source_format, back.fingerprint) == ("safetensors", zoo.fingerprint(second))
    assert (tmp_path / "whole.pt").read_bytes() == second.read_bytes()


@pytest.mark.parametrize("after", FORMATS)
def test_dtype_casts_what_is_written_and_the_report_says_what_it_did(after: str, tmp_path: Path) -> None:
    model = zoo.build("mlp")
    source = zoo.save(model, tmp_path / "x.pt")
    report = zoo.convert(source, tmp_path / f"half.{after}", dtype="float16")
    back = zoo.load(report.target, verify=True)
    assert compare({n: t.half() for n, t in model.state_dict().items()}, back.state_dict()).holds
    assert [t.target for t in report.casts.tensors] == ["float16"] * 6
    assert "6 tensors to float16" in str(report)
    assert report.bytes == sum(t.nbytes for t in model.state_dict().values()) / 2
    assert report.fingerprint == zoo.fingerprint(back) == read(report.target).artifact.fingerprint
    (record,) = read(report.target).artifact.casts
    assert (record.source, record.target, record.fingerprint) == ("float32", "float16", zoo.fingerprint(model))
    again = zoo.convert(report.target, tmp_path / "again.safetensors")
    assert read(again.target).artifact.casts == (record,)  # what was done once is told for good


def test_a_dtype_that_loses_values_is_refused_unless_allowed(tmp_path: Path) -> None:
    torch.save({"a": torch.tensor([1e30, 1.0]), "n": torch.tensor([3])}, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=r"x.pt: "):
        zoo.convert(tmp_path / "x.pt", tmp_path / "y.safetensors", dtype="float16")
    assert listing(tmp_path) == ["x.pt"]
    report = zoo.convert(tmp_path / "x.pt", tmp_path / "y.safetensors", dtype="float16", allow_lossy=True)
    expected = {"a": torch.tensor([float("inf"), 1.0]).half(), "n": torch.tensor([3])}
    assert compare(expected, safetensors.torch.load_file(report.target)).holds


def test_an_onnx_graph_and_its_twin_are_written_together(tmp_path: Path) -> None:
    source = zoo.save(zoo.build("mlp"), tmp_path / "x.pt")
    report = zoo.convert(source, tmp_path / "y.onnx", weights="y.safetensors")
    assert listing(tmp_path) == ["x.pt", "y.onnx", "y.safetensors"]
    for file in (report.target, tmp_path / "y.safetensors"):
        assert zoo.fingerprint(zoo.load(file, verify=True)) == zoo.fingerprint(source)
    with pytest.raises(WeightsError, match=r"z.safetensors: expected in the folder of .*y.onnx"):
        zoo.convert(source, tmp_path / "y.onnx", weights="../z.safetensors", force=True)
    Path(report.target).unlink()
    with pytest.raises(WeightsError, match=r"y.safetensors: exists already"):
        zoo.convert(source, tmp_path / "y.onnx", weights="y.safetensors")
    zoo.convert(source, tmp_path / "y.onnx", weights="y.safetensors", force=True)
    assert zoo.verify(tmp_path / "y.onnx", source).ok


def test_options_of_onnx_are_those_of_save(tmp_path: Path) -> None:
    model = zoo.build("mlp")
    source = zoo.save(model, tmp_path / "x.pt")
    zoo.convert(source, tmp_path / "y.onnx", opset=20)
    zoo.save(zoo.load(source), tmp_path / "z.onnx", opset=20)
    assert (tmp_path / "y.onnx").read_bytes() == (tmp_path / "z.onnx").read_bytes()


def test_data_files_of_an_earlier_graph_go_with_it(tmp_path: Path) -> None:
    source = zoo.save(zoo.build("mlp"), tmp_path / "x.pt")
    zoo.convert(source, tmp_path / "y.onnx")
    (tmp_path / "y.onnx.0123abcd.data").touch()
    zoo.convert(source, tmp_path / "y.onnx", force=True)
    assert listing(tmp_path) == ["x.pt", "y.onnx"]


def test_progress_is_told_in_bytes(tmp_path: Path) -> None:
    source = zoo.save(zoo.build("lenet"), tmp_path / "x.pt")
    told: list[tuple[int, int]] = []
    zoo.convert(source, tmp_path / "x.safetensors", progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (246_824, 246_824)
    assert told == sorted(told)


def test_a_format_of_a_plugin_takes_part(tmp_path: Path) -> None:
    class Renamed:
        def write(self, model: nn.Module | None, checkpoint: Checkpoint, path: Path) -> None:
            plain = write(model, checkpoint, path.with_suffix(".safetensors"))
            plain.rename(path)

        def read(self, path: Path, *, mapped: bool = True) -> Checkpoint:
            return kinds.formats.get("safetensors").read(path, mapped=mapped)

    kinds.formats.register("acme", Renamed())
    try:
        source = zoo.save(zoo.build("lenet"), tmp_path / "x.pt")
        zoo.convert(source, tmp_path / "y.acme")
        zoo.convert(tmp_path / "y.acme", tmp_path / "z.pt")
        assert listing(tmp_path) == ["x.pt", "y.acme", "z.pt"]
        assert (tmp_path / "z.pt").read_bytes() == source.read_bytes()
    finally:
        kinds.formats.unregister("acme")


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
