"""Initializers in other files: read as ``onnx`` reads them, from the folder of the graph alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import zoo
from zoo.errors import FileFormatError, FingerprintError, StalePairError
from zoo.weights.onnx import beside
from zoo.weights.onnx import external as onnxexternal
from zoo.weights.onnx.reading import read_onnx
from zoo.weights.parity import compare
from zoo.weights.regions import bytes_of
from zoo.weights.safetensors.header import read_header

BOTH = pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "read"])


def write(folder: Path, *told: dict[str, object], name: str = "w", shape: tuple[int, ...] = (2, 2)) -> Path:
    """Write a graph with one initializer of float32 for each dict of external data."""
    tensors = []
    for index, each in enumerate(told):
        called = name if len(told) == 1 else f"{name}{index}"
        tensor = TensorProto(name=called, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
        for key, value in each.items():
            tensor.external_data.add(key=key, value=str(value))
        tensors.append(tensor)
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "graph", [value], [result], tensors)
    folder.mkdir(exist_ok=True)
    (folder / "net.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    return folder / "net.onnx"


def refused(file: Path) -> str:
    """The reason for which a file is refused, mapped and not."""
    for mapped in (True, False):
        with pytest.raises(FileFormatError) as caught:
            read_onnx(file, mapped=mapped)
        assert caught.value.path == str(file)
    return caught.value.reason


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with 64 bytes of data: the numbers 0 to 15; and a secret beside it."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "data.bin").write_bytes(bytes_of(torch.arange(16.0)).numpy().tobytes())
    (tmp_path / "secret").write_bytes(b"s" * 16)
    return folder


@dataclass(frozen=True)
class Saved:
    """A model, and what its files hold."""

    model: zoo.Model
    graph: bytes
    weights: bytes


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Saved]:
    folder = tmp_path_factory.mktemp("saved")

    @cache
    def save(name: str) -> Saved:
        model = zoo.build(name).eval()
        with torch.no_grad():
            for tensor in model.state_dict().values():
                tensor.copy_(torch.rand(tensor.shape) + 0.5)
        graph, weights = zoo.save(model, folder / f"{name}.onnx"), zoo.save(model, folder / f"{name}.safetensors")
        return Saved(model, graph.read_bytes(), weights.read_bytes())

    return save


@BOTH
@pytest.mark.parametrize("one", [True, False], ids=["one file", "a file each"])
@pytest.mark.parametrize("name", ["lenet", "resnet-lite"])
def test_a_file_saved_again_by_onnx_with_external_data_comes_back(
    name: str, one: bool, mapped: bool, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    model, file = saved(name).model, tmp_path / "model.onnx"
    onnx.save(
        onnx.ModelProto.FromString(saved(name).graph), file, save_as_external_data=True,
        all_tensors_to_one_file=one, location="model.data" if one else None, size_threshold=0,
    )  # fmt: skip
    plain = onnx.load(file, load_external_data=False)
    assert all(i.data_location == TensorProto.EXTERNAL for i in plain.graph.initializer)
    assert compare(model.state_dict(), read_onnx(file, mapped=mapped).state_dict()).differing == ()
    assert zoo.fingerprint(zoo.load(file, verify=True)) == zoo.fingerprint(model)
    del plain.metadata_props[:]
    file.write_bytes(plain.SerializeToString())
    tensors = read_onnx(file, mapped=mapped).tensors
    for initializer in onnx.load(file).graph.initializer:
        expected = numpy_helper.to_array(initializer)
        assert bytes_of(tensors[initializer.name]).numpy().tobytes() == expected.tobytes()


@BOTH
def test_what_is_left_out_is_the_beginning_and_the_rest_of_the_file(folder: Path, mapped: bool) -> None:
    told = {"location": "data.bin", "offset": 48, "checksum": "0" * 40}
    (found,) = read_onnx(write(folder, told), mapped=mapped).tensors.values()
    assert found.tolist() == [[12, 13], [14, 15]]
    (found,) = read_onnx(write(folder, {"location": "./data.bin"}, shape=(16,)), mapped=mapped).tensors.values()
    assert found.tolist() == list(range(16))
    (folder / "parts").mkdir()
    (folder / "data.bin").rename(folder / "parts" / "data.bin")
    told = {"location": "parts/data.bin", "offset": 2, "length": 16}  # not at a multiple of 4 bytes
    (found,) = read_onnx(write(folder, told), mapped=mapped).tensors.values()
    assert bytes_of(found).numpy().tobytes() == (folder / "parts" / "data.bin").read_bytes()[2:18]


@BOTH
def test_initializers_at_one_place_are_one_tensor_and_overlaps_are_refused(folder: Path, mapped: bool) -> None:
    first = {"location": "data.bin", "offset": 0, "length": 16}
    found = read_onnx(write(folder, first, first, {**first, "offset": 16}), mapped=mapped)
    assert (list(found.tensors), found.aliases) == (["w0", "w2"], {"w1": "w0"})
    assert refused(write(folder, first, {**first, "offset": 12})) == "'w1' and 'w0' overlap in 'data.bin'"


def test_one_file_under_two_names_is_refused(folder: Path) -> None:
    first = {"location": "data.bin", "offset": 0, "length": 16}
    told = "'data.bin' and './data.bin', in which it keeps initializers, are one file"
    assert refused(write(folder, first, {**first, "location": "./data.bin"})) == told
    (folder / "link.bin").symlink_to("data.bin")
    assert "are one file" in refused(write(folder, first, {**first, "location": "link.bin"}))


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("/etc/passwd", "'/etc/passwd', which is not the plain name of a file in the folder of this one"),
        ("../secret", "'../secret', which is not the plain name of a file"),
        ("a/../../secret", "'a/../../secret', which is not the plain name of a file"),
        ("..", "'..', which is not the plain name of a file"),
        (".", "'.', which is not the plain name of a file"),
        ("a\\..\\secret", "'a\\\\..\\\\secret', which is not the plain name of a file"),
        ("a\0b", "'a\\x00b', which is not the plain name of a file"),
        ("C:secret", "'C:secret', which names a drive"),
        ("none.bin", "'none.bin', which is missing; it belongs into the folder of this one"),
        ("x" * 300, "which cannot be opened: File name too long"),
        ("folder", "'folder', which is no regular file"),
        ("pipe", "'pipe', which is no regular file"),
        ("leaving", "'leaving', a link that leads out of the folder of this one; copy the file here"),
        ("away/secret", "'away/secret', a link that leads out of the folder of this one; copy the file here"),
        ("here", "'here', a link that leads out of the folder of this one"),
        ("loop", "'loop', which is no regular file"),
        ("hard.bin", "'hard.bin', which has 2 names (hard links), so that it may be a file from elsewhere; copy it"),
        ("data.bin/x", "which cannot be opened: Not a directory"),
        ("device", "'device', a link that leads out of the folder"),
    ],
)  # fmt: skip
def test_what_is_no_plain_file_of_the_folder_is_never_opened(location: str, reason: str, folder: Path) -> None:
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "leaving").symlink_to(folder.parent / "secret")
    (folder / "away").symlink_to("..")
    (folder / "here").symlink_to(".")
    (folder / "loop").symlink_to("loop")
    (folder / "device").symlink_to("/dev/zero")
    (folder / "hard.bin").hardlink_to(folder.parent / "secret")
    found = refused(write(folder, {"location": location, "offset": 0, "length": 16}))
    assert found.startswith("initializer 'w' is kept in another file, ")
    assert reason in found


@pytest.mark.parametrize(
    ("exchange", "reason"),
    [
        (lambda file: file.symlink_to("../secret"), "which cannot be opened: Too many levels of symbolic links"),
        (os.mkfifo, "which is no regular file"),
        (lambda file: file.hardlink_to(file.parent.parent / "secret"), "which has 2 names (hard links)"),
    ],
    ids=["link", "pipe", "hard link"],
)
def test_a_file_that_is_exchanged_between_the_check_and_the_opening_is_refused(
    exchange: Callable, reason: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = beside._refuse_device

    def check_and_exchange(found: os.stat_result, name: str) -> None:
        check(found, name)
        (folder / name).unlink()
        exchange(folder / name)

    monkeypatch.setattr(beside, "_refuse_device", check_and_exchange)
    with pytest.raises(FileFormatError) as caught:
        read_onnx(write(folder, {"location": "data.bin", "offset": 0, "length": 16}), mapped=False)
    assert f"'data.bin', {reason}" in caught.value.reason


@BOTH
def test_a_link_within_the_folder_is_followed(folder: Path, mapped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "link.bin").symlink_to("data.bin")
    file = write(folder, {"location": "link.bin", "length": 16})
    assert read_onnx(file, mapped=mapped).tensors["w"].tolist() == [[0, 1], [2, 3]]
    (folder.parent / "elsewhere").symlink_to(folder)
    monkeypatch.chdir(folder.parent)
    assert read_onnx(Path("elsewhere/net.onnx"), mapped=mapped).tensors["w"].tolist() == [[0, 1], [2, 3]]


@BOTH
def test_a_cache_of_downloads_whose_files_are_all_links_is_followed(folder: Path, mapped: bool) -> None:
    write(folder, {"location": "data.bin", "length": 16}).rename(folder / "5ca1ab1e")
    (folder / "data.bin").rename(folder / "f005ba11")
    snapshot = folder.parent / "snapshot"
    snapshot.mkdir()
    (snapshot / "net.onnx").symlink_to("../model/5ca1ab1e")
    (snapshot / "data.bin").symlink_to("../model/f005ba11")
    assert read_onnx(snapshot / "net.onnx", mapped=mapped).tensors["w"].tolist() == [[0, 1], [2, 3]]
    (snapshot / "data.bin").unlink()
    (snapshot / "data.bin").symlink_to("../secret")
    assert "a link that leads out of the folder of this one" in refused(snapshot / "net.onnx")


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({}, "initializer 'w' is kept in another file, but not said in which"),
        ({"location": ""}, "initializer 'w' is kept in another file, but not said in which"),
        ({"offset": -1}, "initializer 'w' has the offset '-1'; expected a number of bytes"),
        ({"offset": " 1"}, "has the offset ' 1'; expected"),
        ({"offset": "1_0"}, "has the offset '1_0'; expected"),
        ({"offset": "٣"}, "has the offset '٣'; expected"),
        ({"offset": ""}, "has the offset ''; expected"),
        ({"offset": "9" * 5000}, f"has the offset '{'9' * 40}'; expected"),
        ({"length": "0x10"}, "has the length '0x10'; expected"),
        ({"offset": 2**62, "length": 16}, "ends at byte 4611686018427387920 of 'data.bin', which has 64"),
        ({"offset": 56, "length": 16}, "initializer 'w' ends at byte 72 of 'data.bin', which has 64"),
        ({"offset": 65}, "initializer 'w' ends at byte 65 of 'data.bin', which has 64"),
        ({"offset": 0, "length": 12}, "initializer 'w' has 12 bytes; its shape [2, 2] needs 16"),
        ({"offset": 32}, "initializer 'w' has 32 bytes; its shape [2, 2] needs 16"),
    ],
)
def test_places_that_cannot_be_are_refused(told: dict[str, object], reason: str, folder: Path) -> None:
    assert reason in refused(write(folder, {"location": "data.bin", **told} if told else {}))


def test_of_very_many_data_files_the_largest_are_mapped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(8):
        (folder / f"{index}.bin").write_bytes(bytes_of(torch.full((4,), float(index))).numpy().tobytes())
    monkeypatch.setattr(onnxexternal, "MAX_MAPPED", 3)
    before = len(list(Path("/proc/self/fd").iterdir()))
    found = read_onnx(write(folder, *({"location": f"{index}.bin"} for index in range(8))), mapped=True)
    assert [tensor[0, 0].item() for tensor in found.tensors.values()] == list(range(8))
    assert len(list(Path("/proc/self/fd").iterdir())) - before == 3


def twins(saved: Saved, folder: Path) -> Path:
    """Write a graph whose initializers are in the safetensors file beside it."""
    file, weights = folder / "net.onnx", folder / "net.safetensors"
    weights.write_bytes(saved.weights)
    with weights.open("rb") as opened:
        header = read_header(opened, len(saved.weights), weights)
    places = {region.name: region for region in header.regions}
    proto = onnx.ModelProto.FromString(saved.graph)
    for initializer in proto.graph.initializer:
        if initializer.name in places:
            place = places[initializer.name]
            initializer.ClearField("raw_data")
            initializer.data_location = TensorProto.EXTERNAL
            for key, value in (("location", weights.name), ("offset", place.offset), ("length", place.nbytes)):
                initializer.external_data.add(key=key, value=str(value))
    file.write_bytes(proto.SerializeToString())
    return file


@BOTH
def test_a_graph_and_its_safetensors_twin_are_one_model(
    mapped: bool, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    model, file = saved("resnet-lite").model, twins(saved("resnet-lite"), tmp_path)
    assert file.stat().st_size < 200_000 < (tmp_path / "net.safetensors").stat().st_size
    assert compare(model.state_dict(), read_onnx(file, mapped=mapped).state_dict()).differing == ()
    back = zoo.load(file, verify=not mapped)
    x = torch.randn(2, 1, 32, 32)
    with torch.inference_mode():
        expected = model(x)
        assert torch.equal(back(x), expected)
    (ran,) = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"image": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(ran), expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0), st.binary(min_size=1, max_size=4)), min_size=1, max_size=3))
def test_a_graph_with_any_bytes_changed_is_read_or_refused(
    saved: Callable[[str], Saved], tmp_path: Path, changes: list[tuple[int, bytes]]
) -> None:
    file = twins(saved("lenet"), tmp_path)
    content = bytearray(file.read_bytes())
    for at, new in changes:
        begin = at % len(content)
        content[begin : begin + len(new)] = new
    file.unlink()
    file.write_bytes(content)
    for mapped in (True, False):
        with suppress(zoo.ZooError):
            assert read_onnx(file, mapped=mapped).fingerprint.startswith("sha256:")


def test_weights_that_were_replaced_without_their_graph_are_told_apart(
    saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    file, weights, former = twins(saved("lenet"), tmp_path), tmp_path / "net.safetensors", saved("lenet").model
    for other in (zoo.build("lenet"), zoo.build("mlp"), zoo.build("mlp", backbone={"hidden": [2]})):
        zoo.save(other, weights)
        for verify in (False, True):
            with pytest.raises(StalePairError) as caught:
                zoo.load(file, verify=verify)
        found = caught.value
        assert (found.path, found.weights) == (str(file), str(weights))
        assert (found.expected, found.found) == (zoo.fingerprint(former), zoo.fingerprint(other))
        assert str(found) == (
            f"{file}: is older than its weights: {weights} was replaced and this graph was not (it holds "
            f"{found.found}; the graph was written for {found.expected}). Save both again, zoo.save(model, "
            f"{str(file)!r}, weights={str(weights)!r}), or put the former weights back; the new ones alone are in "
            f"zoo.load({str(weights)!r})"
        )
        assert zoo.fingerprint(zoo.load(weights)) == found.found


def _reorder(weights: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    """Replace a safetensors file by one of another program, which says nothing of a fingerprint."""
    from safetensors.torch import load_file, save_file

    save_file(change(load_file(weights)), weights)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: {**t, "head.fc.bias": torch.zeros(7)}, "float32[6, 1, 5, 5] at byte 928"),
        (lambda t: {f"x.{name}": each for name, each in t.items()}, "that file has no tensor of this name"),
        (lambda t: {name: each.double() for name, each in t.items()}, "that file has float64["),
    ],
    ids=["shape", "name", "dtype"],
)
def test_weights_that_do_not_lie_where_the_graph_says_are_told_apart(
    change: Callable, told: str, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    file = twins(saved("lenet"), tmp_path)
    _reorder(tmp_path / "net.safetensors", change)
    with pytest.raises(FileFormatError) as caught:
        zoo.load(file)
    assert told in caught.value.reason
    assert caught.value.reason.endswith("The two were not written together: save both again")


def test_a_byte_that_changed_in_the_weights_is_found_when_verifying(
    saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    file, weights = twins(saved("lenet"), tmp_path), tmp_path / "net.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert zoo.load(file).spec == saved("lenet").model.spec
    with pytest.raises(FingerprintError, match="its tensors were changed"):
        zoo.load(file, verify=True)
    weights.write_bytes(content[:-1])
    with pytest.raises(FileFormatError, match="not a whole safetensors file") as caught:
        zoo.load(file)
    assert caught.value.path == str(weights)
    weights.unlink()
    with pytest.raises(FileFormatError, match=r"'net\.safetensors', which is missing"):
        zoo.load(file)
