"""What an ONNX file says that it takes and gives: names and shapes, without running or unpacking anything.

Format: https://github.com/onnx/onnx/blob/main/onnx/onnx-ml.proto
"""

from __future__ import annotations

from pathlib import Path

from zoo.errors import FileFormatError
from zoo.weights.onnx.messages import read_tensor
from zoo.weights.onnx.wire import BYTES, VARINT, Field, Kinds, Wire
from zoo.weights.sniff import likeness

Shape = tuple[int | None, ...]
"""The shape of an input or output; None is an axis of any length."""

_NUMBER, _MESSAGE = (VARINT,), (BYTES,)
_MODEL: Kinds = {7: _MESSAGE}
_GRAPH: Kinds = {5: _MESSAGE, 11: _MESSAGE}
_VALUE: Kinds = {1: _MESSAGE, 2: _MESSAGE}
_HOLDER: Kinds = {1: _MESSAGE}
_TENSOR_TYPE: Kinds = {1: _NUMBER, 2: _MESSAGE}
_DIM: Kinds = {1: _NUMBER, 2: _MESSAGE}
_MAX_AXES = 64


def read_input_shapes(path: Path) -> dict[str, Shape]:
    """Return the shapes of what an ONNX file takes, by name; initializers are none of it.

    Raises:
        FileFormatError: it is damaged, or has more of something than any model.
    """
    inputs: dict[str, Shape] = {}
    held: set[str] = set()
    with path.open("rb") as file:
        wire = Wire(file)
        try:
            for graph in wire.fields(0, wire.size, _MODEL):
                for each in wire.fields(graph.begin, graph.end, _GRAPH) if graph.number == 7 else ():
                    if each.number == 5:
                        held.add(read_tensor(wire, each).name)
                    elif each.number == 11:
                        name, inputs[name] = value_info(wire, each)
        except ValueError as error:
            raise FileFormatError(path, f"not a whole ONNX file ({error}){likeness(path)}") from None
    return {name: shape for name, shape in inputs.items() if name not in held}


def value_info(wire: Wire, message: Field) -> tuple[str, Shape]:
    """Read a ValueInfoProto: the name of a value, and its shape.

    Args:
        wire: the file.
        message: where in it the message is.

    Raises:
        ValueError: it is damaged, or has more axes than any tensor.
    """
    name, dims = "", []
    for each in wire.fields(message.begin, message.end, _VALUE):
        if each.number == 1:
            name = wire.text(each)
        elif each.number == 2:
            for holder in wire.fields(each.begin, each.end, _HOLDER):
                if holder.number == 1:
                    dims = _dims(wire, holder)
    return name, tuple(dims)


def _dims(wire: Wire, message: Field) -> list[int | None]:
    dims: list[int | None] = []
    for part in wire.fields(message.begin, message.end, _TENSOR_TYPE):
        if part.number != 2:
            continue
        for dim in wire.fields(part.begin, part.end, _HOLDER):
            if dim.number == 1:
                length = [f.signed for f in wire.fields(dim.begin, dim.end, _DIM) if f.number == 1]
                dims.append(length[0] if length and length[0] > 0 else None)
            if len(dims) > _MAX_AXES:
                raise ValueError(f"an input has more than {_MAX_AXES} axes")
    return dims
