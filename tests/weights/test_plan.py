"""load_into and plan_load: the weights of a file go into a model that there is, wholly or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import zoo
from zoo.errors import (
    FingerprintError,
    LossyCastError,
    PatternError,
    SpecError,
    TensorMismatchError,
    WeightsError,
)
from zoo.weights import into
from zoo.weights.parity import compare
from zoo.weights.plan import Difference


def snapshot(model: nn.Module) -> list[object]:
    """Return everything of a model that a failed load must leave alone."""
    tensors = [*model.parameters(), *model.buffers()]
    return [
        {n: t.clone() for n, t in model.state_dict().items()},
        [id(t) for t in tensors],
        [(t.requires_grad, t.dtype, t.device, t.stride(), t.data_ptr()) for t in tensors],
        [m.training for m in model.modules()],
        getattr(model, "record", None),
    ]


def same(left: list[object], right: list[object]) -> bool:
    return compare(left[0], right[0]).holds and left[1:] == right[1:]


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    return zoo.save(zoo.build("lenet", weights="digits"), tmp_path / "digits.safetensors")


class Net(nn.Module):
    """A plain module with a buffer, and two layers that may be tied."""

    def __init__(self, *, tied: bool = False, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4, dtype=dtype), nn.Linear(4, 4, dtype=dtype)
        self.register_buffer("count", torch.tensor(3))
        if tied:
            self.b.weight = self.a.weight


@pytest.mark.parametrize("format_", ["pt", "safetensors", "onnx"])
def test_a_file_goes_into_a_model_that_stays_the_same_object(format_: str, tmp_path: Path, randomise) -> None:
    source = randomise(zoo.build("resnet-lite"))
    path = zoo.save(source, tmp_path / f"x.{format_}")
    model = zoo.build("resnet-lite").to(memory_format=torch.channels_last)
    model.freeze("backbone.layer1")
    before = snapshot(model)
    plan = zoo.load_into(model, path)
    assert compare(source.state_dict(), model.state_dict()).holds
    assert snapshot(model)[1:] == before[1:]
    assert plan.fits
    assert plan.loaded == tuple(model.state_dict())
    assert str(plan) == f"{path}: {len(plan.loaded)} of {len(plan.loaded)} tensors are loaded"


def test_an_optimiser_goes_on_with_what_was_loaded(digits: Path) -> None:
    model = zoo.build("lenet")
    optimiser = torch.optim.Adam(model.parameters())
    model(torch.rand(2, 1, 32, 32)).sum().backward()
    optimiser.step()
    gradient = model.head.fc.weight.grad.clone()
    zoo.load_into(model, digits)
    loaded = model.head.fc.weight.detach().clone()
    assert torch.equal(model.head.fc.weight.grad, gradient)
    optimiser.step()
    assert not torch.equal(model.head.fc.weight, loaded)


def test_the_record_of_the_training_comes_along_if_all_of_the_weights_do(digits: Path) -> None:
    whole, new_head = zoo.build("lenet"), zoo.build("lenet", num_classes=5)
    zoo.load_into(whole, digits)
    assert whole.record == zoo.load(digits).record is not None
    zoo.load_into(new_head, digits, allow_missing="head.*")
    assert new_head.record is None


def test_a_new_head_stays_as_it_is_and_the_report_says_so(digits: Path) -> None:
    model = zoo.build("lenet", num_classes=5)
    before = snapshot(model)
    head = {n: t.clone() for n, t in model.head.state_dict().items()}
    with pytest.raises(
        SpecError, match=r"spec.head.num_classes: the weights were saved with 10, this is 5; name it in"
    ):
        zoo.load_into(model, digits)
    with pytest.raises(TensorMismatchError) as caught:
        zoo.load_into(model, digits, allow_changed="head.num_classes")
    assert caught.value.different == (
        "head.fc.weight float32[10, 84] for float32[5, 84]",
        "head.fc.bias float32[10] for float32[5]",
    )
    assert "allow_missing=['head.fc.*'] leaves them as they are in the model" in str(caught.value)
    assert same(before, snapshot(model))
    plan = zoo.load_into(model, digits, allow_missing=["head.*"])
    assert plan.kept == (
        Difference("head.fc.weight", "float32[10, 84]", "float32[5, 84]"),
        Difference("head.fc.bias", "float32[10]", "float32[5]"),
    )
    assert compare(head, model.head.state_dict()).holds
    assert compare(zoo.load(digits).backbone.state_dict(), model.backbone.state_dict()).holds
    assert "8 of 10 tensors are loaded" in str(plan)
    assert "kept as they are (2): head.fc.weight float32[10, 84] for float32[5, 84]" in str(plan)


def test_a_model_without_a_head_leaves_that_of_the_file_there(tmp_path: Path) -> None:
    path = zoo.save(zoo.build("resnet-lite", weights="digits"), tmp_path / "x.pt")
    model = zoo.build("resnet-lite", neck=None, head=None)
    plan = zoo.load_into(model, path, allow_unexpected="head.*")
    assert plan.ignored == ("head.fc.weight", "head.fc.bias")
    assert compare(zoo.load(path).backbone.state_dict(), model.backbone.state_dict()).holds


def test_a_plan_changes_nothing_and_lists_everything(tmp_path: Path) -> None:
    state = Net().state_dict()
    state["extra"] = state.pop("b.bias")
    state["a.weight"] = torch.zeros(4, 5)
    state["b.weight"] = torch.zeros(4, 4, dtype=torch.complex64)
    state["count"] = torch.tensor(3.0)
    state["a.bias"] = torch.ones(4, dtype=torch.float64)
    torch.save(dict(state), tmp_path / "x.pt")
    model = Net()
    before = snapshot(model)
    plan = zoo.plan_load(model, tmp_path / "x.pt")
    assert same(before, snapshot(model))
    assert not plan.fits
    assert plan.loaded == ("a.bias",)
    assert [(c.name, c.source, c.target) for c in plan.casts] == [("a.bias", "float64", "float32")]
    assert (plan.missing, plan.unexpected) == (("b.bias",), ("extra",))
    assert plan.shapes == (Difference("a.weight", "float32[4, 5]", "float32[4, 4]"),)
    assert plan.dtypes == (
        Difference("count", "float32[]", "int64[]"),
        Difference("b.weight", "complex64[4, 4]", "float32[4, 4]"),
    )
    assert str(plan).splitlines() == [
        f"{tmp_path / 'x.pt'}: 1 of 5 tensors could be loaded",
        "  missing in the file (1): b.bias",
        "  unexpected in the file (1): extra",
        "  of another shape (1): a.weight float32[4, 5] for float32[4, 4]",
        "  another kind of number (2): count float32[] for int64[], b.weight complex64[4, 4] for float32[4, 4]",
        "  cast (1): a.bias float64 to float32",
    ]
    with pytest.raises(TensorMismatchError, match=r"1 missing \(b.bias\); 1 unexpected \(extra\); 3 different"):
        zoo.load_into(model, tmp_path / "x.pt")
    assert same(before, snapshot(model))


@pytest.mark.parametrize(
    ("arguments", "message", "nearest"),
    [
        ({"allow_missing": "haed.*"}, "allow_missing: the pattern 'haed.*' fits no tensor of the model", "head.*"),
        ({"allow_missing": ["head.*", "head.fc.wieght"]}, "'head.fc.wieght' fits no", "head.fc.weight"),
        ({"allow_unexpected": "classifier.*"}, "'classifier.*' fits no tensor in the file", None),
        ({"allow_changed": "backbone.activatoin"}, "fits no part of the spec", "backbone.activation"),
    ],
)
def test_a_pattern_that_fits_nothing_is_answered_with_the_nearest_names(
    arguments: dict[str, object], message: str, nearest: str | None, digits: Path
) -> None:
    model = zoo.build("lenet")
    before = snapshot(model)
    with pytest.raises(PatternError) as caught:
        zoo.load_into(model, digits, **arguments)
    assert message in str(caught.value)
    assert caught.value.parameter == next(iter(arguments))
    assert nearest is None or caught.value.nearest[0] == nearest
    assert same(before, snapshot(model))


def test_a_cast_is_counted_and_refused_if_it_loses_values(tmp_path: Path) -> None:
    state = Net(dtype=torch.float64).state_dict()
    state["a.bias"][:2] = 1e60
    torch.save(dict(state), tmp_path / "x.pt")
    model = Net()
    before = snapshot(model)
    plan = zoo.plan_load(model, tmp_path / "x.pt")
    assert "a.bias float64 to float32 with 2 too large" in str(plan)
    assert not plan.fits
    with pytest.raises(LossyCastError) as caught:
        zoo.load_into(model, tmp_path / "x.pt")
    assert caught.value.overflow == {"a.bias": 2}
    assert same(before, snapshot(model))
    assert zoo.load_into(model, tmp_path / "x.pt", allow_lossy=True).fits
    assert model.a.bias[:2].isinf().all()
    assert model.a.weight.dtype == torch.float32


def test_what_is_tied_in_the_model_may_be_in_the_file_once_or_twice_but_not_differently(tmp_path: Path) -> None:
    state = {n: t.clone() for n, t in Net().state_dict().items()}
    model = Net(tied=True)
    before = snapshot(model)
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(TensorMismatchError, match=r"a\.weight and b.weight differ but are one tensor in the model"):
        zoo.load_into(model, tmp_path / "x.pt")
    assert same(before, snapshot(model))
    state["b.weight"] = state["a.weight"].clone()
    torch.save(state, tmp_path / "x.pt")
    assert zoo.load_into(model, tmp_path / "x.pt").ties == {"b.weight": "a.weight"}
    del state["a.weight"]
    torch.save(state, tmp_path / "once.pt")
    assert zoo.load_into(Net(tied=True), tmp_path / "once.pt").missing == ()
    assert model.a.weight is model.b.weight
    assert torch.equal(model.a.weight, state["b.weight"])


def test_two_parameters_of_one_memory_are_tied_too(tmp_path: Path) -> None:
    model = Net()
    model.b.weight.data = model.a.weight.data
    torch.save({n: t.clone() for n, t in Net().state_dict().items()}, tmp_path / "x.pt")
    assert zoo.plan_load(model, tmp_path / "x.pt").conflicts == ("a.weight and b.weight",)


def test_one_tensor_of_the_file_is_copied_to_parameters_that_the_model_does_not_tie(tmp_path: Path) -> None:
    torch.save(dict(Net(tied=True).state_dict()), tmp_path / "x.pt")
    model = Net()
    plan = zoo.load_into(model, tmp_path / "x.pt")
    assert plan.copied == {"b.weight": "a.weight"}
    assert torch.equal(model.a.weight, model.b.weight)
    assert model.a.weight.data_ptr() != model.b.weight.data_ptr()


def test_any_module_takes_a_file_of_another_library(tmp_path: Path) -> None:
    source, model = Net().double(), Net()
    with torch.no_grad():
        source.a.bias[0] = float("nan")
    save_file(source.state_dict(), tmp_path / "x.safetensors")
    assert zoo.load_into(model, tmp_path / "x.safetensors").fits
    expected = {n: t.float() if t.is_floating_point() else t for n, t in source.state_dict().items()}
    assert compare(expected, model.state_dict()).holds


def test_a_failure_in_the_middle_leaves_every_tensor_as_it_was(tmp_path: Path) -> None:
    torch.save({n: t + 1 for n, t in Net().state_dict().items()}, tmp_path / "x.pt")
    model = Net()
    model.b.bias = nn.Parameter(torch.zeros(1).expand(4))  # cannot be written to
    before = snapshot(model)
    with pytest.raises(WeightsError, match="could not be loaded, the model is as it was: unsupported operation"):
        zoo.load_into(model, tmp_path / "x.pt")
    assert same(before, snapshot(model))


def test_an_interruption_in_the_middle_leaves_every_tensor_as_it_was() -> None:
    class Interrupting(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func: Callable[..., object], types, args=(), kwargs=None) -> object:
            if func is torch.Tensor.copy_:
                raise KeyboardInterrupt
            return super().__torch_function__(func, types, args, kwargs)

    first, second = torch.zeros(3), torch.zeros(3)
    with pytest.raises(KeyboardInterrupt):
        into._commit([(first, torch.ones(3)), (second, torch.ones(3).as_subclass(Interrupting))], "x.pt")
    assert first.tolist() == second.tolist() == [0.0, 0.0, 0.0]


def test_weights_of_a_model_that_computes_something_else_are_refused_unless_that_is_meant(digits: Path) -> None:
    model = zoo.build("lenet", backbone={"activation": "gelu"})
    before = snapshot(model)
    with pytest.raises(
        SpecError, match=r"spec.backbone.activation: the weights were saved with 'tanh', this is 'gelu'"
    ):
        zoo.load_into(model, digits)
    assert same(before, snapshot(model))
    assert zoo.load_into(model, digits, allow_changed=["backbone.activation"]).fits


def test_the_fingerprint_is_checked_when_asked_for(digits: Path) -> None:
    model = zoo.build("lenet")
    before = snapshot(model)
    with pytest.raises(FingerprintError):
        zoo.load_into(model, digits, verify="sha256:" + "0" * 64)
    assert same(before, snapshot(model))
    assert zoo.load_into(model, digits, verify=True).fits


def test_a_model_that_cannot_be_written_to_is_named(digits: Path) -> None:
    with pytest.raises(WeightsError, match=r"is on the meta device, where nothing has values; use zoo\.load instead"):
        zoo.load_into(zoo.build("lenet").to("meta"), digits)
    with pytest.raises(WeightsError, match=r"found a 'dict' to load into; expected a torch\.nn\.Module"):
        zoo.load_into({}, digits)

    class Odd(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"steps": 3}

    with pytest.raises(WeightsError, match=r"has '_extra_state' \(dict\), which is none of its parameters"):
        zoo.load_into(Odd(2, 2), digits)


def test_a_file_of_which_no_name_fits_gets_no_pattern_for_an_answer(tmp_path: Path) -> None:
    torch.save({f"{n}_of_them": t for n, t in Net().state_dict().items()}, tmp_path / "x.pt")
    with pytest.raises(TensorMismatchError, match="none of the names are the model's"):
        zoo.load_into(Net(), tmp_path / "x.pt")


def test_a_compiled_model_is_loaded_into_as_itself(digits: Path) -> None:
    model = zoo.build("lenet")
    zoo.load_into(torch.compile(model), digits)
    assert compare(zoo.load(digits).state_dict(), model.state_dict()).holds
