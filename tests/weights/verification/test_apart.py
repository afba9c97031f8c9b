"""A stranger's file runs in a process of its own: the outputs come back, and nothing else that it does."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from runaway import endless, node, vast, written

import zoo
from zoo.errors import FileFormatError, RunawayGraphError
from zoo.weights.verification import apart, onnxrun
from zoo.weights.verification.apart import in_onnx, outputs_apart
from zoo.weights.verification.bounds import Bounds, Work, bounds_for, work_of
from zoo.weights.verification.outputs import RunError, in_torch

GIB = 1 << 30
BOUNDS = Bounds(memory=GIB, output=1 << 20, seconds=20)


@pytest.mark.parametrize("optimised", [False, True])
def test_the_outputs_are_those_of_the_model(optimised: bool, tmp_path: Path) -> None:
    model = zoo.build("lenet", weights="digits")
    path = zoo.save(model, tmp_path / "x.onnx")
    batches = [torch.randn(2, 1, 32, 32).double(), torch.randn(1, 1, 32, 32).double()]
    found = outputs_apart(path, batches, BOUNDS, optimised=optimised)
    assert [[tuple(each.shape) for each in outputs] for outputs in found] == [[(2, 10)], [(1, 10)]]
    for batch, outputs in zip(batches, found, strict=True):
        assert torch.allclose(outputs[0], in_torch(model)(batch)[0], atol=1e-5)


def test_a_run_of_all_batches_is_asked_for_one_of_them_at_a_time(tmp_path: Path) -> None:
    path = written([node("Neg", ["x"], ["y"])], tmp_path / "x.onnx")
    batches = [torch.full((n, 4), float(n)).double() for n in (1, 2, 3)]
    run, by = in_onnx(path, batches, Work(4, 0), path.stat().st_size, {torch.float32})
    assert by == "onnxruntime"
    for batch in reversed(batches):
        assert torch.equal(run(batch)[0], -batch.float())


@pytest.mark.parametrize("optimised", [False, True])
def test_a_graph_that_wants_more_memory_than_it_may_have_is_stopped(optimised: bool, tmp_path: Path) -> None:
    with pytest.raises(RunawayGraphError, match=r"x\.onnx: onnxruntime wants more than 1,024 MB of memory \(.*lloc"):
        outputs_apart(vast(tmp_path / "x.onnx"), [torch.ones(1, 4)], BOUNDS, optimised=optimised)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not bound the processor time of a process")
def test_a_graph_that_computes_on_and_on_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(RunawayGraphError, match=r"x\.onnx: onnxruntime computes far longer than .*, more than 2 s"):
        outputs_apart(endless(tmp_path / "x.onnx"), [torch.ones(1, 4)], Bounds(GIB, 1 << 20, 2))


def test_what_a_run_may_take_grows_with_what_the_model_does() -> None:
    model, batch = zoo.build("lenet"), torch.zeros(2, 1, 32, 32).double()
    products = zoo.plan("lenet").inference.multiply_adds
    work = work_of(model, batch)
    assert work.products == products
    assert products / 100 < work.activations < products
    one, two = (bounds_for(work, 1000, [batch] * n, optimised=False) for n in (1, 2))
    assert two.output - one.output == one.output - (1 << 20) == 2 * 8 * work.activations
    assert two.memory == one.memory  # one batch after the other
    more = bounds_for(Work(work.activations, 10**9), 1000, [batch], optimised=True)
    assert more.seconds == 20 + 20
    assert more.memory == one.memory + 4 * 1000


def test_what_lies_in_the_folder_that_one_is_in_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise SystemError('another one')")
    path = written([node("Neg", ["x"], ["y"])], tmp_path / "x.onnx")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")  # as in an interactive session
    found = outputs_apart(path, [torch.ones(1, 4)], BOUNDS)
    assert torch.equal(found[0][0], -torch.ones(1, 4))


def test_what_is_no_text_in_the_search_path_is_passed_over_as_python_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written([node("Neg", ["x"], ["y"])], tmp_path / "x.onnx")
    monkeypatch.setattr(sys, "path", [*sys.path, tmp_path])
    assert outputs_apart(path, [torch.ones(1, 4)], BOUNDS)


@pytest.mark.parametrize("executable", [None, ""])
def test_without_an_interpreter_it_is_said_that_there_is_none(
    executable: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(RunError, match="no Python interpreter here to start one"):
        outputs_apart(tmp_path / "x.onnx", [torch.ones(1, 4)], BOUNDS)


def test_a_path_that_is_no_text_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"whose path is not UTF-8: .*\\udcff\.onnx"):
        outputs_apart(tmp_path / "\udcff.onnx", [torch.ones(1, 4)], BOUNDS)


def test_outputs_beyond_what_was_expected_are_not_taken(tmp_path: Path) -> None:
    path = written([node("Add", ["x", "c"], ["y"])], tmp_path / "x.onnx", c=np.ones((1 << 16, 1), "float32"))
    with pytest.raises(RunawayGraphError, match="gives far more than the model does"):
        outputs_apart(path, [torch.ones(1, 4)], Bounds(GIB, 1 << 16, 20))


def test_a_file_that_is_none_is_told_as_that(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"\x08\x0anothing")
    with pytest.raises(FileFormatError, match="not a whole ONNX file"):
        outputs_apart(tmp_path / "x.onnx", [torch.ones(1, 4)], BOUNDS)


@pytest.mark.parametrize(
    ("program", "error", "told"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", RunawayGraphError, r"crashed on it \(.*SIGSEGV"),
        ("raise SystemError('of the interpreter')", RunError, "SystemError: of the interpreter"),
    ],
)
def test_a_process_that_dies_is_an_error_that_says_how(
    program: str, error: type[Exception], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written([node("Neg", ["x"], ["y"])], tmp_path / "x.onnx")
    (tmp_path / "dying.py").write_text(program)
    monkeypatch.setattr(onnxrun, "__file__", str(tmp_path / "dying.py"))
    with pytest.raises(error, match=told):
        outputs_apart(tmp_path / "x.onnx", [torch.ones(1, 4)], BOUNDS)


def test_a_process_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written([node("Neg", ["x"], ["y"])], tmp_path / "x.onnx")
    (tmp_path / "endless.py").write_text(
        f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    )
    monkeypatch.setattr(onnxrun, "__file__", str(tmp_path / "endless.py"))
    monkeypatch.setattr(apart, "MAX_SECONDS", 3)
    with pytest.raises(RunawayGraphError, match=r"x\.onnx: onnxruntime takes longer for it than 3 s"):
        outputs_apart(tmp_path / "x.onnx", [torch.ones(1, 4)], Bounds(GIB, 1 << 20, 2))
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
