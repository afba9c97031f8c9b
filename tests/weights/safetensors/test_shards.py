"""Weights in several files: they come back as from one, other tools read them, and an index reaches nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from zoo.errors import FileFormatError, WeightsError
from zoo.weights.parity import compare


@pytest.fixture
def model(randomise) -> zoo.Model:
    return randomise(zoo.build("resnet-lite"))


def shards(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.suffix == ".safetensors")


def test_a_model_goes_into_several_files_and_comes_back(model: zoo.Model, tmp_path: Path) -> None:
    index = zoo.save(model, tmp_path / "net.safetensors", max_shard_size="150KB")
    assert index == tmp_path / "net.safetensors.index.json"
    mark = zoo.fingerprint(model).removeprefix("sha256:")[:8]
    assert shards(tmp_path) == [f"net-{mark}-0000{n}-of-00004.safetensors" for n in (1, 2, 3, 4)]
    assert all((tmp_path / name).stat().st_size < 160_000 for name in shards(tmp_path))
    for verify in (False, True):
        back = zoo.load(index, verify=verify)
        assert compare(model.state_dict(), back.state_dict()).holds
        assert (back.spec, back.lock) == (model.spec, model.lock)
    found = zoo.inspect(index)
    assert found.spec == model.spec
    assert len(found.tensors) == len(model.state_dict())
    assert found.size > sum(t.nbytes for t in model.state_dict().values())


def test_other_tools_find_the_tensors_by_the_index(model: zoo.Model, tmp_path: Path) -> None:
    index = json.loads(zoo.save(model, tmp_path / "net.safetensors", max_shard_size=50_000).read_text())
    state = {name: load_file(tmp_path / shard)[name] for name, shard in index["weight_map"].items()}
    assert compare(model.state_dict(), state).holds
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in state.values())


def test_what_fits_into_one_file_is_one_file(model: zoo.Model, tmp_path: Path) -> None:
    path = zoo.save(model, tmp_path / "net.safetensors", max_shard_size="1GB")
    assert (path, shards(tmp_path)) == (tmp_path / "net.safetensors", ["net.safetensors"])


def test_tied_tensors_are_in_one_shard_once(tmp_path: Path) -> None:
    model = zoo.build("mlp", backbone={"hidden": [8, 8, 8]})
    linears = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    linears[2].weight = linears[1].weight
    back = zoo.load(zoo.save(model, tmp_path / "net.safetensors", max_shard_size=2000), verify=True)
    assert zoo.fingerprint(back) == zoo.fingerprint(model)
    again = [m for m in back.modules() if isinstance(m, torch.nn.Linear)]
    assert again[2].weight is again[1].weight


def test_saving_again_is_repeatable_and_removes_the_shards_of_before(model: zoo.Model, tmp_path: Path) -> None:
    index = zoo.save(model, tmp_path / "net.safetensors", max_shard_size=50_000)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    zoo.save(model, tmp_path / "net.safetensors", max_shard_size=50_000)
    assert before == {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    (tmp_path / "net-other.safetensors").write_bytes(b"mine")
    other = zoo.build("resnet-lite")
    zoo.save(other, tmp_path / "net.safetensors", max_shard_size=100_000)
    assert not set(shards(tmp_path)) & before.keys()
    assert (tmp_path / "net-other.safetensors").read_bytes() == b"mine"
    assert zoo.fingerprint(index) == zoo.fingerprint(other)


def test_a_crash_between_two_shards_leaves_the_old_model(
    model: zoo.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = zoo.save(model, tmp_path / "net.safetensors", max_shard_size=50_000)
    with monkeypatch.context() as patch:

        def crash(*_: object) -> Path:
            raise OSError(28, "No space left on device")

        patch.setattr("zoo.weights.safetensors.format.write_index", crash)
        with pytest.raises(OSError, match="No space left"):
            zoo.save(zoo.build("resnet-lite"), tmp_path / "net.safetensors", max_shard_size=50_000)
    assert zoo.fingerprint(zoo.load(index, verify=True)) == zoo.fingerprint(model)
    zoo.save(model, tmp_path / "net.safetensors", max_shard_size=50_000)
    assert set(shards(tmp_path)) == set(json.loads(index.read_text())["weight_map"].values())


@pytest.mark.parametrize("size", ["", "two", "-1GB", 0, -5, True, "0", 1e300])
def test_a_size_that_is_none_is_refused(size: object, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="expected a number of bytes, or text such as '2GB'"):
        zoo.save(zoo.build("lenet"), tmp_path / "net.safetensors", max_shard_size=size)


def test_formats_that_cannot_be_sharded_say_so(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"the format \.pt has no option 'max_shard_size'"):
        zoo.save(zoo.build("lenet"), tmp_path / "net.pt", max_shard_size="1MB")
    with pytest.raises(WeightsError, match="is the name of an index"):
        zoo.save(zoo.build("lenet"), tmp_path / "net.safetensors.index.json")


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """An index as other tools write it, without our metadata."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    state = zoo.build("lenet").state_dict()
    half = len(state) // 2
    weight_map = {}
    for number, names in enumerate((list(state)[:half], list(state)[half:]), 1):
        shard = f"model-0000{number}-of-00002.safetensors"
        save_file({name: state[name] for name in names}, folder / shard, {"format": "pt"})
        weight_map |= dict.fromkeys(names, shard)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1.0}, "weight_map": weight_map}))
    return index


def test_an_index_from_elsewhere_loads_with_a_spec(foreign: Path) -> None:
    assert zoo.load(foreign, spec="lenet").spec["backbone"]["type"] == "lenet"


def test_a_cache_of_links_is_read(foreign: Path, tmp_path: Path) -> None:
    links = tmp_path / "snapshot"
    links.mkdir()
    for file in foreign.parent.iterdir():
        (links / file.name).symlink_to(file)
    assert len(zoo.inspect(links / foreign.name).tensors) == 10


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "..", "", "a\\b", "c:x", "x\0y"])
def test_an_index_reaches_nothing_outside_its_folder(name: str, foreign: Path) -> None:
    index = json.loads(foreign.read_text())
    index["weight_map"]["head.fc.bias"] = name
    foreign.write_text(json.dumps(index))
    with pytest.raises(FileFormatError, match="points outside its folder"):
        zoo.load(foreign, spec="lenet")


def test_a_shard_that_is_a_link_to_elsewhere_is_refused(foreign: Path, tmp_path: Path) -> None:
    shard = foreign.parent / "model-00001-of-00002.safetensors"
    shard.rename(tmp_path / "elsewhere")
    shard.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileFormatError, match="is a link to"):
        zoo.load(foreign, spec="lenet")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda i: i["weight_map"].pop("head.fc.bias"), "the shard has 'head.fc.bias'"),
        (lambda i: i["weight_map"].update(x="model-00002-of-00002.safetensors"), "the shard lacks 'x'"),
        (lambda i: i["weight_map"].update(x="model-00003-of-00002.safetensors"), "is missing"),
        (lambda i: i.pop("weight_map"), "it has no weight_map"),
        (lambda i: i.update(weight_map={"a": 1}), "it has no weight_map"),
        (lambda i: i.update(metadata=[]), "its metadata is no object"),
    ],
)
def test_an_index_that_disagrees_with_its_shards_is_refused(change, reason: str, foreign: Path) -> None:
    index = json.loads(foreign.read_text())
    change(index)
    foreign.write_text(json.dumps(index))
    with pytest.raises(FileFormatError, match=reason):
        zoo.load(foreign, spec="lenet")
