"""ONNX files whose tensors or description are damaged: each is an error of ours, and no other file is followed."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import zoo
from zoo.errors import FileFormatError, WeightsError


@pytest.fixture(scope="module")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoo.save(zoo.build("lenet"), tmp_path_factory.mktemp("saved") / "lenet.onnx")


def test_onnx_tensors_that_disagree_with_their_shape_are_refused(lenet: Path, tmp_path: Path) -> None:
    proto = onnx.load(lenet)
    proto.graph.initializer[0].dims[0] += 1
    onnx.save(proto, tmp_path / "x.onnx")
    with pytest.raises(FileFormatError, match=r"initializer '.*' has \d+ bytes; its shape \[.*\] needs \d+"):
        zoo.load(tmp_path / "x.onnx")


def test_onnx_tensors_in_other_files_are_never_followed(lenet: Path, tmp_path: Path) -> None:
    proto = onnx.load(lenet)
    first = proto.graph.initializer[0]
    first.ClearField("raw_data")
    first.data_location = onnx.TensorProto.EXTERNAL
    first.external_data.add(key="location", value="../../etc/passwd")
    (tmp_path / "x.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(FileFormatError, match="is kept in another file"):
        zoo.load(tmp_path / "x.onnx")


@pytest.mark.parametrize("key", ["zoo.initializers", "zoo.tensors"])
@pytest.mark.parametrize("value", ["", "{", "[]", "3", "null", "!!", '{"a": 1}'])
def test_damaged_onnx_metadata_is_refused(key: str, value: str, lenet: Path, tmp_path: Path) -> None:
    proto = onnx.load(lenet)
    for prop in proto.metadata_props:
        if prop.key == key:
            prop.value = value
    (tmp_path / "x.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(WeightsError):
        zoo.load(tmp_path / "x.onnx")


@pytest.mark.parametrize("dims", [[-1, -1], [0, -5], [2**62, 4]])
def test_onnx_tensors_of_impossible_shape_are_refused(dims: list[int], lenet: Path, tmp_path: Path) -> None:
    proto = onnx.load(lenet)
    proto.graph.initializer[0].dims[:] = dims
    (tmp_path / "x.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(FileFormatError):
        zoo.load(tmp_path / "x.onnx")


def test_a_bare_onnx_file_with_strange_tensors_is_refused(lenet: Path, tmp_path: Path) -> None:
    proto = onnx.load(lenet)
    del proto.metadata_props[:]
    proto.graph.initializer[0].data_type = 999
    (tmp_path / "x.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(FileFormatError):
        zoo.load(tmp_path / "x.onnx", spec="lenet")


def test_two_onnx_tensors_of_one_name_are_refused(lenet: Path, tmp_path: Path) -> None:
    proto = onnx.load(lenet)
    proto.graph.initializer.append(proto.graph.initializer[0])
    (tmp_path / "x.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(FileFormatError, match="two initializers have the same name"):
        zoo.load(tmp_path / "x.onnx")
