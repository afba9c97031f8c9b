"""LoadPlan: what loading a file into a model would do, tensor for tensor, found out without doing it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from os import PathLike, fspath
from typing import Any

import torch

from registry.names import nearest
from zoo.errors import PatternError, TensorMismatchError
from zoo.held import is_lazy
from zoo.weights.casting import PRECISIONS, TensorCast, examined, refuse_lossy
from zoo.weights.dtypes import dtype_name
from zoo.weights.parity import bit_equal
from zoo.weights.rebuilding import type_text
from zoo.weights.transfer.transfer import part_of

Patterns = str | Iterable[str]
"""Shell patterns over names: ``"head.*"``, or several."""


@dataclass(frozen=True)
class Difference:
    """A tensor that is one thing in the file and another in the model: ``float32[10, 84]``, ``float32[5, 84]``."""

    name: str
    file: str
    model: str

    def __str__(self) -> str:
        return f"{self.name} {self.file} for {self.model}"


@dataclass(frozen=True)
class LoadPlan:
    """What loading a file into a model does; ``str()`` of it is a report.

    Every name is one of the model's, those of ``ignored`` and ``unexpected`` are the file's.

    Attributes:
        path: the file.
        loaded: what gets its values from the file.
        casts: those of them whose precision changes, with what that costs.
        ties: for each further name of a tensor that is tied in the model, its first name.
        copied: for each of ``loaded`` that is one tensor in the file with an earlier one and another in the model,
            that one.
        kept: what stays as it is because ``allow_missing`` or ``fresh`` says so; where ``allow_missing`` does and the
            file has the name, with both shapes.
        ignored: what the file has besides and ``allow_unexpected`` allows, or ``fresh`` leaves there.
        missing: what the file lacks.
        unexpected: what only the file has.
        shapes: what has another shape in the file.
        dtypes: what is another kind of number in the file.
        conflicts: tensors that are tied in the model, for which the file has different values: ``"a and b"``.
        allow_lossy: whether ``casts`` may lose values that matter.
    """

    path: str
    loaded: tuple[str, ...] = ()
    casts: tuple[TensorCast, ...] = ()
    ties: Mapping[str, str] = field(default_factory=dict)
    copied: Mapping[str, str] = field(default_factory=dict)
    kept: tuple[str | Difference, ...] = ()
    ignored: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    shapes: tuple[Difference, ...] = ()
    dtypes: tuple[Difference, ...] = ()
    conflicts: tuple[str, ...] = ()
    allow_lossy: bool = False

    @property
    def fits(self) -> bool:
        """Whether the file can be loaded."""
        lossy = any(each.refused for each in self.casts) and not self.allow_lossy
        return not (self.missing or self.unexpected or self.shapes or self.dtypes or self.conflicts or lossy)

    def require(self) -> None:
        """Check that the file can be loaded.

        Raises:
            TensorMismatchError: its tensors are not those of the model.
            LossyCastError: the precision of the model would lose values that matter.
        """
        different = [*map(str, self.shapes), *map(str, self.dtypes)]
        different += [f"{pair} differ but are one tensor in the model" for pair in self.conflicts]
        if self.missing or self.unexpected or different:
            raise TensorMismatchError(self.path, self.missing, self.unexpected, different, self._remedy())
        if not self.allow_lossy:
            refuse_lossy(self.casts, self.path)

    def __str__(self) -> str:
        count = len(self.loaded) + len(self.missing) + len(self.shapes) + len(self.dtypes) + len(self.kept)
        head = f"{self.path}: {len(self.loaded)} of {count} tensors {'are loaded' if self.fits else 'could be loaded'}"
        sections: list[tuple[str, list[str]]] = [
            ("missing in the file", list(self.missing)),
            ("unexpected in the file", list(self.unexpected)),
            ("of another shape", [str(each) for each in self.shapes]),
            ("another kind of number", [str(each) for each in self.dtypes]),
            ("one tensor here, two there", list(self.conflicts)),
            ("kept as they are", [str(each) for each in self.kept]),
            ("ignored in the file", list(self.ignored)),
            ("cast", _cast_lines(self.casts)),
            ("tied", [f"{alias} to {first}" for alias, first in self.ties.items()]),
            ("copied", [f"{name} from {source}" for name, source in self.copied.items()]),
        ]
        return "\n".join([head, *(f"  {title} ({len(lines)}): {_short(lines)}" for title, lines in sections if lines)])

    def _remedy(self) -> str:
        lacking = patterns_of([*self.missing, *(each.name for each in self.shapes)])
        extra = patterns_of(self.unexpected)
        remedies = [f"allow_missing={lacking!r} leaves them as they are in the model"] if lacking else []
        remedies += [f"allow_unexpected={extra!r} leaves them in the file"] if extra else []
        shared = self.loaded or self.shapes or self.dtypes or any(isinstance(each, Difference) for each in self.kept)
        if not shared:
            return f"none of the names are the model's; zoo identify {self.path} tells what it can be of"
        return " and ".join(remedies)


def plan(
    expected: Mapping[str, torch.Tensor],
    given: Mapping[str, torch.Tensor],
    path: str | PathLike[str],
    *,
    allow_missing: Patterns = (),
    allow_unexpected: Patterns = (),
    allow_lossy: bool = False,
    fresh: Collection[str] = (),
) -> LoadPlan:
    """Plan how the tensors of a file go into those of a model; only those whose precision changes are read.

    Args:
        expected: the model's own tensors by name; names of one tensor have the same object.
        given: the file's by name; names of one tensor have the same object.
        path: how the file is called in errors.
        allow_missing: names in the model that stay as they are where the file lacks them or has another shape.
        allow_unexpected: names that only the file has and that are left out.
        allow_lossy: whether a cast may lose values that matter.
        fresh: parts that take nothing from the file; a tensor that is tied to one of another part is of that.

    Raises:
        PatternError: a pattern fits no name.
    """
    may_miss = allowed(allow_missing, "allow_missing", expected, "tensor of the model", path)
    may_ignore = allowed(allow_unexpected, "allow_unexpected", given, "tensor in the file", path)
    may_miss |= {name for name in expected if part_of(name) in fresh}
    left = tuple(name for name in given if part_of(name) in fresh)
    given = {name: tensor for name, tensor in given.items() if part_of(name) not in fresh}
    found: dict[str, list[Any]] = {kind: [] for kind in ("loaded", "casts", "kept", "missing", "shapes", "dtypes")}
    conflicts: list[str] = []
    groups = _groups(expected)
    for names in groups:
        tensor = expected[names[0]]
        present = [name for name in names if name in given]
        shapes = [_difference(n, given[n], tensor) for n in present if not _same_shape(given[n], tensor)]
        kinds = [_difference(n, given[n], tensor) for n in present if not _same_kind(given[n], tensor)]
        may_stay = may_miss.issuperset(names)
        if not present:
            found["kept" if may_stay else "missing"] += names
        elif shapes:
            found["kept" if may_stay else "shapes"] += shapes
        elif kinds:
            found["dtypes"] += kinds
        else:
            first = given[present[0]]
            conflicts += [f"{present[0]} and {n}" for n in present[1:] if not _equal(first, given[n])]
            found["loaded"] += names
            if first.dtype != tensor.dtype:
                found["casts"].append(examined(names[0], first, tensor.dtype))
    extra = [name for name in given if name not in expected]
    return LoadPlan(
        fspath(path),
        **{kind: tuple(values) for kind, values in found.items()},
        ties={n: names[0] for names in groups for n in names[1:]},
        copied=_copied(groups, given, found["loaded"]),
        ignored=(*(n for n in extra if n in may_ignore), *left),
        unexpected=tuple(n for n in extra if n not in may_ignore),
        conflicts=tuple(conflicts),
        allow_lossy=allow_lossy,
    )


def allowed(
    patterns: Patterns, parameter: str, names: Iterable[str], among: str, path: str | PathLike[str]
) -> frozenset[str]:
    """Return the names that patterns fit.

    Args:
        patterns: shell patterns.
        parameter: which parameter they were given for, for the error.
        names: all names.
        among: what the names are of, for the error.
        path: the file.

    Raises:
        PatternError: a pattern fits none.
    """
    known = list(names)
    found: set[str] = set()
    for pattern in (patterns,) if isinstance(patterns, str) else patterns:
        fitting = {name for name in known if fnmatchcase(name, pattern)}
        if not fitting:
            stems = {f"{'.'.join(name.split('.')[:n])}.*" for name in known for n in range(1, name.count(".") + 1)}
            raise PatternError(path, parameter, pattern, among, nearest(pattern, sorted({*known, *stems})))
        found |= fitting
    return frozenset(found)


def _groups(expected: Mapping[str, torch.Tensor]) -> list[list[str]]:
    """Return the names of each tensor; two that are the same view of the same memory are one."""
    groups: dict[Any, list[str]] = {}
    for name, tensor in expected.items():
        plain = not is_lazy(tensor) and tensor.layout == torch.strided and tensor.numel() > 0
        place = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype) if plain else id(tensor)
        groups.setdefault(place, []).append(name)
    return list(groups.values())


def _copied(groups: Iterable[list[str]], given: Mapping[str, torch.Tensor], loaded: Iterable[str]) -> dict[str, str]:
    """Return, for tensors that the file ties and the model does not, the first that gets the same values."""
    wanted = set(loaded)
    firsts: dict[int, str] = {}
    copied = {}
    for names in groups:
        source = next((given[name] for name in names if name in given and name in wanted), None)
        if source is not None and firsts.setdefault(id(source), names[0]) != names[0]:
            copied[names[0]] = firsts[id(source)]
    return copied


def _same_shape(given: torch.Tensor, tensor: torch.Tensor) -> bool:
    return not is_lazy(tensor) and given.shape == tensor.shape


def _same_kind(given: torch.Tensor, tensor: torch.Tensor) -> bool:
    plain = given.layout == torch.strided and not (given.is_meta or given.is_quantized)
    both = dtype_name(given.dtype) in PRECISIONS and dtype_name(tensor.dtype) in PRECISIONS
    return plain and (both or given.dtype == tensor.dtype)


def _equal(left: torch.Tensor, right: torch.Tensor) -> bool:
    return left is right or bit_equal(left, right)


def _difference(name: str, given: torch.Tensor, tensor: torch.Tensor) -> Difference:
    return Difference(name, type_text(given), type_text(tensor))


def patterns_of(names: Iterable[str], most: int = 3) -> list[str]:
    """Return a few patterns that name these tensors, or none if it would take many."""
    for depth in (-1, 1):
        patterns = list(dict.fromkeys(".".join(name.split(".")[:depth] or [name]) + ".*" for name in names))
        if len(patterns) <= most:
            return patterns
    return []


def _cast_lines(casts: Iterable[TensorCast]) -> list[str]:
    return [
        f"{c.name} {c.source} to {c.target}"
        + (f" with {c.overflowed:,} too large" if c.overflowed else "")
        + (f" with {c.underflowed:,} to zero" if c.underflowed else "")
        for c in casts
    ]


def _short(lines: list[str], most: int = 6) -> str:
    return ", ".join(lines[:most]) + (f" and {len(lines) - most} more" if len(lines) > most else "")
