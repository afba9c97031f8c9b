"""Tensors of every dtype, shape and layout through every format and from each to each, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import luggage
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from zoo import kinds
from zoo.errors import WeightsError
from zoo.weights.parity import compare

FORMATS = ("pt", "safetensors", "onnx")
PORTABLE = tuple(name for name in luggage.NAMES if name != "complex128")
SHAPES = [(), (0,), (1,), (5,), (3, 0, 2), (2, 3), (1, 1, 1), (2, 3, 4, 5)]


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    kinds.bottlenecks.register("luggage", luggage.Luggage)
    yield
    kinds.bottlenecks.unregister("luggage")


def packed(dtypes: list[str], shapes: list[tuple[int, ...]], seed: int = 0) -> zoo.Model:
    model = zoo.build(luggage.SPEC, bottleneck={"dtypes": dtypes, "shapes": [list(s) for s in shapes]})
    generator = torch.Generator().manual_seed(seed)
    for number, (dtype, shape) in enumerate(zip(dtypes, shapes, strict=True)):
        luggage.put(model, number, luggage.random_bits(shape, getattr(torch, dtype), generator))
    return model


def check(model: zoo.Model, folder: Path, format_: str) -> zoo.Model:
    path = zoo.save(model, folder / f"model.{format_}")
    for verify in (False, True):
        back = zoo.load(path, verify=verify)
        parity = compare(model.state_dict(), back.state_dict())
        assert parity.differing == ()
        assert parity.total == len(model.state_dict())
    assert zoo.fingerprint(path) == zoo.fingerprint(model)
    return back


@pytest.mark.parametrize("format_", FORMATS)
def test_every_dtype_comes_back_in_every_shape(format_: str, tmp_path: Path) -> None:
    pairs = [(dtype, shape) for dtype in PORTABLE for shape in SHAPES]
    check(packed([d for d, _ in pairs], [s for _, s in pairs]), tmp_path, format_)


def test_what_a_format_cannot_hold_it_says_before_it_writes(tmp_path: Path) -> None:
    model = packed(["complex128"], [(2,)])
    check(model, tmp_path, "pt")
    (tmp_path / "model.safetensors").write_bytes(b"as it was")
    with pytest.raises(WeightsError, match=r"cannot hold 'bottleneck\.item0', which is complex128"):
        zoo.save(model, tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").read_bytes() == b"as it was"


@pytest.mark.parametrize("format_", FORMATS)
def test_layouts_views_and_shared_storages_come_back_by_value(format_: str, tmp_path: Path) -> None:
    base = torch.randn(4, 6, 8, 10)
    big = torch.randn(1_000_000)
    z = torch.randn(5, dtype=torch.complex64)
    tensors = [
        base.to(memory_format=torch.channels_last),
        base.permute(3, 1, 0, 2),
        base[1:3, ::2, :, 3],
        torch.zeros(1).expand(7, 2),
        big[10:13],
        big[11:14],
        big[:0],
        z.conj(),
        z.imag,
        z.conj().imag,
        torch.randint(9, (4, 3)).t(),
    ]
    model = packed([str(t.dtype).removeprefix("torch.") for t in tensors], [tuple(t.shape) for t in tensors])
    for number, tensor in enumerate(tensors):
        luggage.put(model, number, tensor)
    check(model, tmp_path, format_)
    assert (tmp_path / f"model.{format_}").stat().st_size < 200_000


@pytest.mark.parametrize("format_", FORMATS)
def test_tied_items_come_back_tied_and_equal_ones_do_not(format_: str, tmp_path: Path) -> None:
    model = packed(["float16", "float16", "int16", "int16", "float16"], [(3,)] * 5)
    part = model.get_submodule("bottleneck")
    part._parameters["item1"] = part._parameters["item0"]
    part._buffers["item3"] = part._buffers["item2"]
    luggage.put(model, 4, part.get_parameter("item0").detach().clone())
    back = check(model, tmp_path, format_).get_submodule("bottleneck")
    assert back.item1 is back.item0
    assert back.item3 is back.item2
    assert back.item4.data_ptr() != back.item0.data_ptr()


@given(
    items=st.lists(
        st.tuples(st.sampled_from(PORTABLE), st.lists(st.integers(0, 4), max_size=4).map(tuple)), min_size=1, max_size=6
    ),
    ties=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=3),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_anything_comes_back_from_each_format_by_each_way(
    items: list[tuple[str, tuple[int, ...]]],
    ties: list[tuple[int, int]],
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    model = packed([d for d, _ in items], [s for _, s in items], seed)
    part = model.get_submodule("bottleneck")
    for one, other in ties:
        slots = next((s for s in (part._parameters, part._buffers) if {f"item{one}", f"item{other}"} <= s.keys()), None)
        if slots is not None and items[one] == items[other]:
            slots[f"item{other}"] = slots[f"item{one}"]
    folder = tmp_path_factory.mktemp("any")
    for format_ in ("pt", "safetensors"):
        check(model, folder, format_)
    for source, target in (("pt", "safetensors"), ("safetensors", "pt")):
        zoo.convert(folder / f"model.{source}", folder / f"converted.{target}")
        assert (folder / f"converted.{target}").read_bytes() == (folder / f"model.{target}").read_bytes()


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
def test_every_dtype_survives_each_conversion(source: str, target: str, tmp_path: Path) -> None:
    model = packed(list(PORTABLE), [(2, 3)] * len(PORTABLE))
    path = zoo.save(model, tmp_path / f"model.{source}")
    zoo.convert(path, tmp_path / f"converted.{target}")
    back = zoo.load(tmp_path / f"converted.{target}", verify=True)
    assert compare(model.state_dict(), back.state_dict()).holds
