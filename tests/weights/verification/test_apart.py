"""A stranger's file runs in a process of its own: the outputs come back, and nothing else that it does."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper

import zoo
from zoo.weights.verification import apart, onnxrun
from zoo.weights.verification.apart import outputs_apart
from zoo.weights.verification.outputs import RunError, in_onnxruntime

GIB = 1 << 30
node = helper.make_node


def written(nodes: Sequence[NodeProto], path: Path, **held: np.ndarray) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in held.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_the_outputs_are_those_of_a_run_in_this_process(tmp_path: Path) -> None:
    path = zoo.save(zoo.build("lenet", weights="digits"), tmp_path / "x.onnx")
    batches = [torch.randn(2, 1, 32, 32).double(), torch.randn(1, 1, 32, 32).double()]
    found = outputs_apart(path, batches, memory=GIB, output=1 << 20, seconds=20)
    assert [[tuple(each.shape) for each in outputs] for outputs in found] == [[(2, 10)], [(1, 10)]]
    for batch, outputs in zip(batches, found, strict=True):
        assert torch.allclose(outputs[0], in_onnxruntime(path)(batch)[0], atol=1e-5)


def test_a_graph_that_wants_more_memory_than_it_may_have_is_stopped(tmp_path: Path) -> None:
    tall, wide = np.ones((1 << 15, 1), "float32"), np.ones((1, 1 << 15), "float32")  # 4 GiB together
    nodes = [
        node("Add", ["tall", "wide"], ["vast"]),
        node("ReduceMax", ["vast"], ["m"]),
        node("Add", ["x", "m"], ["y"]),
    ]
    path = written(nodes, tmp_path / "x.onnx", tall=tall, wide=wide)
    with pytest.raises(RunError, match=r"x\.onnx: .*alloc"):
        outputs_apart(path, [torch.ones(1, 4)], memory=GIB, output=1 << 20, seconds=20)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not bound the processor time of a process")
def test_a_graph_that_computes_on_and_on_is_stopped(tmp_path: Path) -> None:
    nodes = [node("Add", ["tall", "wide"], ["s0"])]  # small enough to be held, and then 10¹¹ sines of it
    nodes += [node("Sin", [f"s{i}"], [f"s{i + 1}"]) for i in range(10_000)]
    nodes += [node("ReduceMax", ["s10000"], ["m"]), node("Add", ["x", "m"], ["y"])]
    tall, wide = np.ones((1 << 12, 1), "float32"), np.ones((1, 1 << 12), "float32")
    path = written(nodes, tmp_path / "x.onnx", tall=tall, wide=wide)
    with pytest.raises(RunError, match=r"computes far longer for .*x\.onnx than the model takes, more than 2 s"):
        outputs_apart(path, [torch.ones(1, 4)], memory=GIB, output=1 << 20, seconds=2)


def test_what_lies_in_the_folder_that_one_is_in_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise SystemError('another one')")
    path = written([node("Neg", ["x"], ["y"])], tmp_path / "x.onnx")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")  # as in an interactive session
    found = outputs_apart(path, [torch.ones(1, 4)], memory=GIB, output=1 << 20, seconds=20)
    assert torch.equal(found[0][0], -torch.ones(1, 4))


def test_what_is_no_text_in_the_search_path_is_passed_over_as_python_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written([node("Neg", ["x"], ["y"])], tmp_path / "x.onnx")
    monkeypatch.setattr(sys, "path", [*sys.path, tmp_path])
    assert outputs_apart(path, [torch.ones(1, 4)], memory=GIB, output=1 << 20, seconds=20)


@pytest.mark.parametrize("executable", [None, ""])
def test_without_an_interpreter_it_is_said_that_there_is_none(
    executable: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(RunError, match="no Python interpreter here to start one"):
        outputs_apart(tmp_path / "x.onnx", [torch.ones(1, 4)], memory=GIB, output=1 << 20, seconds=20)


def test_a_path_that_is_no_text_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"whose path is not UTF-8: .*\\udcff\.onnx"):
        outputs_apart(tmp_path / "\udcff.onnx", [torch.ones(1, 4)], memory=GIB, output=1 << 20, seconds=20)


def test_outputs_beyond_what_was_expected_are_not_taken(tmp_path: Path) -> None:
    path = written([node("Add", ["x", "c"], ["y"])], tmp_path / "x.onnx", c=np.ones((1 << 16, 1), "float32"))
    with pytest.raises(RunError, match="gives far more than the model does"):
        outputs_apart(path, [torch.ones(1, 4)], memory=GIB, output=1 << 16, seconds=20)


def test_a_file_that_is_none_is_told_as_onnxruntime_tells_it(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"\x08\x0anothing")
    with pytest.raises(RunError, match=r"onnxruntime does not run .*x\.onnx: InvalidProtobuf"):
        outputs_apart(tmp_path / "x.onnx", [torch.ones(1, 4)], memory=GIB, output=1 << 20, seconds=20)


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
        ("raise SystemError('of the interpreter')", "SystemError: of the interpreter"),
    ],
)
def test_a_process_that_dies_is_an_error_that_says_how(
    program: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dying.py").write_text(program)
    monkeypatch.setattr(onnxrun, "__file__", str(tmp_path / "dying.py"))
    with pytest.raises(RunError, match=told):
        outputs_apart(tmp_path / "x.onnx", [torch.ones(1, 4)], memory=GIB, output=1 << 20, seconds=20)


def test_a_process_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "endless.py").write_text(
        f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    )
    monkeypatch.setattr(onnxrun, "__file__", str(tmp_path / "endless.py"))
    monkeypatch.setattr(apart, "MAX_SECONDS", 3)
    with pytest.raises(RunError, match=r"takes longer than 3 s for .*x\.onnx"):
        outputs_apart(tmp_path / "x.onnx", [torch.ones(1, 4)], memory=GIB, output=1 << 20, seconds=20)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
