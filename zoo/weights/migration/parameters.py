"""What names and shapes tell of the parameters of our own components: how many classes, blocks, channels."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from zoo.spec import ParsedSpec

Shapes = Mapping[str, tuple[int, ...]]
"""The shape of each tensor by its name."""


def read_off(parsed: ParsedSpec, shapes: Shapes) -> dict[str, dict[str, Any]] | None:
    """Return what names and shapes say of a model otherwise than its spec: changes to the spec, by part.

    Args:
        parsed: the checked spec of a model that is composed as the one whose tensors these are.
        shapes: of all tensors, by our names.

    Returns:
        The changes; None if a part cannot be of that component.
    """
    changes: dict[str, dict[str, Any]] = {}
    for part in parsed.parts:
        read = _READERS.get(f"{part.kind} {part.type}")
        own = {name.removeprefix(f"{part.kind}."): s for name, s in shapes.items() if name.startswith(f"{part.kind}.")}
        try:
            found = {} if read is None else read(own)
        except (LookupError, ValueError, ZeroDivisionError):  # not the names or shapes of such a part
            return None
        stated = part.dump()
        if other := {key: value for key, value in found.items() if key in stated and stated[key] != value}:
            changes[part.kind] = other
    kernels = (s for name, s in shapes.items() if len(s) > 2 and name.startswith("backbone.") and is_kernel(name))
    first = next(kernels, None)
    if first is not None and first[1] != parsed.dump()["input"]["channels"]:
        changes["input"] = {"channels": first[1]}
    return changes


def is_kernel(name: str) -> bool:
    """Tell whether a tensor with three axes or more is that of a convolution, not a token or an embedding of places."""
    return name.rpartition(".")[2] == "weight"


def classes_of(spec: Mapping[str, Any], shapes: Shapes, expected: Shapes) -> dict[str, dict[str, Any]]:
    """Return the changes that give the heads of a spec the numbers of classes that shapes tell, whatever the heads are.

    Args:
        spec: the spec.
        shapes: of all tensors, by our names.
        expected: those of the model of the spec.
    """
    changes: dict[str, dict[str, Any]] = {}
    heads = {"head.": spec.get("head"), **{f"aux.{n}.": each["head"] for n, each in (spec.get("aux") or {}).items()}}
    for prefix, head in heads.items():
        stated = head.get("num_classes") if isinstance(head, Mapping) else None
        own = [n for n, s in expected.items() if n.startswith(prefix) and s and shapes.get(n)]
        differing = [n for n in own if shapes[n][:1] != expected[n][:1]]
        if not isinstance(stated, int) or not differing:
            continue
        times, rest = divmod(shapes[differing[0]][0] * stated, expected[differing[0]][0])
        if rest or not times:
            continue
        if prefix == "head.":
            changes["head"] = {"num_classes": times}
        else:
            changes.setdefault("aux", {})[prefix.split(".")[1]] = {"head": {"num_classes": times}}
    return changes


def _resnet(shapes: Shapes) -> dict[str, Any]:
    blocks: dict[int, set[int]] = {}
    for name in shapes:
        if found := re.match(r"layer(\d+)\.(\d+)\.", name):
            blocks.setdefault(int(found[1]), set()).add(int(found[2]))
    width, kernel = shapes["conv1.weight"][0], shapes["conv1.weight"][-1]
    found_of: dict[str, Any] = {
        "layers": [len(blocks[stage]) for stage in sorted(blocks)],
        "width": width,
        "block": "bottleneck" if "layer1.0.conv3.weight" in shapes else "basic",
        "dims": len(shapes["conv1.weight"]) - 2,
    }
    if len(shapes["conv1.weight"]) == 4:
        found_of["stem"] = "7x7" if kernel == 7 else "3x3"
    if found_of["block"] == "bottleneck":
        inner, per_group = shapes["layer1.0.conv2.weight"][:2]
        groups = inner // per_group
        found_of |= {"groups": groups, "width_per_group": inner * 64 // (groups * width)}
    return found_of


def _vgg(shapes: Shapes) -> dict[str, Any]:
    convolutions = {int(n.split(".")[1]): s for n, s in shapes.items() if n.endswith(".weight") and len(s) > 2}
    step = 3 if any(name.endswith("running_mean") for name in shapes) else 2
    if not convolutions:
        raise LookupError("weight")
    layers, channels, last = [], [], None
    for index in sorted(convolutions):
        if last is None or index - last > step:
            layers.append(0)
            channels.append(convolutions[index][0])
        layers[-1] += 1
        last = index
    return {"layers": layers, "channels": channels, "norm": "batch" if step == 3 else "none"}


def _lenet(shapes: Shapes) -> dict[str, Any]:
    kernels = [shape for name, shape in shapes.items() if name.endswith("conv.weight")]
    return {"channels": [kernel[0] for kernel in kernels], "kernel_size": kernels[0][-1]}


def _hidden(shapes: Shapes) -> dict[str, Any]:
    hidden = [shape[0] for name, shape in shapes.items() if name.endswith("linear.weight")]
    if not hidden:
        raise LookupError("linear.weight")
    return {"hidden": hidden}


_READERS: Mapping[str, Callable[[Shapes], dict[str, Any]]] = {
    "backbone resnet_lite": _resnet,
    "backbone vgg_lite": _vgg,
    "backbone lenet": _lenet,
    "backbone mlp": _hidden,
    "bottleneck mlp": _hidden,
    "bottleneck linear": lambda shapes: {"out_features": shapes["linear.weight"][0]},
    "head linear": lambda shapes: {"num_classes": shapes["fc.weight"][0]},
}
