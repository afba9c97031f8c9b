"""Subject: a component of any kind in a small model where it fits, for the checks to look at."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from zoo import kinds
from zoo.builder import compose
from zoo.errors import RegistryError, ShapeError
from zoo.model import Model
from zoo.spec import Spec
from zoo.testing.isolation import undisturbed

SIZES: tuple[tuple[tuple[int, ...], ...], ...] = (
    ((40, 36), (33, 47), (64, 64)),
    ((224, 224), (225, 239)),
    ((40,), (33,), (64,)),
    ((20, 24, 22), (17, 33, 19), (24, 24, 24)),
)
"""The input sizes to try, small images first; the other rows are for components that take none of these: large images,
signals, volumes."""

_CHANNELS = (2, 3, 1)  # two, which nobody would assume
_BATCH = 3  # BatchNorm of two vectors gives ±1 and hardly a gradient


@dataclass(frozen=True)
class Subject:
    """A component in a small model where it fits.

    Attributes:
        kind: ``"backbone"``, ``"neck"``, ``"bottleneck"`` or ``"head"``.
        name: its name in the registry.
        spec: a small model with it, of a known input size.
        sizes: input sizes to try it with, that of ``spec`` first.
    """

    kind: str
    name: str
    spec: Mapping[str, Any]
    sizes: tuple[tuple[int, ...], ...]

    def build(self, *, seed: int = 0, device: str = "cpu", sized: tuple[int, ...] | bool | None = True) -> Model:
        """Build the model.

        Args:
            seed: of the weights.
            device: where they go.
            sized: the input size that the spec states; True for that of ``spec``, None for none.
        """
        torch.manual_seed(seed)
        return compose(self.spec if sized is True else resized(self.spec, sized or None), device)

    def input(self, size: tuple[int, ...] | None = None, batch: int = _BATCH) -> torch.Tensor:
        """Return the same random input every time, of the size of ``spec`` unless told."""
        shape = (batch, self.spec["input"]["channels"], *(size or self.spec["input"]["size"]))
        return torch.randn(shape, generator=torch.Generator().manual_seed(1))

    def part(self, model: Model) -> nn.Module:
        """Return the component itself out of a model that was built."""
        return model.get_submodule(self.kind)


def resized(spec: Spec, size: Sequence[int] | None) -> dict[str, Any]:
    """Return a spec with another input size, or with none."""
    return {**spec, "input": {**spec["input"], "size": None if size is None else list(size)}}


def place(
    kind: str,
    name: str,
    parameters: Mapping[str, Any],
    around: Spec | None = None,
    sizes: Sequence[Sequence[int]] | None = None,
    dims: int | None = None,
) -> Subject:
    """Find a small model in which a component fits.

    Maps are tried first; where they are refused with a ShapeError a ``gap`` neck turns them into a vector.

    Args:
        kind: what it is.
        name: its name in the registry.
        parameters: what the spec states of it; a ``num_classes`` that it needs is filled in.
        around: the other parts, where none of ours would do.
        sizes: the input sizes to try, where none of ours would do.
        dims: spatial axes of the input: 1, 2 or 3; None for the first of 2, 1 and 3 with which it fits.

    Raises:
        ShapeError: it fits into none; the first refusal is told.
        ZooError: it cannot be built at all.
    """
    part = {"type": name, **_needed(kind, name), **parameters}
    refusal: ShapeError | None = None
    for spec, others in _candidates(kind, around, sizes, dims):
        candidate = {**spec, kind: part}
        refused = _refusal(candidate)
        if refused is None:
            first = tuple(candidate["input"]["size"])
            return Subject(kind, name, candidate, (first, *(s for s in others if s != first)))
        refusal = refusal or refused
    of = "" if dims is None else f" of length {dims}"
    raise refusal or ShapeError(f"no input size{of} at all", "at least one in 'sizes'", f"{kind} {name}")


def subject_text(kind: str, name: str, parameters: Mapping[str, Any]) -> str:
    """Return what is checked, for reports.

    >>> subject_text("backbone", "tiny", {"width": 4})
    'backbone tiny {"width": 4}'
    """
    return f"{kind} {name} {json.dumps(dict(parameters), default=repr) if parameters else ''}".rstrip()


def _candidates(
    kind: str, around: Spec | None, sizes: Sequence[Sequence[int]] | None, dims: int | None
) -> Iterator[tuple[dict[str, Any], tuple[tuple[int, ...], ...]]]:
    rows = SIZES if sizes is None else (tuple(tuple(s) for s in sizes),)
    if dims is not None:
        rows = tuple(fitting for row in rows if (fitting := tuple(size for size in row if len(size) == dims)))
    if around is not None:
        source = dict(around.get("input") or {})
        stated = [tuple(source["size"])] if source.get("size") else [size for row in rows for size in row]
        for size in stated:
            yield {**around, "input": {"channels": 3, **source, "size": list(size)}}, rows[0] if rows else ()
        return
    for row in rows:
        for size in row:
            for rest in _around(kind, len(size)):
                for channels in _CHANNELS if kind == "backbone" else _CHANNELS[:1]:
                    yield {"input": {"channels": channels, "size": list(size)}, **rest}, row


def _around(kind: str, dims: int) -> tuple[dict[str, Any], ...]:
    """Return the parts to put around a component, for inputs of so many axes: those to try first come first."""
    maps = {"type": "vgg_lite", "layers": [1, 1, 1], "channels": [8, 12, 16], "dims": dims}
    match kind:
        case "backbone":
            return ({},)
        case "neck":
            return ({"backbone": maps}, {"backbone": {"type": "mlp", "hidden": [16], "dims": dims}})
        case "head":
            same_width = {"type": "conv1x1", "out_channels": 32}  # what a detector shares its convolutions over
            vectors: dict[str, Any] = {"backbone": maps, "neck": {"type": "gap"}}
            return ({"backbone": maps}, vectors, {"backbone": maps, "bottleneck": same_width})
        case _:
            return ({"backbone": maps}, {"backbone": maps, "neck": {"type": "gap"}})


def _needed(kind: str, name: str) -> dict[str, Any]:
    with suppress(RegistryError):  # composing tells it with the place in the spec
        for parameter in kinds.signature_of(kinds.COMPONENTS[kind].get(name)).parameters:
            if parameter.name == "num_classes" and parameter.required:
                return {"num_classes": 3}
    return {}


def _refusal(spec: Spec) -> ShapeError | None:
    """Return the error with which a model refuses its own input, at building or at running, on the meta device."""
    with undisturbed():
        try:
            model = compose(spec, "meta").eval()
        except ShapeError as error:
            return error
        try:
            with torch.no_grad():
                model(torch.empty(_BATCH, spec["input"]["channels"], *spec["input"]["size"], device="meta"))
        except ShapeError as error:
            return error
        except Exception:  # noqa: BLE001, RUF100 - for the checks to find and to name
            return None
    return None
