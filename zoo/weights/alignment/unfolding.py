"""unfolded: the tensors of the model from those of the file, once it is known which layer is which.

A convolution into which a BatchNorm was folded is exactly that convolution followed by a BatchNorm that does nothing
but add: weight 1, bias the folded one, mean 0, and a variance for which 1/√(variance + eps) is 1 to the last bit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from zoo.errors import AlignmentError
from zoo.weights.alignment.layers import Held, Layer, Layout
from zoo.weights.alignment.matching import Pairs
from zoo.weights.alignment.tables import Reading, agrees, completed, indices_of
from zoo.weights.dtypes import dtype_name
from zoo.weights.migration.report import Provenance, TensorOrigin
from zoo.weights.parity import bit_equal

COUNTER = "num_batches_tracked"
"""What a BatchNorm counts, which no graph has."""


@dataclass(frozen=True)
class _Source:
    """Where a tensor of ours comes from.

    Attributes:
        make: gives its values, as the operator sees them, for how the operator of ours sees them.
        provenance: what kind of source it is.
        told: what it is in the file.
        held: the constant of the file that it is, unchanged, if it is.
        note: what else there is to know.
    """

    make: Callable[[Held], torch.Tensor]
    provenance: Provenance
    told: str = ""
    held: Held | None = None
    note: str = ""


class _Use(NamedTuple):
    """One place where the model takes a tensor.

    Attributes:
        source: where its values come from.
        held: the tensor as the model takes it there.
        ours: the layer of the model.
        theirs: its counterpart.
        doubtful: whether it might have another one.
    """

    source: _Source
    held: Held
    ours: Layer
    theirs: Layer
    doubtful: bool


@dataclass(frozen=True)
class Unfolded:
    """The tensors of the model, and where each comes from.

    Attributes:
        tensors: the tensors, by name.
        origins: where each comes from.
        unread: the tables of which nothing reads some entries, and the file has none.
    """

    tensors: Mapping[str, torch.Tensor]
    origins: tuple[TensorOrigin, ...]
    unread: tuple[str, ...] = ()


def unfolded(
    model: Layout,
    file: Layout,
    pairs: Pairs,
    unsure: frozenset[int],
    expected: Mapping[str, torch.Tensor],
    path: Path,
) -> Unfolded:
    """Return a tensor for each of the model's.

    Args:
        model: the layers of the model.
        file: those of the file.
        pairs: which is which.
        unsure: those of the model that have more than one counterpart.
        expected: the tensors of the model, on the meta device, each under one name.
        path: the file, for errors.

    Raises:
        AlignmentError: one tensor of the model would have to have different values at once; one is not in the file, or
            something in the file has no place in the model.
    """
    dtype = _precision(file)
    found = _uses(model, file, pairs, unsure, dtype, path)
    indices = indices_of(model)
    tensors: dict[str, torch.Tensor] = {}
    origins, unread = [], []
    for name, wanted in expected.items():
        if name in found:
            tensors[name], lacking = _settled(name, found[name], wanted, dtype, path)
            origins.append(_origin(name, found[name][0], wanted.numel(), lacking))
            unread += [name] if lacking else []
        elif name in indices:
            tensors[name] = indices[name]
            origins.append(TensorOrigin(name, "identity", note="an index that the model makes when it is built"))
        elif name.rpartition(".")[2] == COUNTER and not wanted.is_floating_point():
            tensors[name] = torch.zeros(wanted.shape, dtype=wanted.dtype)
            origins.append(TensorOrigin(name, "identity", note="counts batches of training"))
    if missing := [name for name in expected if name not in tensors]:
        raise AlignmentError(
            path,
            f"has no values for {len(missing)} tensors of the model, which its graph computes from or does not use "
            f"({', '.join(missing[:5])})",
        )
    return Unfolded(tensors, tuple(origins), tuple(unread))


def _uses(
    model: Layout, file: Layout, pairs: Pairs, unsure: frozenset[int], dtype: torch.dtype, path: Path
) -> dict[str, list[_Use]]:
    """Return, for each tensor of the model, where it is used and what the file has there; first where it is whole."""
    found: dict[str, list[_Use]] = defaultdict(list)
    partner = dict(pairs)
    for ours, theirs in sorted(pairs):
        layer, other = model.layers[ours], file.layers[theirs]
        for number, held in _numbers(layer, other, partner):
            source = _number(held, other, dtype)
            found[number.constant.parameter or ""].append(_Use(source, number, layer, other, ours in unsure))
        for role, (held, source) in _sources(layer, other, dtype, path).items():
            if role not in layer.slots or not held.parameters:
                continue
            if source.held is not None and source.held.constant.values is None:
                raise AlignmentError(path, "computes weights in its graph", other.told(), layer.told())
            for part, given in _parted(held, source):
                if part.constant.parameter is not None:
                    found[part.constant.parameter].append(_Use(given, part, layer, other, ours in unsure))
    return {name: sorted(uses, key=lambda use: use.held.index is not None) for name, uses in found.items()}


def _parted(held: Held, source: _Source) -> Iterator[tuple[Held, _Source]]:
    """Give the tensors that the model joins to one weight, each with its part of the source."""
    if not held.parts:
        yield held, source
        return
    start = 0
    for part in held.parts:
        make = partial(_cut, held, source, start, part.shape[held.axis])
        yield part, replace(source, make=make, held=None, note=source.note or "a part of what the file has as one")
        start += part.shape[held.axis]


def _cut(held: Held, source: _Source, start: int, length: int, _: Held) -> torch.Tensor:
    return held.undone(source.make(held)).narrow(held.axis, start, length)


def _settled(
    name: str, uses: Sequence[_Use], wanted: torch.Tensor, dtype: torch.dtype, path: Path
) -> tuple[torch.Tensor, int]:
    """Return a tensor of the model, which is the same wherever it is used, and how many numbers of it are not known."""
    first, *others = uses
    if first.held.index is None:
        tensor, lacking = _made(first.source, first.held, wanted, dtype), 0
    else:
        ways = {use.held.index: use for use in reversed(uses)}  # those that read the same entries add none
        readings = []
        for use in reversed(ways.values()):
            readings.append(Reading(use.held, _read(use.source, use.held, dtype), use.source.held))
            if not readings[-1].single:
                reason = f"has different values where the model takes one entry of {name!r} several times"
                raise AlignmentError(path, reason, use.theirs.told(), use.ours.told())
        tensor, lacking = completed(readings)
    for again in others:
        _refuse_conflict(name, tensor, first, again, wanted, path)
    return tensor.reshape(wanted.shape).contiguous(), lacking


def _origin(name: str, use: _Use, count: int, lacking: int) -> TensorOrigin:
    source = use.source
    provenance: Provenance = "ambiguous" if use.doubtful and source.provenance != "identity" else source.provenance
    unread = f"{lacking} of its {count} numbers are never read, and zero, for the file does not have them"
    return TensorOrigin(name, provenance, source.told, unread if lacking else source.note)


def _numbers(ours: Layer, theirs: Layer, partner: Mapping[int, int]) -> Iterator[tuple[Held, Held]]:
    """Give the numbers of ours on the way to a layer, each with that of the file which the same operator takes."""
    left = list(theirs.inputs)
    for edge in ours.inputs:
        place = next((n for n, each in enumerate(left) if each.source == partner[edge.source]), None)
        if place is None:
            continue
        other = left.pop(place)
        for op in dict.fromkeys(each.op for each in edge.numbers):
            mine, its = ([each.held for each in side.numbers if each.op == op] for side in (edge, other))
            if len(mine) == len(its):
                pairs = zip(mine, its, strict=True)
                yield from (
                    (a, b) for a, b in pairs if a is not None and a.constant.parameter is not None and b is not None
                )


def still(eps: float, dtype: torch.dtype) -> float:
    """Return a variance with which a BatchNorm divides by 1 exactly, if the dtype has one: else the nearest.

    >>> variance = torch.tensor(still(1e-5, torch.float32))
    >>> float((variance + 1e-5).rsqrt())
    1.0
    """
    one = torch.ones((), dtype=dtype)
    guess = (one.double() - eps).to(dtype)
    candidates = [guess]
    up, down = guess, guess
    for _ in range(8):
        up, down = torch.nextafter(up, one * 2), torch.nextafter(down, one * 0)
        candidates += [up, down]
    return float(min(candidates, key=lambda v: sum(abs(float(r) - 1) for r in _inverses(v, eps))))


def _inverses(variance: torch.Tensor, eps: float) -> tuple[torch.Tensor, ...]:
    """Return 1/√(variance + eps) as kernels compute it."""
    total = variance + eps
    return (total.rsqrt(), 1 / total.sqrt(), 1 / (variance.double() + eps).sqrt().to(variance.dtype))


def _sources(ours: Layer, theirs: Layer, dtype: torch.dtype, path: Path) -> dict[str, tuple[Held, _Source]]:
    """Return, for each role of a layer of ours, the weights in that role and where they come from."""
    if ours.kind not in ("affine", "norm") or ("weight" not in ours.slots and ours.kind == "affine"):
        return {role: (held, _whole(theirs.slots[role], theirs)) for role, held in ours.slots.items()}
    if ours.unknown or theirs.unknown:
        raise AlignmentError(path, "computes weights in its graph", theirs.told(), ours.told())
    told: dict[str, _Source] = {}
    given = dict(theirs.slots)
    if ours.kind == "affine":
        told["weight"] = _directed(ours.slots["weight"], given["weight"], theirs, ours, path)
        if theirs.slots.keys() & {"scale", "shift"} and not ours.slots.keys() & {"scale", "shift"}:
            raise AlignmentError(path, "has a norm where the model has none", theirs.told(), ours.told())
    normed = bool(ours.slots.keys() & {"scale", "shift", "mean", "var"})
    if not normed:
        told["bias"] = _bias(given.get("bias"), theirs)
        if "bias" in given and "bias" not in ours.slots:
            raise AlignmentError(path, "adds a bias where the model has none", theirs.told(), ours.told())
        return {role: (held, told[role]) for role, held in ours.slots.items()}
    if "var" in given and "var" in ours.slots:
        told.update(_whole_norm(ours, theirs))
    elif not {"mean", "var"} & (ours.slots.keys() | given.keys()) and ours.slots.keys() == given.keys():
        told.update({role: _whole(held, theirs) for role, held in given.items()})
    else:
        told.update(_still_norm(ours, theirs, dtype))
    return {role: (held, told[role]) for role, held in ours.slots.items()}


def _whole_norm(ours: Layer, theirs: Layer) -> dict[str, _Source]:
    """Return the sources of a BatchNorm that the file has as one."""
    given = theirs.slots
    told = {role: _whole(given[role], theirs) for role in ("scale", "shift", "mean", "var")}
    told["bias"] = _bias(given.get("bias"), theirs)
    if "bias" in given and "bias" not in ours.slots:
        bias, mean = given["bias"], given["mean"]
        told["mean"] = _Source(
            lambda _: mean.values().reshape(-1) - bias.values().reshape(-1),
            "batchnorm-folded",
            mean.constant.name,
            note="less the bias of the convolution, which the model does not have",
        )
    shift = theirs.eps - ours.eps
    if abs(shift) > 1e-6 * ours.eps:  # a file has it in float32
        var = given["var"]
        told["var"] = _Source(
            lambda _: (var.values().double() + shift).to(var.values().dtype),
            "batchnorm-folded",
            var.constant.name,
            note=f"with {shift:.3g} more, for the eps of the file is {theirs.eps:.3g} and the model's {ours.eps:.3g}",
        )
    return told


def _still_norm(ours: Layer, theirs: Layer, dtype: torch.dtype) -> dict[str, _Source]:
    """Return the sources of a norm of ours that was folded away, or into one number each to multiply by and to add."""
    given = theirs.slots
    told: dict[str, _Source] = {}
    plain = "scale" not in given and "shift" not in given
    added = given.get("bias") if plain else given.get("shift")
    note = "the convolution and its BatchNorm are one in the file"
    if ours.kind == "affine" and plain:
        weight = given["weight"]
        told["weight"] = _Source(_unchanged(weight), "batchnorm-folded", weight.constant.name, weight, note)
    told["bias"] = _zeros() if plain else _bias(given.get("bias"), theirs)
    told["scale"] = _folded(given["scale"], "what the file multiplies by") if "scale" in given else _filled(1.0, dtype)
    told["shift"] = _zeros() if added is None else _folded(added, note)
    told["mean"] = _zeros()
    if "shift" not in ours.slots and added is not None:
        told["mean"] = _Source(
            lambda _: -added.values().reshape(-1), "batchnorm-folded", added.constant.name, note=note
        )
    told["var"] = _filled(still(ours.eps, dtype), dtype)
    return told


def _whole(held: Held, layer: Layer) -> _Source:
    return _Source(_unchanged(held), "exact", held.constant.name or layer.told(), held)


def _directed(own: Held, held: Held, theirs: Layer, ours: Layer, path: Path) -> _Source:
    """Return the source of a weight that the model, the file, both or neither divide by its length."""
    if own.unit == held.unit:
        return _whole(held.of_any_length(), theirs)
    if held.unit:
        raise AlignmentError(path, "computes weights in its graph", theirs.told(), ours.told())
    return replace(_whole(held, theirs), note="of which the model takes the direction alone; the file has that length")


def _number(held: Held, layer: Layer, dtype: torch.dtype) -> _Source:
    """Return the source of a single number, which a file may have as a whole one."""
    return replace(_whole(held, layer), make=lambda _: held.values().to(dtype))


def _folded(held: Held, note: str) -> _Source:
    return _Source(_unchanged(held), "batchnorm-folded", held.constant.name, held, note)


def _bias(held: Held | None, layer: Layer) -> _Source:
    return _zeros() if held is None else _whole(held, layer)


def _unchanged(held: Held) -> Callable[[Held], torch.Tensor]:
    return lambda _: held.values()


def _zeros() -> _Source:
    return _Source(lambda seen: torch.zeros(seen.shape), "identity")


def _filled(value: float, dtype: torch.dtype) -> _Source:
    return _Source(lambda seen: torch.full(seen.shape, value, dtype=dtype), "identity")


def _made(source: _Source, held: Held, wanted: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return held.undone(_read(source, held, dtype)).reshape(wanted.shape).contiguous()


def _read(source: _Source, held: Held, dtype: torch.dtype) -> torch.Tensor:
    """Return the numbers of a source, in the precision of all."""
    tensor = source.make(held)
    return tensor.to(dtype) if source.provenance == "identity" or tensor.is_floating_point() else tensor


def _refuse_conflict(
    name: str, tensor: torch.Tensor, first: _Use, again: _Use, wanted: torch.Tensor, path: Path
) -> None:
    """Check that a tensor which the model uses twice is the same both times."""
    one, other = first.source, again.source
    unchanged = one.held is not None and other.held is not None and one.held.same(other.held)
    if unchanged and first.held.index == again.held.index:
        return
    if again.held.index is not None:
        same = agrees(again.held, tensor, _read(other, again.held, tensor.dtype))
    else:
        same = bit_equal(tensor, _made(other, again.held, wanted, tensor.dtype))
    if same:
        return
    folded = "batchnorm-folded" in (one.provenance, other.provenance)
    because = "; different norms were folded into it, and what it was before cannot be told any more" if folded else ""
    raise AlignmentError(
        path,
        f"has different values where the model uses one tensor, {name!r}, several times{because}",
        again.theirs.told(),
        again.ours.told(),
    )


def _precision(file: Layout) -> torch.dtype:
    """Return the precision of the weights of the file, the widest of several."""
    constants = [held.constant for layer in file.layers for held in layer.slots.values()]
    dtypes = {each.dtype for each in constants if each.floating and each.values is not None}
    return max(dtypes, key=lambda dtype: (torch.finfo(dtype).bits, dtype_name(dtype)), default=torch.float32)


def precisions(layers: Sequence[Layer]) -> tuple[str, ...]:
    """Return the precisions of the weights of layers, by name."""
    held = [each for layer in layers for each in layer.slots.values()]
    return tuple(sorted({dtype_name(each.constant.dtype) for each in held if each.constant.floating}))
