"""A graph without its weights: they are said to be in the file itself, and are found there."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import zoo
from zoo.errors import FileFormatError
from zoo.weights.onnx.skeleton import skeleton
from zoo.weights.verification import onnxrun
from zoo.weights.verification.apart import outputs_apart
from zoo.weights.verification.bounds import Bounds

BOUNDS = Bounds(memory=1 << 30, output=1 << 20, seconds=60)


MEASURED = """
import importlib.util

spec = importlib.util.spec_from_file_location("onnxrun", {program!r})
onnxrun = importlib.util.module_from_spec(spec)
spec.loader.exec_module(onnxrun)
tell = onnxrun._tell


def measured(*given):
    with open("/proc/self/status") as status, open({told!r}, "w") as told:
        told.write(next(line.split()[1] for line in status if line.startswith("RssAnon")))
    tell(*given)


onnxrun._tell = measured
onnxrun.main()
"""


class Network(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 16, 5), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 16, 40))


@pytest.fixture(params=["ours", "legacy", "dynamo"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "x.onnx"
    if request.param == "ours":
        return zoo.save(zoo.build("lenet", input={"channels": 3}), path)
    with warnings.catch_warnings(action="ignore"):  # torch deprecates one exporter, and itself in the other
        torch.onnx.export(
            Network().eval(),
            (torch.zeros(1, 3, 8, 8),),
            path,
            dynamo=request.param == "dynamo",
            external_data=False,
            verbose=False,
        )
    return path


def test_what_is_left_is_the_graph_and_the_weights_are_found_where_they_are_said_to_be(written: Path) -> None:
    graph, folder = skeleton(written)
    made, whole = onnx.load_from_string(graph), onnx.load(written)
    assert len(graph) < written.stat().st_size / 2
    elsewhere = {each.name for each in made.graph.initializer if each.data_location == onnx.TensorProto.EXTERNAL}
    assert elsewhere == {each.name for each in whole.graph.initializer if len(each.raw_data) >= 4096}
    onnx.load_external_data_for_model(made, str(folder))
    for ours, theirs in zip(made.graph.initializer, whole.graph.initializer, strict=True):
        assert np.array_equal(numpy_helper.to_array(ours), numpy_helper.to_array(theirs))
    del made.graph.initializer[:], whole.graph.initializer[:], whole.metadata_props[:]
    assert made == whole


def test_values_within_a_graph_become_outputs(written: Path) -> None:
    inside = onnx.load(written).graph.node[0].output[0]
    made = onnx.load_from_string(skeleton(written, [inside]).graph)
    assert [each.name for each in made.graph.output][1:] == [inside]


def in_this_process(path: Path, batch: torch.Tensor) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")  # or other kernels run
    session = onnxruntime.InferenceSession(path, options)
    return session.run(None, {session.get_inputs()[0].name: batch.float().numpy()})[0]


def test_it_computes_the_same_bit_for_bit(written: Path) -> None:
    size = 32 if written.stat().st_size > 200_000 else 8
    batch = torch.randn(1, 3, size, size).double()
    ((found,),) = outputs_apart(written, [batch], BOUNDS)
    assert np.array_equal(found.numpy(), in_this_process(written, batch))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows makes links for administrators alone")
@pytest.mark.parametrize("outside", [False, True], ids=["whole", "with its weights beside it"])
def test_a_file_that_is_a_link_to_another_folder_is_run(outside: bool, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "shown").mkdir()
    stored, shown = tmp_path / "store" / "1a2b", tmp_path / "shown" / "x.onnx"
    zoo.save(zoo.build("lenet"), tmp_path / "x.onnx")
    batch = torch.randn(2, 1, 32, 32).double()
    wanted = in_this_process(tmp_path / "x.onnx", batch)
    if outside:
        proto = onnx.load(tmp_path / "x.onnx")
        onnx.save(proto, tmp_path / "y.onnx", save_as_external_data=True, location="x.bin", size_threshold=0)
        (tmp_path / "x.bin").rename(tmp_path / "shown" / "x.bin")
        (tmp_path / "y.onnx").rename(stored)
    else:
        (tmp_path / "x.onnx").rename(stored)
    shown.symlink_to(stored)
    assert skeleton(shown).folder == (shown if outside else stored).parent
    ((found,),) = outputs_apart(shown, [batch], BOUNDS)
    assert np.array_equal(found.numpy(), wanted)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells what of its memory is its own")
def test_the_process_that_runs_it_has_no_copy_of_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = zoo.build("mlp", input={"size": [64, 64]}, backbone={"hidden": [4096]})
    path = zoo.save(model, tmp_path / "x.onnx")
    program = tmp_path / "measured.py"
    program.write_text(MEASURED.format(program=onnxrun.__file__, told=str(tmp_path / "anonymous")))
    monkeypatch.setattr(onnxrun, "__file__", str(program))
    outputs_apart(path, [torch.zeros(1, 1, 64, 64).double()], BOUNDS)
    assert path.stat().st_size > 64_000_000
    assert int((tmp_path / "anonymous").read_text()) * 1024 < 48_000_000


def test_a_damaged_file_is_told_as_one(tmp_path: Path) -> None:
    path = zoo.save(zoo.build("lenet"), tmp_path / "x.onnx")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(FileFormatError, match="not a whole ONNX file"):
        skeleton(path)
