"""float16 and bfloat16 on a CPU: each operation gives numbers of that precision, and sums are rounded once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._pytree import tree_leaves

import zoo
from zoo.dispatch import Dispatch
from zoo.weights.verification.narrow import SumsInFloat32
from zoo.weights.verification.outputs import in_torch

NARROW = [torch.float16, torch.bfloat16]


def some(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


OPERATIONS: Mapping[str, tuple[Callable[..., torch.Tensor], tuple[torch.Tensor, ...]]] = {
    "conv1d": (functional.conv1d, (some(2, 4, 9), some(6, 4, 3), some(6))),
    "conv2d of groups": (
        lambda x, w: functional.conv2d(x, w, groups=4, padding=1),
        (some(2, 8, 7, 7), some(8, 2, 3, 3)),
    ),
    "conv3d": (functional.conv3d, (some(1, 2, 5, 5, 5), some(3, 2, 3, 3, 3), some(3))),
    "conv_transpose2d": (functional.conv_transpose2d, (some(2, 4, 5, 5), some(4, 6, 2, 2), some(6))),
    "linear": (functional.linear, (some(3, 64), some(5, 64), some(5))),
    "linear without a bias": (functional.linear, (some(3, 64), some(5, 64))),
    "batched": (torch.matmul, (some(2, 3, 64), some(2, 64, 5))),
}


class Recorder(Dispatch):
    def __init__(self) -> None:
        super().__init__()
        self.taken: dict[str, set[torch.dtype]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        name = func._schema.name.rpartition("::")[2]
        self.taken.setdefault(name, set()).update(t.dtype for t in tree_leaves(args) if isinstance(t, torch.Tensor))
        return found


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_gives_what_float32_gives_rounded_once(operation: str, dtype: torch.dtype) -> None:
    compute, given = OPERATIONS[operation]
    narrow = [each.to(dtype) for each in given]
    with torch.no_grad(), Recorder() as seen, SumsInFloat32():
        found = compute(*narrow)
    assert found.dtype == dtype
    assert torch.equal(found, compute(*(each.float() for each in narrow)).to(dtype))
    sums = {name: kinds for name, kinds in seen.taken.items() if name in ("convolution", "mm", "addmm", "bmm")}
    assert set.union(*sums.values()) == {torch.float32}


@pytest.mark.parametrize("dtype", NARROW)
def test_what_a_model_makes_on_its_way_is_narrow_all_the_same(dtype: torch.dtype) -> None:
    model = zoo.build("resnet-lite").to(dtype)
    seen = []
    for module in model.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda _module, _given, made: seen.extend(tree_leaves(made)))
    in_torch(model)(torch.randn(2, 1, 32, 32).double())
    assert len(seen) > 20
    assert {each.dtype for each in seen} == {dtype}


def test_a_number_that_float16_lacks_overflows_as_it_does_there() -> None:
    model = nn.Sequential(nn.Linear(4, 1, bias=False), nn.Linear(1, 1, bias=False)).half()
    with torch.no_grad():
        model[0].weight.fill_(60000)
        model[1].weight.fill_(2.0**-14)
    assert in_torch(model)(torch.ones(1, 4).double())[0].item() == float("inf")


def test_what_does_not_fit_together_is_still_refused_by_torch() -> None:
    with SumsInFloat32(), pytest.raises(RuntimeError, match=r"dtype|type"):
        functional.linear(torch.ones(1, 4), torch.ones(2, 4).half())


def test_other_precisions_are_left_alone() -> None:
    x, weight = some(3, 64), some(5, 64)
    with SumsInFloat32():
        assert torch.equal(functional.linear(x, weight), x @ weight.T)
        assert functional.linear(x.double(), weight.double()).dtype == torch.float64


def test_a_float16_model_is_verified_in_its_own_precision(tmp_path: Path) -> None:
    model = zoo.build("resnet-lite", weights="digits").half()
    file = zoo.save(model, tmp_path / "x.onnx")
    report = zoo.verify(model, file)
    assert report.ok, str(report)
    eps = torch.finfo(torch.float16).eps
    assert all(eps / 100 < o.own < eps * 10 for o in report.outputs)
    weight = model.head.fc.weight
    with torch.no_grad():
        weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(9.0).half())  # one bit
    assert [(d.name, d.elements) for d in zoo.verify(model, file).differences] == [("head.fc.weight", 1)]
    with torch.no_grad():
        model.head.fc.bias += 0.5
    assert not any(o.holds for o in zoo.verify(model, file).outputs if o.run.endswith("onnxruntime"))
