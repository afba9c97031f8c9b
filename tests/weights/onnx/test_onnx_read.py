"""Reading ONNX files: bit for bit what ``onnx`` itself reads, from files of ours and of others, in little memory."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import zoo
from zoo.errors import FileFormatError, NotInvertibleError, ZooError
from zoo.weights.checkpoint import Checkpoint
from zoo.weights.dtypes import BY_ONNX, DTYPES, Dtype
from zoo.weights.onnx.reading import read_onnx
from zoo.weights.parity import compare
from zoo.weights.regions import bytes_of

SMALL = ("lenet", "mlp", "resnet-lite", "vgg-lite")


def model_of(*initializers: TensorProto) -> onnx.ModelProto:
    """A graph that does nothing, with these initializers."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    node = helper.make_node("Identity", ["x"], ["y"])
    return helper.make_model(helper.make_graph([node], "graph", [value], [result], list(initializers)))


def raw(name: str, dtype: Dtype, shape: tuple[int, ...], content: bytes) -> TensorProto:
    return TensorProto(name=name, data_type=dtype.onnx, dims=shape, raw_data=content)


def refused(proto: onnx.ModelProto | bytes, folder: Path) -> FileFormatError:
    """The error with which a file is refused, mapped and not."""
    file = folder / "x.onnx"
    file.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
    for mapped in (True, False):
        with pytest.raises(FileFormatError) as caught:
            read_onnx(file, mapped=mapped)
        assert caught.value.path == str(file)
    return caught.value


def assert_as_onnx_reads(file: Path, tensors: Checkpoint) -> None:
    proto = onnx.load(file)
    assert list(tensors.tensors) + list(tensors.aliases) == [i.name for i in proto.graph.initializer]
    for initializer in proto.graph.initializer:
        expected, found = numpy_helper.to_array(initializer), tensors.state_dict()[initializer.name]
        assert found.dtype == BY_ONNX[initializer.data_type].torch
        assert tuple(found.shape) == expected.shape
        assert bytes_of(found).numpy().tobytes() == expected.tobytes(), initializer.name


@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "randomised"])
@pytest.mark.parametrize("name", SMALL)
def test_what_is_read_is_what_onnx_reads(name: str, fresh: bool, randomise, tmp_path: Path) -> None:
    model = zoo.build(name)
    if not fresh:
        randomise(model)
    file = zoo.save(model, tmp_path / "model.onnx")
    plain = onnx.load(file)
    del plain.metadata_props[:]
    onnx.save(plain, tmp_path / "plain.onnx")
    for mapped in (True, False):
        assert compare(model.state_dict(), read_onnx(file, mapped=mapped).state_dict()).differing == ()
        assert_as_onnx_reads(tmp_path / "plain.onnx", read_onnx(tmp_path / "plain.onnx", mapped=mapped))


class _Block(nn.Module):
    """A residual block as torchvision has it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return self.fc((out + x).relu().mean((2, 3)))


@pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript-based ONNX export:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The feature will be removed:DeprecationWarning")
@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "legacy"])
def test_files_of_both_exporters_of_torch_are_read_as_onnx_reads_them(dynamo: bool, randomise, tmp_path: Path) -> None:
    module, file = randomise(_Block()).eval(), tmp_path / "block.onnx"
    torch.onnx.export(module, (torch.randn(2, 4, 8, 8),), file, dynamo=dynamo, verbose=False, external_data=False)
    for mapped in (True, False):
        assert_as_onnx_reads(file, read_onnx(file, mapped=mapped))


def _typed(proto: TensorProto, tensor: torch.Tensor) -> None:
    """Write values as small tensors of other exporters have them: as a list of numbers."""
    flat = tensor.reshape(-1)
    if tensor.is_complex():
        flat = torch.view_as_real(flat).reshape(-1)
    if flat.dtype == torch.float32:
        proto.float_data.extend(flat.tolist())
    elif flat.dtype == torch.float64:
        proto.double_data.extend(flat.tolist())
    elif flat.dtype == torch.int64:
        proto.int64_data.extend(flat.tolist())
    elif flat.dtype in (torch.uint32, torch.uint64):
        proto.uint64_data.extend(flat.tolist())
    elif flat.is_floating_point():
        bits = {1: torch.uint8, 2: torch.uint16}[flat.dtype.itemsize]
        proto.int32_data.extend(flat.view(bits).tolist())
    else:
        proto.int32_data.extend(map(int, flat.tolist()))


@st.composite
def _tensors(draw: st.DrawFn) -> tuple[Dtype, torch.Tensor]:
    dtype = draw(st.sampled_from(DTYPES))
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=4)))
    content = draw(st.binary(min_size=(n := torch.Size(shape).numel() * dtype.torch.itemsize), max_size=n))
    if not content:
        return dtype, torch.empty(shape, dtype=dtype.torch)
    values = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    values = values % 2 if dtype.torch == torch.bool else values
    tensor = values.view(dtype.torch).reshape(shape)
    if dtype.torch in (torch.float32, torch.float64, torch.complex64, torch.complex128):
        # Python's floats, by which lists of numbers are written here, do not keep every NaN.
        tensor = torch.where(tensor.isnan(), torch.zeros((), dtype=dtype.torch), tensor)
    return dtype, tensor


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_tensors(), min_size=1, max_size=3), st.booleans(), st.booleans())
def test_every_dtype_and_shape_comes_back_raw_and_typed(
    tmp_path: Path, tensors: list[tuple[Dtype, torch.Tensor]], typed: bool, mapped: bool
) -> None:
    protos = []
    for index, (dtype, tensor) in enumerate(tensors):
        proto = raw(f"t{index}", dtype, tuple(tensor.shape), bytes_of(tensor).numpy().tobytes())
        if typed:
            proto.ClearField("raw_data")
            _typed(proto, tensor)
        protos.append(proto)
    file = tmp_path / "x.onnx"
    file.unlink(missing_ok=True)
    file.write_bytes(model_of(*protos).SerializeToString())
    found = read_onnx(file, mapped=mapped)
    for index, (_, tensor) in enumerate(tensors):
        assert torch.equal(bytes_of(found.tensors[f"t{index}"]), bytes_of(tensor))
    assert_as_onnx_reads(file, found)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    model = zoo.build({"input": {"channels": 1, "size": [2, 2]}, "backbone": {"type": "mlp", "hidden": [2]}})
    return zoo.save(model, tmp_path_factory.mktemp("tiny") / "tiny.onnx").read_bytes()


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_file_with_any_bytes_changed_is_read_or_refused(tiny: bytes, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(tiny)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(0, len(content) - 1)))
        match data.draw(st.sampled_from(["change", "insert", "remove", "truncate"])):
            case "change":
                content[at : at + 1] = bytes([data.draw(st.integers(0, 255))])
            case "insert":
                content[at:at] = data.draw(st.binary(max_size=12))
            case "remove":
                del content[at : at + data.draw(st.integers(1, 12))]
            case "truncate":
                del content[at + 1 :]
    file = tmp_path / "x.onnx"
    file.unlink(missing_ok=True)
    file.write_bytes(content)
    for mapped in (True, False):
        with suppress(ZooError):
            assert read_onnx(file, mapped=mapped).fingerprint.startswith("sha256:")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.dims.__setitem__(slice(None), [2, 3]), "initializer 'w' has 16 bytes; its shape [2, 3] needs 24"),
        (lambda t: t.dims.__setitem__(slice(None), [-1, -4]), "initializer 'w' has the impossible shape [-1, -4]"),
        (lambda t: t.dims.__setitem__(slice(None), [0, 2**62]), "has the impossible shape [0, 4611686018427387904]"),
        (lambda t: t.dims.__setitem__(slice(None), [1] * 65), "an initializer has more than 64 dimensions"),
        (lambda t: t.float_data.extend([1.0] * 4), "initializer 'w' has its values twice, in float_data and raw_data"),
        (lambda t: setattr(t, "data_location", 1), "initializer 'w' has its values in raw_data and in another file"),
        (lambda t: setattr(t.segment, "begin", 1), "initializer 'w' is a segment of a tensor; only whole ones"),
        (lambda t: setattr(t, "data_type", 8), "initializer 'w' is of type STRING, which has no counterpart here"),
        (lambda t: setattr(t, "data_type", 22), "initializer 'w' is of type INT4, which has no counterpart here"),
        (lambda t: setattr(t, "data_type", 23), "initializer 'w' is of type FLOAT4E2M1, which has no counterpart"),
        (lambda t: setattr(t, "data_type", 0), "initializer 'w' is of type UNDEFINED, which has no counterpart here"),
        (lambda t: setattr(t, "data_type", 999), "initializer 'w' is of type number 999, which has no counterpart"),
    ],
)  # fmt: skip
def test_an_impossible_tensor_is_refused(change: Callable, reason: str, tmp_path: Path) -> None:
    proto = raw("w", BY_ONNX[TensorProto.FLOAT], (2, 2), bytes(16))
    change(proto)
    assert reason in refused(model_of(proto), tmp_path).reason


@pytest.mark.parametrize(
    ("number", "field", "values", "reason"),
    [
        (TensorProto.INT8, "int32_data", [1, 300], "'w' is int8, but has a number outside of -128 to 127"),
        (TensorProto.BOOL, "int32_data", [0, 2], "'w' is bool, but has a number outside of 0 to 1"),
        (TensorProto.BFLOAT16, "int32_data", [1, -1], "'w' is bfloat16, but has a number outside of 0 to 65535"),
        (TensorProto.UINT32, "uint64_data", [1, 2**32], "'w' is uint32, but has a number outside of 0 to 4294967295"),
        (TensorProto.INT64, "int64_data", [1], "'w' has fewer numbers than its shape [2]"),
        (TensorProto.INT64, "int64_data", [300], "'w' has fewer numbers than its shape [2]"),
        (TensorProto.INT64, "int64_data", [1, 2, 3], "'w' has more numbers than its shape [2]"),
        (TensorProto.INT64, "int32_data", [1, 2], "'w' is int64, but has int32_data"),
        (TensorProto.FLOAT, "float_data", [1.0], "'w' has 4 bytes; its shape [2] needs 8"),
        (TensorProto.FLOAT, "string_data", [b"a"], "'w' is float32, but has string_data"),
    ],
)
def test_a_list_of_numbers_that_are_not_those_of_the_tensor_is_refused(
    number: int, field: str, values: list, reason: str, tmp_path: Path
) -> None:
    proto = TensorProto(name="w", data_type=number, dims=[2])
    getattr(proto, field).extend(values)
    assert f"initializer {reason}" in refused(model_of(proto), tmp_path).reason


def test_sparse_initializers_and_two_graphs_are_refused(tmp_path: Path) -> None:
    whole = model_of()
    assert "it has two graphs" in refused(whole.SerializeToString() * 2, tmp_path).reason
    whole.graph.sparse_initializer.add()
    assert "it has a sparse initializer; only dense ones" in refused(whole, tmp_path).reason


def _zoo_metadata(tiny: bytes, key: str, value: str | None) -> onnx.ModelProto:
    proto = onnx.ModelProto.FromString(tiny)
    entry = next(p for p in proto.metadata_props if p.key == key)
    proto.metadata_props.remove(entry)
    if value is not None:
        proto.metadata_props.add(key=key, value=value)
    return proto


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("zoo.initializers", None, "(it has no 'zoo.initializers')"),
        ("zoo.tensors", None, "(it has no 'zoo.tensors')"),
        ("zoo.initializers", '{"a": "x", "a": "x"}', "the key 'a' is there twice"),
        ("zoo.initializers", '{"a": 3}', "(zoo.initializers is not text by name)"),
        ("zoo.initializers", '{"a": "x"}', "('a' is said to be 'x', not there)"),
        ("zoo.initializers", "[" * 100_000, "its JSON is nested too deeply"),
        ("zoo.initializers", " " * 10_000_001, "its metadata is too long (zoo.initializers: 10000001 bytes"),
        ("zoo.tensors", "AAA", "base64 of 3 characters; expected a multiple of 4"),
        ("zoo.tensors", "AAAAAAAA!!!!", "zoo.tensors: "),
        ("zoo.tensors", "AA==" * 70_000, "zoo.tensors: "),
        ("zoo.tensors", base64.b64encode(b"\xff" * 12).decode(), "its header claims 18446744073709551615 bytes"),
    ],
)
def test_damaged_metadata_is_refused(tiny: bytes, key: str, value: str | None, reason: str, tmp_path: Path) -> None:
    found = refused(_zoo_metadata(tiny, key, value), tmp_path).reason
    assert found.startswith("its metadata is ")
    assert reason in found


def test_two_tensors_cannot_be_one_initializer(tiny: bytes, tmp_path: Path) -> None:
    proto = onnx.ModelProto.FromString(tiny)
    names = json.loads(next(p.value for p in proto.metadata_props if p.key == "zoo.initializers"))
    name, initializer = next(iter(names.items()))
    changed = _zoo_metadata(tiny, "zoo.initializers", json.dumps({**names, "other": initializer}))
    assert f"({name!r} and 'other' are both {initializer!r})" in refused(changed, tmp_path).reason


def test_the_same_key_twice_in_the_metadata_is_refused_if_it_is_ours(tiny: bytes, tmp_path: Path) -> None:
    proto = onnx.ModelProto.FromString(tiny)
    for _ in range(2):
        proto.metadata_props.add(key="author", value="somebody")
    (tmp_path / "y.onnx").write_bytes(proto.SerializeToString())
    assert read_onnx(tmp_path / "y.onnx", mapped=True).artifact is not None
    proto.metadata_props.add(key="zoo", value="{}")
    assert "its metadata has 'zoo' twice" in refused(proto, tmp_path).reason


@pytest.mark.parametrize("value", ["", "yes"])
def test_no_model_comes_back_from_an_inference_graph(tiny: bytes, value: str, tmp_path: Path) -> None:
    proto = onnx.ModelProto.FromString(tiny)
    proto.metadata_props.add(key="zoo.optimized", value=value)
    (tmp_path / "x.onnx").write_bytes(proto.SerializeToString())
    for read in (zoo.load, zoo.inspect):
        with pytest.raises(NotInvertibleError) as caught:
            read(tmp_path / "x.onnx")
        assert str(caught.value) == (
            f"{tmp_path / 'x.onnx'}: is an inference graph, folded; no model comes back from it; "
            "load the file it was made from"
        )


def test_tensors_that_the_graph_does_not_hold_are_decoded_in_pieces(tmp_path: Path) -> None:
    model = zoo.build("mlp", backbone={"hidden": [600, 600]})
    file = zoo.save(model, tmp_path / "x.onnx")
    whole = zoo.save(model, tmp_path / "x.safetensors").read_bytes()
    proto = _zoo_metadata(file.read_bytes(), "zoo.initializers", "{}")
    text = base64.b64encode(whole).decode()
    next(p for p in proto.metadata_props if p.key == "zoo.tensors").value = text
    file.write_bytes(proto.SerializeToString())
    assert len(text) > 1 << 20
    assert compare(model.state_dict(), zoo.load(file, verify=True).state_dict()).differing == ()
    assert np.array_equal(zoo.load(file).state_dict()["head.fc.bias"], model.state_dict()["head.fc.bias"])
