"""Translations of operators to ONNX where those of torch's exporter are wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from onnxscript import opset18 as op


def _conv3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Sequence[int] = (1, 1, 1),
    padding: Sequence[int] = (0, 0, 0),
    dilation: Sequence[int] = (1, 1, 1),
    groups: int = 1,
) -> Any:
    """Translate a convolution over three axes.

    Where there is no bias, onnxscript 0.7 makes one of shape (C, 2), which no runtime takes.
    """
    return op.Conv(
        input,
        weight,
        bias,
        strides=list(stride),
        pads=[*padding, *padding],
        dilations=list(dilation),
        group=groups,
    )


TRANSLATIONS: Mapping[Callable[..., Any], Callable[..., Any]] = {torch.ops.aten.conv3d.default: _conv3d}
"""What builds the graph of an operator, by operator."""
