"""Where in a training checkpoint the weights are: dicts of named tensors, told from all that is kept beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from zoo.weights.migration.report import Unwrapping
from zoo.weights.pt.pickled import Called
from zoo.weights.pt.records import TensorRecord, as_mapping, as_tensor
from zoo.weights.strictjson import brief

_DEEPEST = 4  # {"callbacks": {"EMA": {"ema": {"module": …}}}}
_MOST = 10_000  # dicts that are looked into


@dataclass(frozen=True)
class Found:
    """One dict of named tensors in a checkpoint: where it is, what is in it, and what its attributes are.

    Attributes:
        within: the keys that lead there, with dots between them; in quotes if other keys lead elsewhere so.
        keys: the same, one by one.
        records: what is in it.
        attributes: what it carries besides.
    """

    within: str
    keys: tuple[str, ...]
    records: Mapping[str, TensorRecord]
    attributes: Mapping[str, Any]


def weights_within(told: Any) -> list[Found]:
    """Return every dict in a checkpoint that looks like the weights of a model.

    That is a dict whose keys are text and whose values are tensors, at least one of them a matrix or more: averages and
    metrics are none, and neither is the state of an optimiser, whose tensors are numbered.

    Args:
        told: what the pickle says.
    """
    found: list[Found] = []
    waiting: list[tuple[tuple[str, ...], Any]] = [((), told)]
    looked = 0
    seen: dict[int, _Look] = {}  # one dict may be in many places
    while waiting and looked < _MOST:
        keys, value = waiting.pop(0)
        looked += 1
        again = id(value) in seen
        look = seen[id(value)] if again else seen.setdefault(id(value), _looked(value))
        if look is None:
            continue
        items, attributes, records = look
        if keys and records is not None:
            if any(len(record.shape) > 1 for record in records.values()):
                found.append(Found(".".join(keys), keys, records, attributes))
        elif not again and len(keys) < _DEEPEST and not (keys and "param_groups" in items):
            waiting += [((*keys, key), each) for key, each in items.items()]
    places = Counter(each.within for each in found)
    return [replace(each, within=_quoted(each.keys)) if places[each.within] > 1 else each for each in found]


def _quoted(keys: tuple[str, ...]) -> str:
    return ".".join(f'"{key}"' for key in keys)


def told_of(root: Mapping[str, Any], chosen: Found, candidates: list[Found]) -> Unwrapping:
    """Return what is to be said of how weights were found in a checkpoint."""
    holding = {each.keys[0] for each in candidates}
    beside = tuple(f"{brief(key)} ({_told(value)})" for key, value in root.items() if key not in holding)
    return Unwrapping(chosen.within, _writer(root), tuple(each.within for each in candidates), beside)


def kind_of(value: Any) -> str:
    """Return what a value of a pickle is, in a word: ``"Namespace"``, ``"dict"``, ``"int"``."""
    if as_mapping(value) is not None:
        return "dict"
    if isinstance(value, Called):
        return "tensor" if value.function.startswith("torch._utils._rebuild") else value.function.rpartition(".")[2]
    return type(value).__name__


_Look = tuple[Mapping[str, Any], Mapping[str, Any], dict[str, TensorRecord] | None] | None


def _looked(value: Any) -> _Look:
    mapping = as_mapping(value)
    if mapping is None or not mapping[0] or not all(isinstance(key, str) for key in mapping[0]):
        return None
    return (*mapping, _all_tensors(mapping[0]))


def _all_tensors(items: Mapping[str, Any]) -> dict[str, TensorRecord] | None:
    if not all(isinstance(value, Called) for value in items.values()):
        return None
    records = {name: as_tensor(value) for name, value in items.items()}
    tensors = {name: record for name, record in records.items() if record is not None}
    return tensors if len(tensors) == len(records) else None


def _writer(root: Mapping[str, Any]) -> str:
    if "pytorch-lightning_version" in root:
        return "Lightning"
    return "timm's training script" if {"arch", "state_dict", "version"} <= root.keys() else ""


def _told(value: Any) -> str:
    kind = kind_of(value)
    mapping = as_mapping(value)
    held = mapping[0] if mapping is not None else value if isinstance(value, list | tuple) else None
    return kind if held is None else f"{kind} of {len(held)}"


def names_of(found: list[Found]) -> Iterator[str]:
    """Give each place with how many tensors are there, for messages."""
    return (f"{brief(each.within)} ({len(each.records)} tensors)" for each in found)
