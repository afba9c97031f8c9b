"""Names as they would be without what was wrapped around the model: prefixes, and what belongs to the wrappers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from zoo.errors import SeveralWeightsError, WeightsError
from zoo.weights.checkpoint import Checkpoint
from zoo.weights.migration.report import Unwrapping
from zoo.weights.strictjson import brief

_INSIDE = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""What torch puts into names wherever it wraps a module: ``torch.compile``, FSDP, activation checkpointing."""

_DEEPEST = 16  # prefixes that are taken off: a name may be nothing but dots

_COUNTERS = frozenset({"n_averaged", "num_updates", "initted", "step"})
"""What those that average weights keep beside them: ``torch.optim.swa_utils.AveragedModel`` and its like."""


@dataclass(frozen=True)
class Peeled:
    """The names of a file with something taken off.

    Attributes:
        names: each name in the file → the name without what was taken off.
        prefixes: what was taken off, the outermost first.
        left_out: names in the file that belong to a wrapper.
    """

    names: Mapping[str, str]
    prefixes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def peelings(names: Collection[str]) -> Iterator[Peeled]:
    """Give names as they are, and then with one thing more taken off each time.

    What all names begin with goes, whatever it is, one word after the other, and what only wrappers put into names
    goes wherever it is. Whether what is left is right the shapes have to tell.

    >>> for peeled in peelings(["module.model.fc.weight", "module.model.fc.bias", "n_averaged"]):
    ...     print(list(peeled.names.values()), peeled.prefixes, peeled.left_out)
    ['module.model.fc.weight', 'module.model.fc.bias', 'n_averaged'] () ()
    ['model.fc.weight', 'model.fc.bias'] ('module.',) ('n_averaged',)
    ['fc.weight', 'fc.bias'] ('module.', 'model.') ('n_averaged',)
    ['weight', 'bias'] ('module.', 'model.', 'fc.') ('n_averaged',)
    """
    current = Peeled({name: name for name in names})
    yield current
    inner = {name: _without_wrappers(name) for name in names}
    if len(set(inner.values())) == len(inner) and any(name != shown for name, shown in inner.items()):
        taken = tuple(f"{word}." for word in _INSIDE if any(word in name.split(".") for name in names))
        current = Peeled(inner, taken)
        yield current
    while len(current.prefixes) < _DEEPEST:
        counters = tuple(name for name, shown in current.names.items() if shown in _COUNTERS)
        rest = {name: shown for name, shown in current.names.items() if shown not in _COUNTERS}
        firsts = {shown.partition(".")[0] for shown in rest.values() if "." in shown}
        if len(firsts) != 1 or not all("." in shown for shown in rest.values()):
            return
        (first,) = firsts
        current = Peeled(
            {name: shown.removeprefix(f"{first}.") for name, shown in rest.items()},
            (*current.prefixes, f"{first}."),
            (*current.left_out, *counters),
        )
        yield current


def narrowed(checkpoint: Checkpoint, within: str, path: Path) -> Checkpoint:
    """Return the part of a checkpoint whose names begin as was asked for, without that beginning.

    Args:
        checkpoint: what was read.
        within: what was asked for; where the tensors were in the file, if it says, is its beginning.
        path: the file, for errors.

    Raises:
        SeveralWeightsError: no names begin so.
        WeightsError: zoo wrote the file, which is one model.
    """
    if checkpoint.artifact is not None:
        raise WeightsError(path, "zoo wrote this file, and it holds one model; leave within= out")
    unwrapping = checkpoint.unwrapping or Unwrapping()
    place = unwrapping.within
    rest = f"{within}."
    if place and rest.startswith(f"{place}."):
        rest = rest.removeprefix(f"{place}.")
    if not rest:
        return checkpoint
    names = [*checkpoint.tensors, *checkpoint.aliases]
    chosen = {name for name in names if name.startswith(rest)}
    if not chosen:
        firsts = list(dict.fromkeys(name.partition(".")[0] for name in names if "." in name))
        places = unwrapping.candidates
        raise SeveralWeightsError(path, places, [brief(each) for each in places or firsts], within)
    state = checkpoint.state_dict()
    left = tuple(f"{name} (not within {within!r})" for name in names if name not in chosen)
    return Checkpoint(
        {name.removeprefix(rest): state[name] for name in (checkpoint.order or names) if name in chosen},
        unwrapping=replace(unwrapping, prefixes=(*unwrapping.prefixes, rest), left_out=(*unwrapping.left_out, *left)),
    )


def _without_wrappers(name: str) -> str:
    return ".".join(word for word in name.split(".") if word not in _INSIDE)
