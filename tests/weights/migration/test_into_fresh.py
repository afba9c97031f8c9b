"""Into a model that there is, but for some of its parts: those keep what they have, as zoo.build starts them anew."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import resnet18
from weights_support import Trunk

import zoo
from zoo.errors import KeymapError, SpecError, TensorMismatchError, UnknownNameError, WeightsError, ZooError
from zoo.weights.plan import LoadPlan

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    torch.manual_seed(0)
    return resnet18(num_classes=9).eval()


def trunk(theirs: nn.Module) -> State:
    return {name: each for name, each in theirs.state_dict().items() if not name.startswith("fc.")}


def saved(path: Path, state: object) -> str:
    torch.save(state, path)
    return str(path)


def loaded(model: zoo.Model, path: str | Path, **options: object) -> LoadPlan:
    """Load all but the head, and find that it is as it was."""
    before = {name: each.clone() for name, each in model.state_dict().items() if name.startswith("head.")}
    assert before
    assert str(zoo.plan_load(model, path, fresh="head", **options)).startswith(f"{path}: ")  # type: ignore[arg-type]
    done = zoo.load_into(model, path, fresh="head", **options)  # type: ignore[arg-type]
    assert all(model.state_dict()[name].equal(each) for name, each in before.items())
    assert set(done.kept) == before.keys()
    return done


@pytest.mark.parametrize("beside", [{}, {"fc.weight": (9, 512), "fc.bias": (9,)}, {"fc.0.weight": (4, 512)}])
@pytest.mark.parametrize("classes", [9, 5])
@pytest.mark.parametrize("names", [{}, {"keymap": "torchvision"}])
def test_a_file_from_elsewhere_with_any_head_or_none(
    names: dict[str, str], classes: int, beside: dict[str, tuple[int, ...]], theirs: nn.Module, tmp_path: Path
) -> None:
    extra = {f"module.{name}": torch.ones(shape) for name, shape in beside.items()}
    state = {**{f"module.{name}": each for name, each in trunk(theirs).items()}, **extra}
    path = saved(tmp_path / "run.pth", {"state_dict": state})
    model = zoo.build("resnet18", num_classes=classes)
    done = loaded(model, path, **names)
    own = model.state_dict()
    assert len(done.loaded) == 120
    assert all(own[f"backbone.{name}"].equal(each) for name, each in trunk(theirs).items())
    assert len(done.ignored) == len(beside)
    assert ("ignored in the file" in str(done)) == bool(beside)
    if "fc.0.weight" in beside:
        assert done.ignored[0].startswith("module.fc.0.weight (")
    built = zoo.build("resnet18", weights=path, num_classes=classes, fresh="head", **names)  # type: ignore[arg-type]
    assert {change.name for change in built.transfer.reinitialised} == set(done.kept)  # type: ignore[union-attr]


def test_our_own_files_of_the_same_classes_and_of_another_head(tmp_path: Path) -> None:
    path = zoo.save(zoo.build("lenet", weights="digits"), tmp_path / "digits.safetensors")
    for head in ({"type": "linear", "num_classes": 10}, {"type": "cosine", "num_classes": 10}):
        model = zoo.build("lenet", head=head)
        done = loaded(model, path)
        assert set(done.ignored) == {"head.fc.weight", "head.fc.bias"}
        assert model.record is None
        assert len(done.loaded) == 8
        assert torch.equal(
            model.state_dict()["backbone.stages.0.conv.weight"], zoo.load(path).backbone.stages[0].conv.weight
        )
        with pytest.raises((SpecError, TensorMismatchError)):
            zoo.load_into(zoo.build("lenet", head={"type": "cosine", "num_classes": 10}), path)
    assert "head.fc.weight" not in zoo.load_into(zoo.build("lenet"), path).kept


def test_a_part_that_has_to_fit_still_has_to(theirs: nn.Module, tmp_path: Path) -> None:
    path = saved(tmp_path / "run.pth", {n: each for n, each in trunk(theirs).items() if not n.startswith("layer4.1")})
    model = zoo.build("resnet18")
    before = {name: each.clone() for name, each in model.state_dict().items()}
    with pytest.raises((TensorMismatchError, KeymapError), match=r"backbone\.layer4\.1"):
        zoo.load_into(model, path, fresh="head")
    assert all(model.state_dict()[name].equal(each) for name, each in before.items())
    done = zoo.load_into(model, path, fresh="head", allow_missing="backbone.layer4.1.*")
    told = {n for n in before if n.startswith(("head.", "backbone.layer4.1.")) and not n.endswith("batches_tracked")}
    assert set(done.kept) == told  # counters are filled in for files from before there were any


def test_graphs_of_others_with_a_head_or_without(theirs: nn.Module, tmp_path: Path) -> None:
    image = torch.rand(2, 3, 64, 64)
    for name, source in (("trunk", Trunk(theirs).eval()), ("whole", theirs)):
        torch.onnx.export(source, (image,), tmp_path / f"{name}.onnx", dynamo=True, verbose=False)
        model = zoo.build("resnet18", num_classes=5).eval()
        loaded(model, tmp_path / f"{name}.onnx")
        with torch.no_grad():
            (vector,) = model.neck(model.backbone(image))  # type: ignore[misc]
            torch.testing.assert_close(vector, Trunk(theirs).eval()(image))


def test_a_tied_tensor_is_of_the_part_that_is_taken(tmp_path: Path) -> None:
    spec = {
        "input": {"channels": 8, "size": [1, 1]},
        "backbone": {"type": "mlp", "hidden": [8]},
        "head": {"type": "linear", "num_classes": 8},
    }
    first, second = zoo.build(spec), zoo.build(spec)
    path = zoo.save(first, tmp_path / "a.pt")
    (name,) = (n for n in second.state_dict() if n.startswith("backbone.") and n.endswith("weight"))
    second.head.fc.weight = second.get_parameter(name)  # type: ignore[union-attr]
    done = zoo.load_into(second, path, fresh="head")
    assert second.state_dict()["head.fc.weight"].equal(first.state_dict()[name])
    assert done.kept == ("head.fc.bias",)


def test_what_is_no_part_is_told(theirs: nn.Module, tmp_path: Path) -> None:
    path = saved(tmp_path / "run.pth", theirs.state_dict())
    model = zoo.build("resnet18")
    for load in (zoo.load_into, zoo.plan_load):
        with pytest.raises(UnknownNameError, match=r"unknown part 'haed' .did you mean head"):
            load(model, path, fresh="haed")
        with pytest.raises(ZooError, match="found fresh=3; expected the name of a part, or several"):
            load(model, path, fresh=3)  # type: ignore[arg-type]
        with pytest.raises(WeightsError, match="fresh= names parts of zoo's models, and the model is a 'ResNet'"):
            load(resnet18(num_classes=9), path, fresh="head")
