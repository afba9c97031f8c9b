"""Writing ONNX: exact and in a stream, the model untouched, one file, two, or twins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.torch
import torch
from onnx_files import TOLERANCE, check_weights, difference, initializers, locations, metadata
from torch import nn

import zoo
from zoo.builder import compose
from zoo.errors import StalePairError, WeightsError
from zoo.weights.onnx import writing as onnxwriter
from zoo.weights.parity import compare
from zoo.weights.reading import read

HEAD = {"type": "linear", "num_classes": 2}


@pytest.fixture
def model() -> zoo.Model:
    return zoo.build("resnet-lite", weights="digits")


def test_a_file_says_nothing_of_how_it_was_made(model: zoo.Model, tmp_path: Path) -> None:
    path = zoo.save(model, tmp_path / "net.onnx")
    proto = onnx.load(path)
    graph = proto.graph
    assert (proto.producer_name, proto.producer_version, proto.domain, proto.doc_string) == ("zoo", "0.1.0", "", "")
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        assert (part.doc_string.strip(" "), len(part.metadata_props)) == ("", 0)  # blanks push tensors to their places
    assert not proto.functions
    used = {name for node in graph.node for name in node.input}
    made = {name for node in graph.node for name in node.output}
    assert {i.name for i in graph.initializer} <= used
    assert {v.name for v in graph.value_info} <= made
    check_weights(model, path)


def test_embedded_tensors_begin_where_they_can_be_mapped(model: zoo.Model, tmp_path: Path) -> None:
    model.half()
    content = zoo.save(model, tmp_path / "net.onnx").read_bytes()
    large = [t for t in model.state_dict().values() if t.numel() > 16]
    assert len(large) > 10
    assert {content.index(t.numpy().tobytes()) % 8 for t in large} == {0}


@pytest.mark.parametrize("name", ["net.onnx", "net.safetensors"])
def test_large_tensors_begin_where_memory_of_torch_would(name: str, tmp_path: Path) -> None:
    """A convolution sums in another order where its weight begins elsewhere, and its last bit differs."""
    model = zoo.build("resnet-lite", backbone={"width": 24}, num_classes=7)
    content = zoo.save(model, tmp_path / name).read_bytes()
    large = [t for t in model.state_dict().values() if t.nbytes > 1 << 16]
    assert len(large) == 3
    assert {content.index(t.numpy().tobytes()) % 64 for t in large} == {0}
    mapped = list(zoo.load(tmp_path / name).parameters())
    assert {t.data_ptr() % 64 for t in mapped} == {0}


def test_two_saves_are_the_same_bytes_whatever_the_hash_seed(python, tmp_path: Path) -> None:
    code = "import sys, zoo\nzoo.save(zoo.build('vgg-lite', weights='digits'), sys.argv[1])".replace(
        "sys.argv[1]", "{!r}"
    )
    for seed in ("1", "2"):
        run = python(code.format(str(tmp_path / f"{seed}.onnx")), PYTHONHASHSEED=seed)
        assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    here = zoo.save(zoo.build("vgg-lite", weights="digits"), tmp_path / "here.onnx").read_bytes()
    assert (tmp_path / "1.onnx").read_bytes() == (tmp_path / "2.onnx").read_bytes() == here


MEMORY = """
import threading, time, zoo

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))

zoo.save(zoo.build("mlp"), {folder!r} + "/small.onnx")
model = zoo.load({folder!r} + "/large.safetensors")
before, most, done = anonymous(), [0], []

def watch():
    while not done:
        most.append(anonymous())
        time.sleep(0.001)

thread = threading.Thread(target=watch)
thread.start()
zoo.save(model, {folder!r} + "/large.onnx")
done.append(True)
thread.join()
print(max(most) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured as Linux tells it")
def test_mapped_weights_are_written_without_being_in_memory(python, tmp_path: Path) -> None:
    model = zoo.build("mlp", backbone={"hidden": [4096, 4096, 4096]})
    largest = max(t.nbytes for t in model.state_dict().values())
    zoo.save(model, tmp_path / "large.safetensors")
    run = python(MEMORY.format(folder=str(tmp_path)))
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < largest
    assert (tmp_path / "large.onnx").stat().st_size > 2 * largest


def test_the_model_stays_as_it_is(tmp_path: Path) -> None:
    model = zoo.build("resnet-lite").train()
    model.backbone.eval()
    model.backbone.conv1.weight.requires_grad_(False)
    model(torch.randn(2, 1, 32, 32)).sum().backward()
    fired: list[str] = []
    model.register_forward_hook(lambda *_: fired.append("hook"))
    model.head.register_forward_pre_hook(lambda *_: fired.append("pre-hook"))
    model.backbone.register_forward_hook(lambda module, inputs, output: tuple(2 * each for each in output))

    def state() -> list[Any]:
        tensors = model.state_dict(keep_vars=True)
        return [
            [(m.training, len(m._forward_hooks), sorted(m.__dict__)) for m in model.modules()],
            [(n, id(t), t.requires_grad, t._version, id(t.grad)) for n, t in tensors.items()],
            torch.get_rng_state().tolist(),
        ]

    before = state()
    path = zoo.save(model, tmp_path / "net.onnx")
    assert state() == before
    assert fired == []
    plain = zoo.load(tmp_path / "net.onnx")
    assert difference(plain, path, 2, 1, 32, 32) <= TOLERANCE  # without the hook that doubles


def test_hooks_of_a_component_are_part_of_what_it_computes(backbone, tmp_path: Path) -> None:
    class Hooked(nn.Module):
        def __init__(self, in_channels: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(in_channels, 4, 3)
            self.conv.register_forward_hook(self.double)
            self.features = (zoo.Feature("stage1", 4),)

        @staticmethod
        def double(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
            return 2 * output

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            self.ran = True
            return (self.conv(x),)

    backbone("hooked", Hooked)
    model = zoo.build({"backbone": "hooked", "neck": "gap", "head": HEAD, "input": {"size": [16, 16]}})
    model.backbone.conv.register_forward_hook(lambda module, inputs, output: output + 1)
    path = zoo.save(model, tmp_path / "net.onnx")
    assert "ran" not in vars(model.backbone)
    assert difference(zoo.load(path), path, 2, 3, 16, 16) <= TOLERANCE


def test_what_is_too_large_for_one_file_goes_into_a_data_file(
    model: zoo.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.onnx"
    monkeypatch.setattr(onnxwriter, "MAX_BYTES", 100_000)
    zoo.save(model, path)
    (data,) = tmp_path.glob("net.onnx.????????.data")
    first, content = path.read_bytes(), data.read_bytes()
    assert path.stat().st_size < 100_000 < data.stat().st_size
    places = locations(path)
    assert {place["location"] for place in places.values()} == {data.name}
    assert {int(place["offset"]) % 64 for place in places.values()} == {0}
    onnx.checker.check_model(path, full_check=True)
    check_weights(model, path)
    assert difference(model, path, 3, 1, 32, 32) <= TOLERANCE
    assert compare(model.state_dict(), zoo.load(path, verify=True).state_dict()).holds
    zoo.save(model, path)
    assert (path.read_bytes(), data.read_bytes()) == (first, content)
    with torch.no_grad():
        model.head.fc.bias.add_(1)
    zoo.save(model, path)
    (other,) = tmp_path.glob("net.onnx.????????.data")
    assert other.name != data.name
    check_weights(model, path)
    monkeypatch.undo()
    zoo.save(model, path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("stop", ["write", "replace"])
def test_a_failure_between_graph_and_data_leaves_the_old_pair(
    stop: str, model: zoo.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.onnx"
    monkeypatch.setattr(onnxwriter, "MAX_BYTES", 100_000)
    zoo.save(model, path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with torch.no_grad():
        model.head.fc.bias.add_(1)
    replace = Path.replace

    def full(*_: object) -> memoryview:
        raise OSError(28, "No space left on device")

    def cut(self: Path, target: Path) -> Path:
        if target.suffix == ".onnx":
            raise OSError(5, "the power is cut")
        return replace(self, target)

    if stop == "write":
        monkeypatch.setattr("zoo.weights.onnx.graph.byte_view", full)
    else:
        monkeypatch.setattr(Path, "replace", cut)
    with pytest.raises(WeightsError, match="what was there before is intact"):
        zoo.save(model, path)
    after = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert {name: after[name] for name in before} == before
    # Between the two names, the new data file is there already; no graph points to it.
    assert len(after) == len(before) + (stop == "replace")
    monkeypatch.undo()
    monkeypatch.setattr(onnxwriter, "MAX_BYTES", 100_000)
    zoo.save(model, path)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("absolute", [False, True])
def test_twins_share_one_copy_of_the_weights(absolute: bool, model: zoo.Model, tmp_path: Path) -> None:
    twin = tmp_path / "net.safetensors"
    path = zoo.save(model, tmp_path / "net.onnx", weights=twin if absolute else "net.safetensors")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.onnx", "net.safetensors"]
    assert path.stat().st_size < 60_000 < twin.stat().st_size
    assert {place["location"] for place in locations(path).values()} == {"net.safetensors"}
    onnx.checker.check_model(path, full_check=True)
    check_weights(model, path)
    assert difference(model, path, 3, 1, 32, 32) <= TOLERANCE
    for each in (path, twin):
        assert compare(model.state_dict(), zoo.load(each, verify=True).state_dict()).holds
    assert metadata(path)["zoo.weights"] == "net.safetensors"
    assert json.loads(metadata(path)["zoo"])["fingerprint"] == read(twin).artifact.fingerprint == zoo.fingerprint(model)
    held = json.loads(metadata(path)["zoo.initializers"])
    library = safetensors.torch.load_file(twin)
    assert {name for name in library if name not in held} == {n for n in library if n.endswith("num_batches_tracked")}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_twins_of_any_precision_hold_the_same_bits(dtype: torch.dtype, model: zoo.Model, tmp_path: Path) -> None:
    model.to(dtype)
    path = zoo.save(model, tmp_path / "net.onnx", weights="net.safetensors")
    for each in (path, tmp_path / "net.safetensors"):
        assert compare(model.state_dict(), zoo.load(each).state_dict()).holds
    graph = {i.name: i for i in onnx.load(path).graph.initializer}
    for name, initializer in json.loads(metadata(path)["zoo.initializers"]).items():
        assert graph[initializer].raw_data == model.state_dict()[name].view(torch.uint8).numpy().tobytes()


def test_a_twin_that_was_saved_alone_again_is_noticed(model: zoo.Model, tmp_path: Path) -> None:
    path = zoo.save(model, tmp_path / "net.onnx", weights="net.safetensors")
    with torch.no_grad():
        model.head.fc.bias.add_(1)
    zoo.save(model, tmp_path / "net.safetensors")
    with pytest.raises(StalePairError, match=zoo.fingerprint(model)):
        zoo.load(path)
    zoo.save(model, path, weights="net.safetensors")
    assert compare(model.state_dict(), zoo.load(path).state_dict()).holds


def test_weights_elsewhere_or_of_another_kind_are_an_error(model: zoo.Model, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    for weights, message in (
        ("../net.safetensors", rf"found weights in {tmp_path.parent}; expected them beside the graph, in {tmp_path}"),
        (tmp_path / "sub" / "net.safetensors", r"found weights in .*sub; expected them beside the graph"),
        ("net.pt", r"found weights 'net.pt'; expected a file that ends in .safetensors"),
        ("", r"found weights ''; expected a file that ends in .safetensors"),
        (3, r"found weights 3; expected the name of a .safetensors file"),
    ):
        with pytest.raises(WeightsError, match=message):
            zoo.save(model, path, weights=weights)
    assert list(tmp_path.iterdir()) == []


def test_labels_and_preprocessing_are_there_for_any_runtime(model: zoo.Model, tmp_path: Path) -> None:
    path = zoo.save(model, tmp_path / "net.onnx")
    told = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    assert json.loads(told["labels"]) == list(model.record.labels)
    assert json.loads(told["preprocessing"]) == json.loads(model.record.preprocessing.model_dump_json())
    model.record = None
    assert metadata(zoo.save(model, path)).keys() == {"zoo", "zoo.initializers", "zoo.tensors"}


def test_a_constant_that_is_no_weight_stays_in_the_graph(backbone, tmp_path: Path) -> None:
    class Shifted(nn.Module):
        def __init__(self, in_channels: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(in_channels, 4, 1)
            self.register_buffer("shift", torch.arange(4.0).reshape(1, 4, 1, 1), persistent=False)
            self.unused = nn.Parameter(torch.randn(3, 2))
            self.features = (zoo.Feature("maps", 4),)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return (self.conv(x) + self.shift,)

    backbone("shifted", Shifted)
    model = zoo.build({"backbone": "shifted", "neck": "gap", "head": HEAD, "input": {"size": [8, 8]}})
    path = zoo.save(model, tmp_path / "net.onnx")
    np.testing.assert_array_equal(initializers(path)["backbone.shift"].ravel(), np.arange(4.0, dtype=np.float32))
    assert "backbone.unused" not in initializers(path)
    assert difference(model, path, 2, 3, 8, 8) <= TOLERANCE
    assert compare(model.state_dict(), zoo.load(path).state_dict()).holds


@pytest.mark.slow
def test_more_than_two_gibibytes_are_written_and_run(tmp_path: Path) -> None:
    spec = zoo.build("mlp").spec
    spec["backbone"]["hidden"] = [16640, 16640, 16640]
    model = compose(spec, "meta").to_empty(device="cpu")
    with torch.no_grad():
        for number, tensor in enumerate(model.state_dict().values()):
            tensor.fill_((number + 1) * 1e-5)
    path = zoo.save(model, tmp_path / "net.onnx")
    (data,) = tmp_path.glob("net.onnx.????????.data")
    assert data.stat().st_size > 2**31 > 100 * path.stat().st_size
    onnx.checker.check_model(path)
    state = model.state_dict()
    for name, place in locations(path).items():
        begin, shape = int(place["offset"]), state[name].shape
        assert np.array_equal(np.memmap(data, np.float32, "r", begin, tuple(shape)), state[name].numpy())
    x = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        expected = model.eval()(x)
    del model, state, tensor  # onnxruntime takes as much again
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_prepacking", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (ran,) = session.run(None, {"image": x.numpy()})
    assert np.abs(ran - expected.numpy()).max() <= TOLERANCE * max(1.0, expected.abs().max().item())
    data.unlink()  # pytest keeps folders for a while
