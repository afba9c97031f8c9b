"""One run on the meta device tells of a model what torch's exporter tells of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import strangers
import torch
from strangers import STRANGERS
from variants import VARIANTS

import zoo
from zoo.builder import assemble, compose
from zoo.spec import opened, parse
from zoo.testing.subject import place
from zoo.weights.alignment.canonical import canonical
from zoo.weights.alignment.layers import Layer
from zoo.weights.alignment.matching import LEVELS, Level, matches
from zoo.weights.alignment.target import exported, target
from zoo.weights.alignment.tracing import traced

_PATH = Path("x.onnx")
_OTHERWISE = {
    "bottleneck:mlp 1": "a softplus, which the exporter writes out",
    "backbone:resnet_lite 5": "a slice of everything, which the exporter writes as well",
    "resnet20": "a slice of everything, which the exporter writes as well",
    "resnet56": "a slice of everything, which the exporter writes as well",
}
"""Where words between the layers differ, and why."""


def _components() -> Iterator[Any]:
    few = ("backbone", "neck:aspp", "neck:gem", "neck:fpn", "head:anchor", "head:cosine", "head:fcn", "bottleneck:mlp")
    for key, variants in VARIANTS.items():
        if not key.startswith("keymap"):
            for number, variant in enumerate(variants):
                name = f"{key} {number}"
                yield pytest.param(key, variant, name, id=name, marks=() if key.startswith(few) else pytest.mark.slow)


def _weights(layer: Layer) -> dict[str, object]:
    return {role: held.constant.parameter for role, held in layer.slots.items()} | dict(layer.unknown)


def _check_same(model: zoo.Model, size: list[int], name: str, level: Level | None = None) -> None:
    run = traced(model.eval(), size, model.spec["input"]["channels"])
    assert run.graph is not None, name
    ours, theirs = canonical(run.graph, _PATH), canonical(exported(model, size, _PATH), _PATH)
    level = level or LEVELS[name in _OTHERWISE]
    pairs, _ = next(iter(matches(ours, theirs, level)))
    assert len(pairs) == len(ours.layers) == len(theirs.layers)
    assert sum(bool(_weights(layer)) for layer in ours.layers) > 0
    for one, other in pairs:
        assert _weights(ours.layers[one]) == _weights(theirs.layers[other])
    assert ours.outputs == theirs.outputs


@pytest.mark.parametrize(("key", "variant", "name"), list(_components()))
def test_a_run_of_a_component_tells_what_the_exporter_tells(key: str, variant: dict[str, Any], name: str) -> None:
    subject = place(*key.split(":"), variant)
    _check_same(compose(subject.spec, "meta"), list(subject.spec["input"]["size"]), name)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("resnet18", "tiny-det", "r3d_18", "resnet20") else pytest.mark.slow)
        for name in zoo.list_models()
    ],
)
def test_a_run_of_a_named_model_tells_what_the_exporter_tells(name: str) -> None:
    with opened(name) as plain:
        model = assemble(parse(plain), "meta", initialise=False)
    source = model.spec["input"]
    _check_same(model, source["size"] or [64] * getattr(model.backbone, "dims", 2), name)


@pytest.mark.parametrize(
    ("backbone", "level"),
    [
        ("torchvision:squeezenet1_1", 0),
        pytest.param("torchvision:shufflenet_v2_x0_5", 1, marks=pytest.mark.slow),  # the exporter splits by sequences
        pytest.param("torchvision:densenet121", 0, marks=pytest.mark.slow),
        pytest.param("torchvision:mobilenet_v3_small", 0, marks=pytest.mark.slow),
        pytest.param("timm:efficientnet_lite0", 0, marks=pytest.mark.slow),
        pytest.param("timm:hrnet_w18_small", 0, marks=pytest.mark.slow),
        pytest.param("torchvision:convnext_tiny", 1, marks=pytest.mark.slow),  # the exporter gathers for as_strided
        pytest.param("timm:convnext_atto", 0, marks=pytest.mark.slow),
    ],
)
def test_a_run_of_a_model_of_others_tells_what_the_exporter_tells(backbone: str, level: int) -> None:
    head = {"type": "linear", "num_classes": 10}
    _check_same(compose({"backbone": backbone, "neck": "gap", "head": head}, "meta"), [96, 96], backbone, LEVELS[level])


class _Before(torch.nn.Module):
    """Does something to the input of a module."""

    def __init__(self, change: Callable[[torch.Tensor], torch.Tensor], module: torch.nn.Module) -> None:
        super().__init__()
        self.change, self.module = change, module.forward

    def forward(self, x: torch.Tensor) -> Any:
        return self.module(self.change(x))


def _changed(change: Callable[[torch.Tensor], torch.Tensor]) -> zoo.Model:
    head = {"type": "linear", "num_classes": 3}
    backbone = {"type": "vgg_lite", "layers": [1], "channels": [4]}
    model = compose({"backbone": backbone, "neck": "gap", "head": head}, "meta").eval()
    model.backbone.forward = _Before(change, model.backbone).forward  # type: ignore[method-assign]
    return model


def test_an_operator_that_is_not_known_is_left_to_the_exporter() -> None:
    model = _changed(lambda x: x.cumsum(1))
    assert traced(model, [16, 16], 3).graph is None
    graph, activations, products = target(model, [16, 16], _PATH)
    assert "CumSum" in {node.op for node in graph.nodes}
    assert activations > 4 * 16 * 16
    assert products == 4 * 3 * 9 * 16 * 16 + 3 * 4  # one convolution and the head


def test_an_instance_norm_is_seen_though_torch_takes_it_apart() -> None:
    spec = {"backbone": {"type": "vgg_lite", "layers": [1], "channels": [4], "norm": "instance"}, "neck": "gap"}
    model = compose({**spec, "head": {"type": "linear", "num_classes": 3}}, "meta").eval()
    run = traced(model, [16, 16], 3)
    assert run.graph is not None
    assert "InstanceNormalization" in {node.op for node in run.graph.nodes}
    (norm,) = [layer for layer in canonical(run.graph, _PATH).layers if layer.kind == "norm"]
    assert norm.parameters == {"backbone.layers.1.weight", "backbone.layers.1.bias"}


@pytest.mark.parametrize(
    "change",
    [
        lambda x: torch.nn.functional.batch_norm(x, None, None, training=True),
        lambda x: x.as_strided(x.shape, (768, 256, 1, 16)),
        lambda x: x.as_strided(x.shape, x.stride(), 0),
        lambda x: x.repeat(1, 1, 1, 1),
    ],
    ids=["a norm over the batch", "turned", "from a place", "repeated"],
)
def test_what_only_looks_like_a_step_of_those_is_not_taken_for_one(
    change: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    assert traced(_changed(change), [16, 16], 3).graph is None
    assert traced(_changed(lambda x: x.as_strided(x.shape, x.stride())), [16, 16], 3).graph is not None


def test_what_shares_numbers_that_are_written_into_is_not_believed() -> None:
    class Writing(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x + 1
            y[:, 0].relu_()
            return y

    model = compose({"backbone": "lenet"}, "meta").eval()
    model.backbone.forward = Writing().forward  # type: ignore[method-assign]
    assert traced(model, [32, 32], 3).graph is None


def test_alignment_imports_neither_the_exporter_nor_the_compiler(tmp_path: Path) -> None:
    strangers.exported(STRANGERS["torchvision ResNet, basic blocks"], "legacy", tmp_path / "x.onnx")
    spec = json.dumps(STRANGERS["torchvision ResNet, basic blocks"].spec())
    program = (
        "import json, sys, zoo; model = zoo.load(sys.argv[1], spec=json.loads(sys.argv[2]));"
        "assert model.migration.proven; print(*sys.modules)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "x.onnx"), spec]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.split()
    assert "zoo.weights.alignment.tracing" in loaded
    assert not {"onnx", "onnxscript", "onnxruntime", "torch._dynamo", "torch.onnx"} & set(loaded)
