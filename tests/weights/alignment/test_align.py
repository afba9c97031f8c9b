"""Files of other exporters, in every disguise: the model that comes of one computes what the file does."""

from __future__ import annotations

from pathlib import Path

import pytest
import strangers
import torch
from strangers import COMBINATIONS, LARGE, LARGE_COMBINATIONS, STRANGERS, Combination
from torch import nn
from torch.utils._pytree import tree_leaves

import zoo
from zoo.weights.alignment.unfolding import still

_ONE = {**STRANGERS, **LARGE}


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[Path, nn.Module]]:
    """What was exported already: it takes longer than everything that is done to it."""
    return {}


def _check(combination: Combination, exports: dict[tuple[str, str], tuple[Path, nn.Module]], folder: Path) -> zoo.Model:
    key = combination.stranger, combination.exporter
    stranger = _ONE[combination.stranger]
    if key not in exports:
        path = folder / f"{len(exports)}.onnx"
        exports[key] = path, strangers.exported(stranger, combination.exporter, path)
    path, theirs = exports[key]
    ours = zoo.load(combination.disguise(path), spec=stranger.spec())
    assert ours.migration is not None
    assert ours.migration.proven
    if isinstance(theirs, strangers.Deployed):
        assert ours.migration.alignment.endings != ("",)
        theirs = theirs.model
    dtype = next(theirs.parameters()).dtype
    image = torch.randn(2, stranger.channels, *stranger.size).to(dtype)
    with torch.no_grad():
        expected, found = tree_leaves(theirs(image)), tree_leaves(ours(image))
        assert 0 < len(expected) <= len(found)  # a detector of ours gives the sizes of its maps as well
        for one, other in zip(found, expected, strict=False):
            scale = float(other.abs().max())
            assert float((one.reshape(other.shape) - other).abs().max()) <= 16 * scale * torch.finfo(dtype).eps
    return ours


def _told(combination: Combination) -> str:
    return f"{combination.stranger}, {combination.exporter}, {combination.disguise.__name__}"


@pytest.mark.parametrize("combination", COMBINATIONS, ids=_told)
def test_a_small_model_comes_home(
    combination: Combination,
    exports: dict[tuple[str, str], tuple[Path, nn.Module]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    _check(combination, exports, tmp_path_factory.mktemp("exports"))


@pytest.mark.slow
@pytest.mark.parametrize("combination", LARGE_COMBINATIONS, ids=_told)
def test_a_whole_model_comes_home(combination: Combination, tmp_path: Path) -> None:
    _check(combination, {}, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("file", "name"), [("light_resnet50", "resnet50"), ("light_vgg19", "vgg19")])
def test_the_light_models_that_a_spec_can_say_come_home(file: str, name: str) -> None:
    ours = zoo.load(strangers.LIGHT / f"{file}.onnx", spec=name)
    assert ours.migration.proven
    assert "Softmax" in str(ours.migration)


def test_tensors_that_were_not_folded_come_back_bit_for_bit(tmp_path: Path) -> None:
    theirs = strangers.exported(STRANGERS["torchvision ResNet, basic blocks"], "dynamo, unfolded", tmp_path / "x.onnx")
    ours = zoo.load(tmp_path / "x.onnx", spec=STRANGERS["torchvision ResNet, basic blocks"].spec())
    assert ours.migration.alignment.counts == {"exact": 62, "identity": 12}
    own = ours.state_dict()
    for name, tensor in theirs.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(own[f"{'head' if name.startswith('fc') else 'backbone'}.{name}"], tensor), name


def test_what_training_would_lose_is_said(tmp_path: Path) -> None:
    strangers.exported(STRANGERS["torchvision VGG with BatchNorm"], "legacy", tmp_path / "x.onnx")
    ours = zoo.load(tmp_path / "x.onnx", spec=STRANGERS["torchvision VGG with BatchNorm"].spec())
    assert ours.migration.alignment.counts == {"batchnorm-folded": 8, "identity": 20, "exact": 6}
    assert "statistics of the BatchNorms that were folded are lost" in str(ours.migration)
    bn = ours.backbone.layers[1]
    x = torch.randn(1, 8, 4, 4)
    assert torch.equal(bn(x), x + bn.bias.view(8, 1, 1))


@pytest.mark.parametrize("eps", [1e-5, 1e-3, 1e-8])
def test_a_norm_that_was_folded_away_does_nothing_at_all(eps: float) -> None:
    norm = nn.BatchNorm2d(8, eps=eps).eval()
    norm.running_var.fill_(still(eps, torch.float32))
    x = torch.randn(4, 8, 5, 5) * 100
    assert torch.equal(norm(x), x)


def test_a_file_with_our_own_names_is_proven_as_well(tmp_path: Path) -> None:
    model = zoo.build("lenet").eval()
    x = torch.zeros(2, 1, 32, 32)
    torch.onnx.export(model, (x,), tmp_path / "x.onnx", dynamo=True, optimize=False, verbose=False)
    ours = zoo.load(tmp_path / "x.onnx", spec="lenet")
    assert ours.migration.alignment is not None
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), ours.state_dict().values(), strict=True))


def test_the_model_can_be_had_in_another_precision(tmp_path: Path) -> None:
    stranger = STRANGERS["LeNet-5 as nn.Sequential"]
    strangers.exported(stranger, "dynamo", tmp_path / "x.onnx")
    ours = zoo.load(tmp_path / "x.onnx", spec="lenet", dtype="bfloat16")
    assert next(ours.parameters()).dtype == torch.bfloat16
    assert ours.migration.proven


def test_a_migrated_model_is_saved_as_any_other(tmp_path: Path) -> None:
    stranger = STRANGERS["LeNet-5 as nn.Sequential"]
    theirs = strangers.exported(stranger, "dynamo", tmp_path / "x.onnx")
    back = zoo.load(zoo.save(zoo.load(tmp_path / "x.onnx", spec="lenet"), tmp_path / "ours.safetensors"))
    x = torch.randn(1, 1, 32, 32)
    assert torch.equal(back(x), theirs(x))
