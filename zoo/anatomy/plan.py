"""plan: shapes, receptive fields, parameters, multiply-adds and memory of a model, before any weight exists."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import nn

from registry import nearest
from zoo import kinds
from zoo.anatomy.record import Inference, Node, Plan, Training, output
from zoo.anatomy.tracing import FailedRun, Run, Visit, run
from zoo.builder import compose
from zoo.changing import AS_IT_IS, Change, stated_changes
from zoo.errors import ShapeError, UnknownNameError
from zoo.features import Feature
from zoo.held import unsaved
from zoo.model import Model
from zoo.spec import Source, merge, opened

_DTYPES = ("float16", "bfloat16", "float32", "float64")


def plan(
    spec: Source | Model,
    *,
    size: Sequence[int] | None = None,
    batch: int = 1,
    dtype: str = "float32",
    num_classes: int | None = None,
    in_channels: int | None = None,
    backbone: Change = AS_IT_IS,
    neck: Change = AS_IT_IS,
    bottleneck: Change = AS_IT_IS,
    head: Change = AS_IT_IS,
    aux: Mapping[str, Any] | None = AS_IT_IS,
) -> Plan:
    """Tell what a model is like inside, and what it takes to run and to train it; no weight is allocated.

    The model is built and run on the meta device, once for inference and once for training.

    Args:
        spec: the name of a model, a spec dict, a spec file, or a model that was built.
        size: the spatial size of the input, in place of that of the spec.
        batch: how many samples; multiply-adds and activations are of all of them.
        dtype: of weights and activations: ``"float16"``, ``"bfloat16"``, ``"float32"`` or ``"float64"``.
        num_classes: short for ``head={"num_classes": …}``, and the same for auxiliary heads that state theirs.
        in_channels: how many channels the input has, in place of what the spec says.
        backbone: changes to this part, as :func:`zoo.build` takes them; of a built model nothing can be changed.
        neck: the same.
        bottleneck: the same.
        head: the same.
        aux: changes to auxiliary heads by name; None removes all of them.

    Raises:
        UnknownNameError: there is no such model, or no such dtype.
        SpecError: something in the spec is wrong.
        ShapeError: two parts do not fit; the model does not take the input; or no size is known, or not one for each
            axis.
        SizeBudgetError: the model has more tensors than may be.

    >>> found = plan("resnet50")
    >>> found.parameters, found.inference.multiply_adds
    (25557032, 4089184256)
    >>> [(f.name, f.shape, f.stride, str(f.field[0])) for f in found.parts["backbone"].outputs][-1]
    ('stage4', (1, 2048, 7, 7), (32, 32), '427')
    """
    if dtype not in _DTYPES:
        raise UnknownNameError("dtype", dtype, _DTYPES, nearest(dtype, _DTYPES))
    if batch < 1:
        raise ShapeError(f"batch={batch}", "at least one sample", "plan")
    if size is not None and (isinstance(size, str) or not isinstance(size, Iterable)):
        raise ShapeError(f"size={size!r}", "one number for each axis, such as size=(224, 224)", "plan")
    stated = {"backbone": backbone, "neck": neck, "bottleneck": bottleneck, "head": head, "aux": aux}
    if isinstance(spec, Model):
        short = {"in_channels": in_channels, "num_classes": num_classes}
        _refuse_changes(
            [kind for kind, change in stated.items() if change is not AS_IT_IS]
            + [name for name, number in short.items() if number is not None]
        )
        model = _ghost(spec)
    else:
        stated["input"] = AS_IT_IS if size is None else {"size": list(size)}
        with opened(spec) as plain:
            changes = stated_changes(plain, stated, num_classes=num_classes, in_channels=in_channels)
            model = compose(reduce(merge, changes, plain), "meta")
    model = model.to(getattr(torch, dtype))
    return _measured(model, (batch, model.spec["input"]["channels"], *_size(model, size)), dtype)


def _size(model: Model, size: Sequence[int] | None) -> tuple[int, ...]:
    found = model.spec["input"]["size"] if size is None else size
    if found is None:
        dims = getattr(model.backbone, "dims", 2)
        example = {1: "size=(1000,)", 3: "size=(16, 112, 112)"}.get(dims, "size=(224, 224)")
        raise ShapeError("a spec without the size of its input", f"one, such as {example}", "plan")
    if min(found, default=1) < 1:
        raise ShapeError(f"an input of size {list(found)}", "at least 1 along each axis", "plan")
    return tuple(found)


def _refuse_changes(named: Sequence[str]) -> None:
    if named:
        raise ShapeError(
            f"changes ({', '.join(named)}) to a model that was built", "its spec: zoo.plan(model.spec, …)", "plan"
        )


def _ghost(model: Model) -> Model:
    """Return a twin without weights on the meta device."""
    tensors = [*model.parameters(), *model.buffers(), *unsaved(model)]
    memo: dict[int, Any] = {}
    for tensor in tensors:
        twin = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = nn.Parameter(twin, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else twin
    return copy.deepcopy(model, memo)


def _measured(model: Model, shape: tuple[int, ...], dtype: str) -> Plan:
    inference = _run(model.eval(), shape, dtype, training=False)
    batch = shape[0]
    try:
        training = _run(model.train(), shape, dtype, training=True)
    except ShapeError as error:
        if batch > 1 or not isinstance(error.__cause__, ValueError):
            raise
        batch = 2  # a batch norm of vectors, or of maps of one position, has no variance in one sample
        training = _run(model, (batch, *shape[1:]), dtype, training=True)
    parameters, buffers = list(model.parameters()), list(model.buffers())
    tree = _Tree(model, inference, training, shape).root
    return Plan(
        spec=model.spec,
        input=shape,
        dtype=dtype,
        parameters=tree.parameters,
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        buffers=sum(b.numel() for b in buffers),
        weight_bytes=sum(t.numel() * t.element_size() for t in (*parameters, *buffers)),
        inference=Inference(inference.multiply_adds, inference.peak),
        training=Training(
            batch,
            training.multiply_adds + training.backward,
            training.kept + training.input_kept,
            sum(p.numel() * p.element_size() for p in parameters if p.requires_grad),
        ),
        tree=tree,
    )


def _run(model: Model, shape: tuple[int, ...], dtype: str, *, training: bool) -> Run:
    try:
        return run(model, torch.empty(shape, dtype=getattr(torch, dtype), device="meta"), training=training)
    except FailedRun as failure:
        part = failure.path.partition(".")[0]
        where = f"spec.{part} ({model.spec[part]['type']})" if model.spec.get(part) else "plan"
        cause = failure.__cause__
        told = f"{type(cause).__name__}: {cause}".partition("\n")[0]
        found = f"an input of shape {shape}"
        raise ShapeError(found, f"one with which {failure.path or 'the model'} runs ({told})", where) from cause


class _Tree:
    """Puts together what is known of each module."""

    def __init__(self, model: Model, inference: Run, training: Run, shape: tuple[int, ...]) -> None:
        self._model = model
        self._inference = inference
        self._training = training
        self._size = shape[2:]
        self._below: dict[str, list[tuple[str, nn.Module]]] = {}
        for path, module in model.named_modules():
            if path:
                self._below.setdefault(path.rpartition(".")[0], []).append((path, module))
        self.root, _ = self._node("", model)

    def _node(self, path: str, module: nn.Module) -> tuple[Node, dict[int, int]]:
        """Return the node of a module, and how many numbers each parameter in it is."""
        found = [self._node(*below) for below in self._below.get(path, ())]
        children = tuple(child for child, _ in found)
        sizes = {id(p): p.numel() for p in module._parameters.values() if p is not None}
        for _, theirs in found:
            sizes.update(theirs)
        inferred, trained = (runs.visits.get(path, Visit()) for runs in (self._inference, self._training))
        shown = inferred if inferred.calls else trained
        names = [f.name for f in self._features(path, module)]
        outputs = shown.outputs
        if len(names) != len(outputs):
            names = [tensor.name for tensor in outputs]
        node = Node(
            path=path,
            type=self._type(path, module),
            outputs=tuple(output(name, t.shape, t.reach, self._size) for name, t in zip(names, outputs, strict=True)),
            calls=shown.calls,
            training_only=bool(trained.calls) and not inferred.calls,
            parameters=sum(sizes.values()),
            multiply_adds=inferred.multiply_adds + sum(child.multiply_adds for child in children),
            backward_multiply_adds=trained.backward + sum(child.backward_multiply_adds for child in children),
            kept_bytes=trained.kept + sum(child.kept_bytes for child in children),
            children=children,
        )
        return node, sizes

    def _features(self, path: str, module: nn.Module) -> tuple[Feature, ...]:
        return (kinds.output_features(module) or ()) if path in kinds.PARTS and path != "head" else ()

    def _type(self, path: str, module: nn.Module) -> str:
        part = self._model.spec.get(path) if path in kinds.PARTS else None
        return type(module).__name__ if part is None else str(part["type"])
