"""verify of ONNX files whose graphs would harm who runs them, and which claim to be ours."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from onnx import NodeProto, helper, numpy_helper

import zoo
from zoo.cli import main
from zoo.errors import RunawayGraphError, SizeBudgetError
from zoo.weights.verification import bounds, onnxrun

node = helper.make_node


@pytest.fixture
def ours(tmp_path: Path) -> tuple[Path, Path]:
    """Give two files of one model."""
    model = zoo.build("lenet", weights="digits")
    return zoo.save(model, tmp_path / "good.pt"), zoo.save(model, tmp_path / "good.onnx")


def added(path: Path, nodes: Sequence[NodeProto], size: int) -> Path:
    """Write a file that says of itself what ours says, and whose graph adds ``m`` of more nodes to the output."""
    proto = onnx.load(path)
    proto.graph.node[-1].output[0] = "before"
    tall, wide = np.zeros((size, 1), "float32"), np.zeros((1, size), "float32")
    proto.graph.initializer.extend([numpy_helper.from_array(tall, "tall"), numpy_helper.from_array(wide, "wide")])
    proto.graph.node.extend([*nodes, node("Add", ["before", "m"], ["logits"])])
    assert "zoo" in {entry.key for entry in proto.metadata_props}
    target = path.with_name("bad.onnx")
    onnx.save(proto, target)
    return target


SWELLING = [node("Add", ["tall", "wide"], ["vast"]), node("ReduceMax", ["vast"], ["m"], keepdims=0)]


def test_a_graph_that_swells_is_told_by_file_and_remedy(ours: tuple[Path, Path]) -> None:
    good, graph = ours
    bad = added(graph, SWELLING, 1 << 15)
    with pytest.raises(RunawayGraphError, match=r"wants more than .* MB of memory") as told:
        zoo.verify(good, bad)
    assert told.value.path == str(bad)
    assert "run it nowhere else" in str(told.value)


def test_the_same_nodes_of_a_sane_size_are_run(ours: tuple[Path, Path]) -> None:
    good, graph = ours
    report = zoo.verify(good, added(graph, SWELLING, 16))
    assert {o.run.rpartition(" ")[2] for o in report.outputs} == {"torch", "onnxruntime"}
    assert all(o.holds for o in report.outputs)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not bound the processor time of a process")
def test_a_graph_that_computes_on_and_on_is_told_by_the_command(
    ours: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "_STARTED", 2)
    good, graph = ours
    sines = [node("Sin", [f"s{i}"], [f"s{i + 1}"]) for i in range(10_000)]
    nodes = [node("Add", ["tall", "wide"], ["s0"]), *sines, node("ReduceMax", ["s10000"], ["m"], keepdims=0)]
    bad = added(graph, nodes, 1 << 12)
    done = CliRunner().invoke(main, ["verify", str(good), str(bad)])
    assert done.exit_code == 1
    assert done.output.startswith(f"Error: {bad}: onnxruntime computes far longer than the model takes, more than")
    assert "Traceback" not in done.output


def test_a_graph_that_crashes_onnxruntime_is_told(ours: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    good, graph = ours
    crashing = graph.with_name("crashing.py")
    crashing.write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.setattr(onnxrun, "__file__", str(crashing))
    with pytest.raises(RunawayGraphError, match=r"good\.onnx: onnxruntime crashed on it \(killed by SIGSEGV\)"):
        zoo.verify(good, graph)


def test_onnxruntime_is_not_even_imported_here(ours: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    good, graph = ours
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert zoo.verify(good, graph).ok


def test_an_input_as_large_as_a_graph_likes_is_not_made(ours: tuple[Path, Path]) -> None:
    good, graph = ours
    proto = onnx.load(graph)
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    dims[0].dim_value = 1 << 30
    onnx.save(proto, graph)
    report = zoo.verify(good, graph)
    assert (report.ok, report.equal) == (False, report.total)
    assert report.failures == (
        "outputs: an input of 1073741824×1×32×32 is more than is tried; say on what to compare them: inputs=",
    )


@pytest.mark.parametrize("suffix", ["pt", "onnx"])
def test_an_input_on_which_a_model_takes_all_memory_is_refused(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = zoo.build("resnet-lite", input={"size": [512, 512]})  # 16 channels of that size, in float64
    path = zoo.save(model, tmp_path / f"x.{suffix}")
    monkeypatch.setenv("ZOO_MAX_BYTES", "100MB")
    with pytest.raises(SizeBudgetError, match=r"an input of 512×512 for 5 samples.*bytes that the model makes of it"):
        zoo.verify(path, path)
    monkeypatch.setenv("ZOO_MAX_BYTES", "600MB")
    monkeypatch.setattr("zoo.weights.verification.verify._outputs", lambda *_: [])
    assert zoo.verify(path, path).batches == (1, 2, 5)


def test_one_process_runs_all_batches(ours: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    good, graph = ours
    program = graph.with_name("counting.py")
    program.write_text(
        f"import runpy\nopen({str(graph.with_name('started'))!r}, 'a').write('x')\n"
        f"runpy.run_path({onnxrun.__file__!r}, run_name='__main__')\n"
    )
    monkeypatch.setattr(onnxrun, "__file__", str(program))
    report = zoo.verify(good, graph)
    assert (report.ok, report.batches) == (True, (1, 2, 5))
    assert graph.with_name("started").read_text() == "x"


def test_a_model_that_torch_cannot_run_is_told_once(ours: tuple[Path, Path]) -> None:
    _, graph = ours
    model = torch.nn.Linear(3, 3)
    report = zoo.verify(model, graph, inputs=[torch.zeros(1, 1, 32, 32)])
    assert not report.ok
    assert sum("the model does not run on an input of (1, 1, 32, 32)" in each for each in report.failures) == 1
