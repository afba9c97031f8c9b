"""The checks of a weights format, on a small model that has everything that formats lose."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from zoo.builder import compose
from zoo.errors import ZooError
from zoo.model import Model
from zoo.record import Preprocessing, Record
from zoo.testing.report import fail
from zoo.testing.tensors import randomise, require_same, state_of, tensors_of
from zoo.weights.checkpoint import tied
from zoo.weights.files import load, save
from zoo.weights.reading import read

_SPEC = {
    "input": {"channels": 1, "size": [16, 16]},
    "backbone": {"type": "resnet_lite", "layers": [1], "width": 4, "stem": "3x3"},
    "neck": {"type": "gap"},
    "head": {"type": "linear", "num_classes": 3},
}


_RECORD = Record(
    data="none",
    licence="none",
    split="none",
    metrics={"accuracy": 0.5},
    preprocessing=Preprocessing(size=(16, 16), mean=(0.5,), std=(0.25,)),
    labels=("a", "b", "c"),
)


def round_trip(suffix: str) -> None:
    """Every tensor comes back bit for bit, 0-d counters and NaN, infinity and -0.0 included; outputs are the same."""
    model = _model()
    with torch.no_grad():
        model.get_parameter("head.fc.bias").copy_(torch.tensor([float("nan"), float("-inf"), -0.0]))
    again = _again(model, suffix)
    require_same(state_of(model), state_of(again), "the file brings back something else for")
    with torch.no_grad():
        x = torch.randn(2, 1, 16, 16)
        require_same(tensors_of(model(x)), tensors_of(again(x)), "out of the file the model gives other outputs")


def description(suffix: str) -> None:
    """The file alone rebuilds the model: spec, lock and training record come with it."""
    model = _model()
    model.record = _RECORD
    with _saved(model, suffix) as file:
        artifact, again = read(file).artifact, load(file)
    if artifact is None:
        fail("the checkpoint that it reads has no artifact, so that no model can be rebuilt from the file")
    for what, found, expected in (
        ("spec", again.spec, model.spec),
        ("lock", artifact.lock, model.lock),
        ("training record", again.record, model.record),
    ):
        if found != expected:
            fail(f"the {what} comes back as {found}; expected {expected}")


def ties(suffix: str) -> None:
    """A tensor with two names comes back as one, and equal tensors that are two come back as two."""
    model = compose({**_SPEC, "bottleneck": {"type": "mlp", "hidden": [8, 8]}}).eval()
    layers = model.get_submodule("bottleneck.layers")
    layers.get_submodule("1").get_submodule("linear").bias = layers.get_parameter("0.linear.bias")
    expected = tied(model.state_dict(keep_vars=True))
    with _saved(model, suffix) as file:
        found = read(file)
    if dict(found.aliases) != expected:
        fail(f"tied names come back as {dict(found.aliases)}; expected {expected}")
    require_same(model.state_dict(), found.state_dict(), "with a tie the file brings back something else for")


def dtypes(suffix: str) -> None:
    """Models of half and of double precision come back in theirs."""
    for dtype in (torch.float64, torch.float16):
        model = _model().to(dtype)
        require_same(model.state_dict(), _again(model, suffix).state_dict(), f"of a {dtype} model comes back changed")


def strided(suffix: str) -> None:
    """Tensors in another memory format, and slices of larger ones, come back with their values."""
    model = _model().to(memory_format=torch.channels_last)
    weight = model.get_parameter("head.fc.weight")
    weight.data = torch.cat([weight.data, weight.data])[: len(weight)]
    require_same(model.state_dict(), _again(model, suffix).state_dict(), "not contiguous, comes back changed")


def repeatable(suffix: str) -> None:
    """Writing a model twice gives the same bytes."""
    model = _model()
    with _saved(model, suffix) as first, _saved(model, suffix) as second:
        if first.read_bytes() != second.read_bytes():
            fail("writing one model twice gives two different files")


def model_untouched(suffix: str) -> None:
    """Writing leaves the model as it was, training modes, gradients and a file beside it included."""
    model = _model().train()
    model.get_submodule("backbone.bn1").eval()
    before, modes = copy.deepcopy(state_of(model)), [m.training for m in model.modules()]
    with _saved(model, suffix) as file:
        beside = [p.name for p in file.parent.iterdir() if p != file]
    require_same(before, state_of(model), "writing changes the model")
    if modes != [m.training for m in model.modules()]:
        fail("writing changes the training mode of parts of the model")
    if not all(p.requires_grad for p in model.parameters()):
        fail("writing switches gradients off")
    if beside:
        fail(f"writing leaves {beside[0]} behind")


def damage(suffix: str) -> None:
    """Files that are empty, cut short or noise are refused with a ZooError."""
    with _saved(_model(), suffix) as file:
        whole = file.read_bytes()
        noise = bytes(torch.randint(256, (2000,), dtype=torch.uint8).tolist())
        damaged = {
            "an empty file": b"",
            "noise": noise,
            "the first half": whole[: len(whole) // 2],
            "all but the last hundred bytes": whole[:-100],
            "noise in the first bytes": noise[:20] + whole[20:],
        }
        for what, content in damaged.items():
            other = file.with_name(f"damaged.{suffix}")
            other.write_bytes(content)
            try:
                load(other)
            except ZooError:
                continue
            except Exception as error:  # noqa: BLE001, RUF100 - any other kind of error is what this looks for
                fail(f"{what} raises {type(error).__name__}: {error}; raise zoo.errors.FileFormatError")
            fail(f"{what} is read as if it were whole; raise zoo.errors.FileFormatError")


FORMAT_CHECKS: Mapping[str, Callable[[str], None]] = {
    "round-trip": round_trip,
    "description": description,
    "ties": ties,
    "dtypes": dtypes,
    "strided": strided,
    "repeatable": repeatable,
    "model-untouched": model_untouched,
    "damage": damage,
}
"""Every check of a format by name, in the order of a report; each takes the file suffix."""


def _model() -> Model:
    model = compose(_SPEC).eval()
    randomise(model)
    return model


def _again(model: Model, suffix: str) -> Model:
    with _saved(model, suffix) as file:
        return load(file)


@contextmanager
def _saved(model: Model, suffix: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield save(model, Path(folder) / f"model.{suffix}")
