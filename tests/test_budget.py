"""The size budget: no spec can make us allocate or loop without bounds, and ordinary models do not notice it."""

from __future__ import annotations

import json
import struct
import threading
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.modules import module as registration

import zoo
from zoo import builder, kinds
from zoo.budget import as_bytes
from zoo.builder import compose
from zoo.errors import SizeBudgetError, ZooError

HEAD = {"type": "linear", "num_classes": 2}
SMALL = {"channels": 1, "size": [8, 8]}


def hooks() -> int:
    return len(registration._global_parameter_registration_hooks) + len(registration._global_module_registration_hooks)


@pytest.mark.parametrize(
    ("backbone", "what"),
    [
        ({"type": "resnet_lite", "layers": [20_000]}, "tensors and modules"),
        ({"type": "resnet_lite", "layers": [10**9]}, "tensors and modules"),
        ({"type": "mlp", "hidden": [8] * 100_000}, "tensors and modules"),
        ({"type": "vgg_lite", "layers": [10**30], "channels": [8]}, "tensors and modules"),
        ({"type": "resnet_lite", "width": 10**9}, "bytes"),
        ({"type": "mlp", "hidden": [10**9, 10**9]}, "bytes"),
        ({"type": "mlp", "hidden": [30_000] * 100}, "bytes"),
    ],
)
def test_a_spec_of_a_giant_is_refused_before_anything_is_allocated(
    backbone: dict[str, object], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_MAX_BYTES", "100GB")
    devices, real = [], builder.assemble
    monkeypatch.setattr(builder, "assemble", lambda p, d, **more: devices.append(str(d)) or real(p, d, **more))
    with pytest.raises(SizeBudgetError) as caught:
        compose({"input": SMALL, "backbone": backbone})
    error = caught.value
    assert error.what == what
    assert error.found > error.limit == (100 * 10**9 if what == "bytes" else 20_000)
    assert error.where.startswith(f"spec.backbone ({backbone['type']})")
    assert f"found at least {error.found:,} {what}; expected at most {error.limit:,}, {error.source}" in str(error)
    assert error.remedy.startswith("if it is meant, set the environment variable ZOO_MAX_")
    assert devices == ["meta"]
    assert hooks() == 0


@pytest.mark.parametrize("number", [10**19, 10**30, 10**400])
@pytest.mark.parametrize(
    "spec",
    [
        lambda n: {"backbone": {"type": "resnet_lite", "width": n}},
        lambda n: {"backbone": "resnet_lite", "neck": "gap", "head": {**HEAD, "num_classes": n}},
        lambda n: {"backbone": "resnet_lite", "neck": "gap", "bottleneck": {"type": "mlp", "hidden": [n]}},
        lambda n: {"backbone": "mlp", "input": {"channels": n, "size": [8, 8]}},
        lambda n: {"backbone": "lenet", "input": {"size": [n, n]}, "neck": "flatten", "head": HEAD},
        lambda n: {"backbone": "vgg_lite", "neck": {"type": "adaptive_pool", "size": n}, "head": HEAD},
    ],
)
def test_numbers_beyond_what_torch_counts_with_are_an_error_of_ours(number: int, spec) -> None:
    with pytest.raises(ZooError):
        compose(spec(number))


def test_the_limit_is_the_memory_of_the_machine_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = {"input": SMALL, "backbone": {"type": "mlp", "hidden": [1000]}}
    monkeypatch.setenv("ZOO_MAX_BYTES", "100kB")
    with pytest.raises(
        SizeBudgetError, match=r"found at least 256,000 bytes; expected at most 100,000, ZOO_MAX_BYTES;"
    ):
        compose(spec)
    compose(spec, "meta")  # allocates nothing
    monkeypatch.setenv("ZOO_MAX_BYTES", "1MB")
    compose(spec)
    monkeypatch.setenv("ZOO_MAX_TENSORS", "3")
    with pytest.raises(
        SizeBudgetError, match="found at least 4 tensors and modules; expected at most 3, ZOO_MAX_TENSORS"
    ):
        compose(spec, "meta")
    monkeypatch.delenv("ZOO_MAX_TENSORS")
    monkeypatch.delenv("ZOO_MAX_BYTES")
    with pytest.raises(SizeBudgetError, match="the memory of this machine"):
        compose({"input": SMALL, "backbone": {"type": "mlp", "hidden": [10**8, 10**8]}})


@pytest.mark.parametrize("text", ["", "much", "-1", "1.5GB", "10EB"])
def test_a_size_that_is_none_is_told(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_MAX_BYTES", text)
    with pytest.raises(ZooError, match="is no size; expected a number such as 500000000, 500MB or 64GiB"):
        zoo.build("lenet")


def test_sizes_are_read_with_units() -> None:
    assert [as_bytes(t, "x") for t in ("7", "7B", "2k", "2 MiB", "3TB")] == [7, 7, 2000, 2 << 20, 3 * 10**12]


class _Shared(nn.Module):
    """Ten names for one tensor of 4 MB, and a large scaffold that is thrown away."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        weight = nn.Parameter(torch.zeros(1000, 1000))
        self.layers = nn.ModuleList(nn.Linear(1, 1, bias=False) for _ in range(10))
        for layer in self.layers:
            layer.weight = weight
        scaffold = nn.Sequential(*(nn.Linear(1000, 1000) for _ in range(5)))
        self.scaffold_size = len(scaffold)
        self.features = (zoo.Feature("same", in_channels),)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (x,)


def test_a_tensor_counts_once_and_what_was_only_made_on_the_way_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds.backbones.register("shared", _Shared)
    try:
        monkeypatch.setenv("ZOO_MAX_BYTES", "5MB")
        compose({"backbone": "shared"})
        monkeypatch.setenv("ZOO_MAX_BYTES", "4200kB")
        compose({"backbone": "shared"})
        monkeypatch.setenv("ZOO_MAX_BYTES", "3MB")
        with pytest.raises(SizeBudgetError, match="found at least 4,000,000 bytes"):
            compose({"backbone": "shared"})
    finally:
        kinds.backbones.unregister("shared")


def test_a_component_that_catches_the_error_is_stopped_all_the_same() -> None:
    class Stubborn(_Shared):
        def __init__(self, in_channels: int) -> None:
            super().__init__(in_channels)
            try:
                self.more = nn.ModuleList(nn.Identity() for _ in range(10**6))
            except Exception:
                self.more = None

    kinds.backbones.register("stubborn", Stubborn)
    try:
        with pytest.raises(SizeBudgetError, match=r"spec.backbone \(stubborn\)"):
            compose({"backbone": "stubborn"})
    finally:
        kinds.backbones.unregister("stubborn")


def test_other_threads_build_what_they_like_meanwhile() -> None:
    built: list[int] = []

    class Waiting(_Shared):
        def __init__(self, in_channels: int) -> None:
            super().__init__(in_channels)
            other = threading.Thread(target=lambda: built.append(len(nn.ModuleList(nn.ReLU() for _ in range(30_000)))))
            other.start()
            other.join()

    kinds.backbones.register("waiting", Waiting)
    try:
        compose({"backbone": "waiting"}, "meta")
    finally:
        kinds.backbones.unregister("waiting")
    assert built == [30_000]
    assert hooks() == 0


def file_with(spec: dict[str, object], target: Path, name: str = "x") -> Path:
    """Write a safetensors file of four numbers that says that it holds a model of this spec."""
    artifact = json.dumps({"spec": spec, "lock": {}})
    header = {name: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}, "__metadata__": {"zoo": artifact}}
    head = json.dumps(header).encode()
    target.write_bytes(struct.pack("<Q", len(head)) + head + bytes(16))
    return target


@pytest.mark.parametrize(
    ("backbone", "what"),
    [
        ({"type": "resnet_lite", "layers": [20_000]}, "tensors and modules"),
        ({"type": "mlp", "hidden": [4000, 10_000]}, "elements"),
        ({"type": "resnet_lite", "width": 10**9}, "bytes"),
    ],
)
def test_a_small_file_cannot_make_us_build_a_giant(backbone: dict[str, object], what: str, tmp_path: Path) -> None:
    path = file_with({"input": SMALL, "backbone": backbone}, tmp_path / "x.safetensors")
    assert path.stat().st_size < 1000
    with pytest.raises(SizeBudgetError) as caught:
        zoo.load(path)
    assert caught.value.what == what
    if what == "elements":
        assert caught.value.limit == 4 * 4 + (1 << 24)
        assert f"4 × the 4 elements in {path} and 16,777,216" in str(caught.value)
        assert caught.value.where == "spec.backbone (mlp)"


def test_a_small_file_cannot_make_us_allocate_what_no_state_dict_holds(tmp_path: Path) -> None:
    class Wide(nn.Module):
        def __init__(self, in_channels: int, size: int = 4) -> None:
            super().__init__()
            self.x = nn.Parameter(torch.zeros(4))
            self.grid = [torch.zeros(size)]
            self.features = (zoo.Feature("same", in_channels),)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return (x,)

    kinds.backbones.register("wide", Wide)
    try:
        spec = {"backbone": {"type": "wide", "size": 10**12}}
        path = file_with(spec, tmp_path / "x.safetensors", name="backbone.x")
        with pytest.raises(
            SizeBudgetError, match="what no state dict holds: found at least 1,000,000,000,000 elements"
        ):
            zoo.load(path)
    finally:
        kinds.backbones.unregister("wide")
