"""A process that runs a stranger's file ends with the one that started it, even if that one was killed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from runaway import endless

from zoo.weights.verification import onnxrun

CHILD = """
import runpy, socket
import onnxruntime

line = socket.create_connection(("127.0.0.1", {port}))  # closed by the system when this process ends


class Session(onnxruntime.InferenceSession):
    def __init__(self, *given, **named):
        line.sendall(b"x")
        super().__init__(*given, **named)


onnxruntime.InferenceSession = Session
runpy.run_path({program!r}, run_name="__main__")
"""

PARENT = """
import os, sys, threading
from pathlib import Path
import torch
from zoo.weights.verification import onnxrun
from zoo.weights.verification.apart import outputs_apart
from zoo.weights.verification.bounds import Bounds

onnxrun.__file__ = {child!r}
given = Path({graph!r}), [torch.ones(1, 4)], Bounds(1 << 30, 1 << 20, 600)
thread = threading.Thread(target=outputs_apart, args=given, kwargs={{"optimised": {optimised}}})
thread.start()
sys.stdin.readline()
if {fork} and os.fork() == 0:  # as the workers of a data loader are: it holds all pipes of its parent open
    sys.stdin.read()
    os._exit(0)
print("ready", flush=True)
thread.join()
"""


@contextmanager
def running(folder: Path, *, optimised: bool, fork: bool) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """Give a process that waits for an endless graph, and a line that is open as long as the one that runs it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        child = folder / "child.py"
        child.write_text(CHILD.format(port=server.getsockname()[1], program=onnxrun.__file__))
        code = PARENT.format(
            child=str(child),
            graph=str(endless(folder / "x.onnx", side=1 << 11, sines=30_000)),
            optimised=optimised,
            fork=fork,
        )
        command = [sys.executable, "-c", code]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as parent:
            try:
                line, _ = server.accept()
                with line:
                    line.settimeout(30)  # it would go on for longer than that by itself
                    assert line.recv(1) == b"x"
                    parent.stdin.write(b"\n")
                    assert parent.stdout.readline() == b"ready\n"
                    yield parent, line
            finally:
                parent.kill()


def ended(line: socket.socket) -> bool:
    try:
        return line.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("optimised", [False, True], ids=["while it is run", "while its constants are folded"])
def test_a_process_ends_when_the_one_that_started_it_is_killed(optimised: bool, tmp_path: Path) -> None:
    with running(tmp_path, optimised=optimised, fork=False) as (parent, line):
        assert parent.poll() is None
        parent.kill()
        assert ended(line)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_it_ends_though_another_process_holds_its_input_open(tmp_path: Path) -> None:
    with running(tmp_path, optimised=False, fork=True) as (parent, line):
        parent.kill()
        parent.wait()
        assert ended(line)
