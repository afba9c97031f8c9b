"""Casting: to another precision on the way in and out, refused where values that matter would be lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

import zoo
from zoo.cli import main
from zoo.errors import LossyCastError, UnknownNameError
from zoo.weights.casting import PRECISIONS, cast
from zoo.weights.checkpoint import Checkpoint
from zoo.weights.parity import compare
from zoo.weights.reading import read, read_verified

LESS_THAN_FLOAT32 = [name for name in PRECISIONS if name not in ("float64", "float32")]


def checkpoint(**tensors: torch.Tensor) -> Checkpoint:
    return Checkpoint(tensors)


@pytest.mark.parametrize("dtype", list(PRECISIONS))
def test_floating_point_tensors_are_cast_and_all_others_stay(dtype: str) -> None:
    given = checkpoint(
        weight=torch.tensor([0.5, -2.0, 0.0]),
        count=torch.tensor(7),
        mask=torch.tensor([True, False]),
        phase=torch.tensor([1 + 2j]),
        empty=torch.zeros(0, 3, dtype=torch.float64),
    )
    got, report = cast(given, dtype)
    assert {name: t.dtype for name, t in got.tensors.items()} == {
        "weight": PRECISIONS[dtype],
        "count": torch.int64,
        "mask": torch.bool,
        "phase": torch.complex64,
        "empty": PRECISIONS[dtype],
    }
    assert got.tensors["weight"].float().tolist() == [0.5, -2.0, 0.0]
    assert got.tensors["empty"].shape == (0, 3)
    assert report.dtype == dtype
    assert {t.name for t in report.tensors} == {n for n, t in given.tensors.items() if t.dtype != got.tensors[n].dtype}


@pytest.mark.parametrize(
    ("dtype", "largest", "too_large"),
    [
        ("float16", 65519.0, 65520.0),
        ("bfloat16", 3.39e38, 3.4e38),
        ("float8_e4m3fn", 463.0, 464.0),
        ("float8_e4m3fnuz", 247.0, 248.0),
        ("float8_e5m2", 61439.0, 61440.0),
        ("float8_e5m2fnuz", 61439.0, 61440.0),
    ],
)
def test_a_value_that_is_too_large_is_counted_and_one_that_rounds_to_the_largest_is_not(
    dtype: str, largest: float, too_large: float
) -> None:
    assert cast(checkpoint(w=torch.tensor([largest, -largest])), dtype)[1].tensors[0].overflowed == 0
    with pytest.raises(LossyCastError) as caught:
        cast(checkpoint(a=torch.ones(2), w=torch.tensor([too_large, 1.0, -too_large])), dtype, path="x.pt")
    assert (caught.value.dtype, caught.value.overflow, caught.value.underflow) == (dtype, {"w": 2}, {})
    assert str(caught.value) == (
        f"x.pt: casting to {dtype} loses values: 2 values are too large for it (w 2); choose a dtype of wider range, "
        "or allow_lossy=True"
    )


def test_a_float64_beyond_float32_is_too_large() -> None:
    with pytest.raises(LossyCastError, match=r"1 values are too large for it \(w 1\)"):
        cast(checkpoint(w=torch.tensor([1e300, 1.0], dtype=torch.float64)), torch.float32)


@pytest.mark.parametrize("dtype", LESS_THAN_FLOAT32)
def test_infinity_and_nan_pass_where_the_dtype_has_them(dtype: str) -> None:
    assert cast(checkpoint(w=torch.tensor([float("nan")])), dtype)[1].tensors[0].overflowed == 0
    has_infinity = dtype in ("float16", "bfloat16", "float8_e5m2")
    report = cast(checkpoint(w=torch.tensor([float("inf"), -float("inf")])), dtype, allow_lossy=True)[1]
    assert report.tensors[0].overflowed == (0 if has_infinity else 2)


def test_a_thousandth_of_the_nonzero_values_may_become_zero_and_no_more() -> None:
    values = torch.ones(4000)
    values[2000:] = 0
    values[:2] = 1e-12
    assert cast(checkpoint(w=values), "float16")[1].tensors[0].underflowed == 2
    values[2] = -1e-12
    with pytest.raises(LossyCastError) as caught:
        cast(checkpoint(w=values, v=torch.ones(3)), "float16")
    assert (caught.value.overflow, caught.value.underflow) == ({}, {"w": 3})
    assert "3 values become zero (w 3)" in str(caught.value)
    assert cast(checkpoint(w=values), "bfloat16")[1].tensors[0].underflowed == 0


def test_counting_goes_over_all_of_a_large_tensor() -> None:
    values = torch.zeros((1 << 22) + 3)
    values[0] = values[-1] = 1e9
    assert cast(checkpoint(w=values), "float16", allow_lossy=True)[1].tensors[0].overflowed == 2


@pytest.mark.parametrize("dtype", ["bf16", "float8_e4m3", "int8", torch.int64, torch.float8_e8m0fnu])
def test_an_unknown_dtype_is_answered_with_those_that_there_are(dtype: str | torch.dtype) -> None:
    with pytest.raises(UnknownNameError, match="unknown floating-point dtype") as caught:
        cast(checkpoint(w=torch.ones(1)), dtype)
    assert caught.value.known == tuple(PRECISIONS)


def test_a_near_miss_is_told() -> None:
    with pytest.raises(UnknownNameError, match=r"'bfloat_16' \(did you mean bfloat16"):
        cast(checkpoint(w=torch.ones(1)), "bfloat_16")


def test_nothing_to_cast_changes_nothing() -> None:
    given = Checkpoint.of(zoo.build("lenet")).sealed()
    got, report = cast(given, torch.float32)
    assert got is given
    assert report.tensors == ()


class Counting(Mapping[str, torch.Tensor]):
    """Tensors that are made when they are asked for, and how often they were."""

    def __init__(self, names: int) -> None:
        self.names = [str(n) for n in range(names)]
        self.made = 0

    def __getitem__(self, name: str) -> torch.Tensor:
        self.made += 1
        return torch.full((4,), float(name) + 0.5)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def test_tensors_are_cast_one_by_one_when_they_are_asked_for() -> None:
    source = Counting(20)
    got, _ = cast(Checkpoint(source), "float16")
    assert source.made == 20  # counted, none kept
    assert got.tensors["3"].tolist() == [3.5] * 4
    assert source.made == 21
    assert "7" in got.tensors
    assert len(got.tensors) == 20
    assert source.made == 21


def test_a_tied_tensor_is_cast_once_and_stays_tied() -> None:
    given = Checkpoint({"a": torch.ones(2)}, {"b": "a"}, order=("a", "b"))
    state = cast(given, "bfloat16")[0].state_dict()
    assert state["a"] is state["b"]
    assert state["a"].dtype == torch.bfloat16


@pytest.mark.parametrize("format_", ["pt", "safetensors", "onnx"])
def test_a_model_saved_in_another_precision_says_so_and_has_the_fingerprint_of_what_is_there(
    format_: str, tmp_path: Path
) -> None:
    model = zoo.build("resnet-lite", weights="digits")
    before = {n: t.clone() for n, t in model.state_dict().items()}
    path = zoo.save(model, tmp_path / f"x.{format_}", dtype="bfloat16")
    assert compare(before, model.state_dict()).holds
    back = zoo.load(path, verify=True)
    expected = {n: t.bfloat16() if t.is_floating_point() else t for n, t in before.items()}
    assert compare(expected, back.state_dict()).holds
    artifact = read_verified(path).artifact
    assert artifact.fingerprint == zoo.fingerprint(back) != zoo.fingerprint(model)
    (record,) = zoo.inspect(path).casts
    assert (record.source, record.target, record.overflowed) == ("float32", "bfloat16", 0)
    assert record.tensors == sum(t.is_floating_point() for t in before.values())
    assert record.fingerprint == zoo.fingerprint(model)


def test_the_graph_of_a_halved_onnx_file_computes_in_half_precision(tmp_path: Path) -> None:
    model = zoo.build("lenet", weights="digits")
    path = zoo.save(model, tmp_path / "x.onnx", dtype="float16")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].type == "tensor(float16)"
    x = torch.rand(3, 1, 32, 32)
    (logits,) = session.run(None, {"image": x.half().numpy()})
    expected = model(x).detach()
    assert (torch.from_numpy(logits).float() - expected).abs().max() <= 2e-2 * expected.abs().max()


def test_the_safetensors_package_reads_the_cast_tensors(tmp_path: Path) -> None:
    path = zoo.save(zoo.build("lenet"), tmp_path / "x.safetensors", dtype=torch.float16)
    assert {t.dtype for t in load_file(path).values()} == {torch.float16}


def test_casts_add_up(tmp_path: Path) -> None:
    first = zoo.save(zoo.build("lenet", weights="digits"), tmp_path / "x.pt", dtype="bfloat16")
    (once,) = read(first).artifact.casts
    twice = cast(read(first), "float32")[0].artifact.casts
    assert twice[0] == once
    assert (twice[1].source, twice[1].target, twice[1].fingerprint) == (
        "bfloat16",
        "float32",
        read(first).artifact.fingerprint,
    )


def test_loading_in_another_precision_casts_parameters_and_buffers_and_leaves_the_file(tmp_path: Path) -> None:
    model = zoo.build("resnet-lite", weights="digits")
    path = zoo.save(model, tmp_path / "x.safetensors")
    content = path.read_bytes()
    back = zoo.load(path, dtype=torch.float64)
    assert {t.dtype for t in back.state_dict().values()} == {torch.float64, torch.int64}
    x = torch.rand(2, 1, 32, 32)
    assert (back(x.double()) - model(x)).abs().max() < 1e-4
    assert path.read_bytes() == content


@pytest.mark.parametrize("format_", ["pt", "safetensors"])
def test_a_cast_that_loses_values_is_refused_and_nothing_is_written_unless_allowed(
    format_: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = zoo.build("lenet")
    with torch.no_grad():
        model.head.fc.bias[:2] = 1e6
        model.head.fc.bias[2:] = 1e-12
    path = tmp_path / f"x.{format_}"
    with pytest.raises(LossyCastError, match=r"2 values are too large for it \(head.fc.bias 2\)") as caught:
        zoo.save(model, path, dtype="float16")
    assert caught.value.path == str(path)
    assert (caught.value.overflow, caught.value.underflow) == ({"head.fc.bias": 2}, {"head.fc.bias": 8})
    assert list(tmp_path.iterdir()) == []
    zoo.save(model, path, dtype="float16", allow_lossy=True)
    (record,) = zoo.inspect(path).casts
    assert (record.overflowed, record.underflowed) == (2, 8)
    main(["inspect", str(path)], standalone_mode=False)
    told = "10 tensors cast from float32 to float16: 2 values were too large, 8 became zero; before: sha256:"
    assert told in capsys.readouterr().out
    full = zoo.save(model, tmp_path / f"full.{format_}")
    with pytest.raises(LossyCastError):
        zoo.load(full, dtype="float16")
    assert zoo.load(full, dtype="float16", allow_lossy=True).head.fc.bias[0].item() == float("inf")
