"""A program that runs an ONNX file by onnxruntime, in a process of its own and within bounds of memory and time.

It takes on stdin one line of JSON and the inputs as ``.npy``, and gives on stdout one line of JSON and the outputs as
``.npy``. It imports nothing of zoo, nor torch.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO


def main() -> None:
    """Answer the request on stdin."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    request = json.loads(sys.stdin.buffer.readline())
    inputs = BytesIO(sys.stdin.buffer.read())  # numpy cannot read a pipe
    sys.path[:] = request["sys_path"]
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy only reads and writes here; each thread takes memory
    _bound(request["memory"], request["seconds"])
    try:
        outputs = _computed(request, inputs)
    except Exception as error:  # onnxruntime has a class for each of its error codes, with no common base
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        if isinstance(error, MemoryError) or "alloc" in reason:
            _tell(answer, {"runaway": f"wants more than {request['memory'] >> 20:,} MB of memory ({reason})"}, [])
        else:
            _tell(answer, {"error": reason}, [])
    else:
        large = sum(each.nbytes for each in outputs) > request["output"]
        told = {"runaway": "gives far more than the model does"} if large else {"outputs": len(outputs)}
        _tell(answer, told, [] if large else outputs)


_THREADS = 8
"""Each takes a stack, which counts as memory; what is proven is small."""


def _computed(request: dict[str, Any], stream: BinaryIO) -> list[Any]:
    import numpy as np
    import onnxruntime

    batches = [np.lib.format.read_array(stream, allow_pickle=False) for _ in range(request["batches"])]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if not request["optimised"]:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # time that is waited away would count
    options.enable_cpu_mem_arena = False
    options.intra_op_num_threads = min(_THREADS, os.cpu_count() or 1)
    graph: str | bytes = request["path"]
    if request["added"]:
        path = Path(request["path"])
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
        graph = _with_outputs(path, request["added"])
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    port, *others = session.get_inputs()
    if others:
        raise ValueError(f"it takes {len(others) + 1} inputs; expected one")
    dtype = {"tensor(float16)": np.float16, "tensor(double)": np.float64}.get(port.type, np.float32)
    return [
        each for batch in batches for each in session.run(request["names"] or None, {port.name: batch.astype(dtype)})
    ]


def _with_outputs(path: Path, names: list[str]) -> bytes:
    """Return the bytes of a file with values of its graph as further outputs.

    A parser merges two messages in one field: what is appended is a graph that has nothing but these outputs.
    """
    outputs = b"".join(_field(12, _field(1, name.encode())) for name in names)
    whole = BytesIO()
    with path.open("rb") as file:
        shutil.copyfileobj(file, whole, 1 << 20)
    whole.write(_field(7, outputs))
    return whole.getvalue()  # the very bytes, not a copy of them


def _field(number: int, content: bytes) -> bytes:
    """Return a field of a protobuf message: its number, its length, its bytes."""
    length, left = b"", len(content)
    while left > 127:
        length, left = length + bytes([left & 127 | 128]), left >> 7
    return bytes([number << 3 | 2]) + length + bytes([left]) + content


def _bound(memory: int, seconds: int) -> None:
    """Bound the memory and the time of this process, where the system has bounds."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for kind, wanted in ((resource.RLIMIT_DATA, memory), (resource.RLIMIT_CPU, seconds)):
        most = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _tell(answer: BinaryIO, told: dict[str, Any], arrays: list[Any]) -> None:
    import numpy as np

    answer.write(json.dumps(told).encode() + b"\n")
    for each in arrays:
        held = BytesIO()
        np.lib.format.write_array(held, np.asarray(each), allow_pickle=False)
        answer.write(held.getbuffer())
    answer.close()


if __name__ == "__main__":
    main()
