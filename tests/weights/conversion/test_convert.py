"""Every direction between formats: bit for bit, and byte for byte what zoo.save writes."""

from __future__ import annotations

import itertools
import json
from collections import OrderedDict
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn
from weights_support import listing, odd_tensors

import zoo
from zoo import kinds
from zoo.errors import MissingSpecError, WeightsError
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
