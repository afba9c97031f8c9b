"""A program that runs an ONNX file, in a process of its own and within bounds of memory and time.

By onnxruntime, or by the reference implementation of onnx, which has every operator in every precision.

It takes on stdin one line of JSON, the bytes of the graph and those of the inputs, and gives on stdout one line of JSON
and the bytes of the outputs. It ends when stdin does, or whoever started it. It imports nothing of zoo, nor torch.
"""

from __future__ import annotations

import json
import math
import os
import select
import sys
import threading
from typing import Any, BinaryIO


def main() -> None:
    """Answer the request on stdin."""
    parent = os.getppid()
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    request = json.loads(sys.stdin.buffer.readline())
    request["graph"] = sys.stdin.buffer.read(request["graph"])
    inputs = [sys.stdin.buffer.read(_WIDTHS[name] * math.prod(shape)) for name, shape in request["batches"]]
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
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
        _tell(answer, {"outputs": [[each.dtype.name, each.shape] for each in outputs]}, outputs)
    os._exit(0)  # nothing is left to be done, and taking down onnxruntime takes time


def _end_with(parent: int) -> None:
    """End this process as soon as stdin ends or, for others may hold the pipe open, whoever started it has ended.

    onnxruntime lets other threads run while it opens a file and while it runs it.
    """
    if os.name == "posix":
        while not select.select([0], [], [], 1)[0] and os.getppid() == parent:
            pass
    else:
        os.read(0, 1)
    os._exit(1)


_WIDTHS = {"float64": 8, "float32": 4, "float16": 2}
_THREADS = 8
"""Each takes a stack, which counts as memory; what is proven is small."""


def _computed(request: dict[str, Any], inputs: list[bytes]) -> list[Any]:
    import numpy as np

    kinds = zip(request["batches"], inputs, strict=True)
    batches = [np.frombuffer(held, name).reshape(shape) for (name, shape), held in kinds]
    made = (_by_reference if request["reference"] else _by_onnxruntime)(request, batches)
    outputs = [np.asarray(each, order="C") for each in made]
    outputs = [each.astype("float32") if each.dtype.name == "bfloat16" else each for each in outputs]  # numpy has none
    if any(each.dtype.kind not in "biuf" for each in outputs):
        raise ValueError("it gives what is no numbers")
    return outputs


def _by_reference(request: dict[str, Any], batches: list[Any]) -> list[Any]:
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = onnx.load(request["path"])
    held = {each.name for each in model.graph.initializer}
    port = _only([each for each in model.graph.input if each.name not in held])
    dtype = onnx.helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type)
    session = ReferenceEvaluator(model)
    names = request["names"] or None  # values within the graph are as good as its outputs
    return [each for batch in batches for each in session.run(names, {port.name: batch.astype(dtype)})]


def _by_onnxruntime(request: dict[str, Any], batches: list[Any]) -> list[Any]:
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if not request["optimised"]:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # time that is waited away would count
    options.enable_cpu_mem_arena = False
    options.intra_op_num_threads = min(_THREADS, os.cpu_count() or 1)
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", request["folder"])
    session = onnxruntime.InferenceSession(request["graph"], options, providers=["CPUExecutionProvider"])
    port = _only(session.get_inputs())
    dtype = {"tensor(float16)": np.float16, "tensor(double)": np.float64}.get(port.type, np.float32)
    names = request["names"] or None
    return [each for batch in batches for each in session.run(names, {port.name: batch.astype(dtype)})]


def _only(ports: list[Any]) -> Any:
    if len(ports) != 1:
        raise ValueError(f"it takes {len(ports)} inputs; expected one")
    return ports[0]


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
    answer.write(json.dumps(told).encode() + b"\n")
    for each in arrays:
        answer.write(each)
    answer.flush()


if __name__ == "__main__":
    main()
