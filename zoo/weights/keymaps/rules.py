"""The rules of a keymap: what tensors of another library become ours, and back; records of names and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch

from zoo.errors import RuleError
from zoo.weights.keymaps.layouts import Layout, Misfit, Permute, Reshape, Side, are_ints, cut, joined
from zoo.weights.keymaps.patterns import Binding, Index, Pattern, Rest, Word
from zoo.weights.parity import bit_equal

Value = bool | int | float | tuple["Value", ...]
"""What :func:`torch.tensor` takes: a number, or tuples of them."""


class Rule:
    """What the rules have in common: patterns on one side or on both, and the way from each to the other.

    Attributes:
        fills: whether it makes tensors for names that no other rule makes, and claims none.
    """

    fills: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.patterns("ours")

    @cached_property
    def _patterns(self) -> dict[Side, tuple[Pattern, ...]]:
        try:
            read: dict[Side, tuple[Pattern, ...]] = {
                side: tuple(Pattern.parse(text) for text in self._texts(side)) for side in ("theirs", "ours")
            }
            _refuse_other_placeholders([*read["theirs"], *read["ours"]])
        except RuleError as error:
            raise RuleError(str(self), f"{error.rule}: {error.reason}" if error.rule else error.reason) from None
        least, choices = _limits([*read["theirs"], *read["ours"]])
        return {side: tuple(p.limited(least, choices) for p in patterns) for side, patterns in read.items()}

    def patterns(self, side: Side) -> tuple[Pattern, ...]:
        """Return the patterns of one side, each within the limits that the others set."""
        return self._patterns[side]

    def match(self, side: Side, key: str) -> list[dict[str, int | str]]:
        """Return what the placeholders stand for in a key, once for each pattern of a side that matches it."""
        return [found for p in self.patterns(side) if (found := p.match(key)) is not None]

    def keys(self, side: Side, binding: Binding) -> tuple[str, ...]:
        """Return the keys of one side."""
        return tuple(p.render(binding) for p in self.patterns(side))

    def convert(self, tensors: tuple[torch.Tensor, ...], towards: Side) -> tuple[torch.Tensor, ...]:
        """Return what the tensors of the one side are on the other, copying as little as possible.

        Raises:
            Misfit: they are not what the rule speaks of.
        """
        raise NotImplementedError

    def made(self, shape: tuple[int, ...] | None = None) -> torch.Tensor:
        """Return the tensor that this rule makes of nothing.

        Args:
            shape: the shape that it needs; None for that of its value.

        Raises:
            Misfit: the value does not fill the shape.
        """
        raise NotImplementedError

    @property
    def one_way(self) -> str:
        """Why there is no way back, or nothing."""
        return ""

    @property
    def loses(self) -> bool:
        """Whether it leaves out tensors whose numbers nothing keeps."""
        return False

    def _texts(self, side: Side) -> tuple[str, ...]:
        stated = getattr(self, side, ())
        return stated if isinstance(stated, tuple) else (stated,)

    def __str__(self) -> str:
        sides = (", ".join(map(str, self._texts(side))) for side in ("theirs", "ours"))
        return f"{type(self).__name__} {' ↔ '.join(side for side in sides if side)}"


@dataclass(frozen=True)
class Rename(Rule):
    """One tensor, with one name there and another here.

    Attributes:
        theirs: pattern of their names.
        ours: pattern of our names, with the same placeholders.
        layout: how the numbers lie differently, from theirs to ours, one step after the other.

    >>> print(Rename("layer{i}.{rest...}", "backbone.layer{i}.{rest...}"))
    Rename layer{i}.{rest...} ↔ backbone.layer{i}.{rest...}
    """

    theirs: str
    ours: str
    layout: tuple[Layout, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.layout, tuple) or not all(isinstance(step, Reshape | Permute) for step in self.layout):
            raise RuleError(str(self), f"layout is {self.layout!r}; expected a tuple of Reshape and Permute")

    def convert(self, tensors: tuple[torch.Tensor, ...], towards: Side) -> tuple[torch.Tensor, ...]:
        """Return the one tensor as it lies on the other side."""
        (tensor,) = tensors
        for step in self.layout if towards == "ours" else reversed(self.layout):
            tensor = step.convert(tensor, towards)
        return (tensor,)


@dataclass(frozen=True)
class Split(Rule):
    """One tensor of theirs that is several of ours.

    Attributes:
        theirs: pattern of their names.
        ours: patterns of our names, in order.
        axis: along which it is cut.
        sizes: the size of each part along that axis; None for equal parts.
    """

    theirs: str
    ours: tuple[str, ...]
    axis: int = 0
    sizes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_parts(self, self.ours, self.axis, self.sizes)

    def convert(self, tensors: tuple[torch.Tensor, ...], towards: Side) -> tuple[torch.Tensor, ...]:
        """Return the parts as views of the whole, or the whole as a copy of its parts."""
        if towards == "ours":
            return cut(tensors[0], len(self.ours), self.axis, self.sizes)
        return (joined(tensors, self.axis, self.sizes),)


@dataclass(frozen=True)
class Join(Rule):
    """Several tensors of theirs that are one of ours.

    Attributes:
        theirs: patterns of their names, in order.
        ours: pattern of our names.
        axis: along which they are joined.
        sizes: the size of each part along that axis; None for equal parts.
    """

    theirs: tuple[str, ...]
    ours: str
    axis: int = 0
    sizes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_parts(self, self.theirs, self.axis, self.sizes)

    def convert(self, tensors: tuple[torch.Tensor, ...], towards: Side) -> tuple[torch.Tensor, ...]:
        """Return the whole as a copy of its parts, or the parts as views of the whole."""
        if towards == "ours":
            return (joined(tensors, self.axis, self.sizes),)
        return cut(tensors[0], len(self.theirs), self.axis, self.sizes)


@dataclass(frozen=True)
class Constant(Rule):
    """A tensor of ours that they do not have, because it is always the same.

    Going back it is left out; one that holds anything else is an error, for what the model computes would change.

    Attributes:
        ours: pattern of our names.
        value: what it is filled with.
        dtype: its dtype, ``"float32"``.
        why: why they do not have it.
        checked: False if any other value may be lost on the way back.
    """

    ours: str
    value: Value
    dtype: str
    why: str
    checked: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_value(self, self.value, self.dtype, self.why)

    def convert(self, tensors: tuple[torch.Tensor, ...], towards: Side) -> tuple[torch.Tensor, ...]:
        """Return nothing: it has no counterpart."""
        if self.checked:
            _require_value(tensors[0], self.value, self.dtype)
        return ()

    def made(self, shape: tuple[int, ...] | None = None) -> torch.Tensor:
        """Return the tensor, in the shape that our model has for it."""
        return _filled(self.value, self.dtype, shape)


@dataclass(frozen=True)
class Default(Rule):
    """What a tensor of ours is if a file of theirs lacks it, though another rule has a name for it.

    Old files lack what newer versions of a library count or keep. Going back, the other rule writes it.

    Attributes:
        ours: pattern of our names.
        value: what it is filled with.
        dtype: its dtype, ``"int64"``.
        why: which files lack it.
    """

    fills = True

    ours: str
    value: Value
    dtype: str
    why: str

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_value(self, self.value, self.dtype, self.why)

    def made(self, shape: tuple[int, ...] | None = None) -> torch.Tensor:
        """Return the tensor, in the shape that our model has for it."""
        return _filled(self.value, self.dtype, shape)


@dataclass(frozen=True)
class NoCounterpart(Rule):
    """A tensor of theirs that we do not have.

    With a value it has to hold that, and going back it is written again. Without one its numbers are lost, and there is
    no way back unless their models come without it too.

    Attributes:
        theirs: pattern of their names; without placeholders if it has a value.
        why: why we do not have it.
        value: what it always holds; None if it is simply lost.
        dtype: the dtype of the value.
        shape: its shape, where that is not the value's own.
        optional: whether their models come without it too, so that going back it may be left out.
    """

    theirs: str
    why: str
    value: Value | None = None
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    optional: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.value is None:
            _refuse_no_reason(self, self.why)
            return
        if self.optional:
            raise RuleError(str(self), "it has a value, which going back is written, and is optional; choose one")
        _refuse_value(self, self.value, self.dtype, self.why)
        if any(p.placeholders for p in self.patterns("theirs")):
            raise RuleError(
                str(self), "it has a value and placeholders, so that going back nothing says which to write"
            )
        try:
            self.made()
        except Misfit as found:
            raise RuleError(str(self), str(found)) from None

    @property
    def one_way(self) -> str:
        """Why there is no way back, or nothing."""
        return self.why if self.loses and not self.optional else ""

    @property
    def loses(self) -> bool:
        """Whether it leaves out tensors whose numbers nothing keeps."""
        return self.value is None

    def convert(self, tensors: tuple[torch.Tensor, ...], towards: Side) -> tuple[torch.Tensor, ...]:
        """Return nothing: it has no counterpart."""
        if self.value is not None:
            if (found := tuple(tensors[0].shape)) != (expected := tuple(self.made().shape)):
                raise Misfit(f"found the shape {found}; expected {expected}")
            _require_value(tensors[0], self.value, str(self.dtype))
        return ()

    def made(self, shape: tuple[int, ...] | None = None) -> torch.Tensor:
        """Return the tensor that is written going back."""
        return _filled(self.value, str(self.dtype), self.shape if shape is None else shape)


def _refuse_other_placeholders(patterns: Sequence[Pattern]) -> None:
    def told(pattern: Pattern) -> str:
        return f"{pattern.text!r} has {', '.join(f'{{{n}}}' for _, n in sorted(_names(pattern))) or 'none'}"

    for pattern in patterns[1:]:
        if _names(pattern) != _names(patterns[0]):
            raise RuleError("", f"the placeholders differ: {told(patterns[0])}, {told(pattern)}; all need the same")


def _names(pattern: Pattern) -> set[tuple[str, str]]:
    return {(type(p).__name__, p.name + ("..." if isinstance(p, Rest) else "")) for p in pattern.placeholders}


def _limits(patterns: Sequence[Pattern]) -> tuple[dict[str, int], dict[str, tuple[str, ...]]]:
    """Return the smallest value of each index that makes no number negative, and the choices of each word."""
    least: dict[str, int] = {}
    choices: dict[str, tuple[str, ...]] = {}
    for placeholder in (p for pattern in patterns for p in pattern.placeholders):
        if isinstance(placeholder, Index):
            smallest = -(placeholder.offset // placeholder.times)
            least[placeholder.name] = max(least.get(placeholder.name, smallest), smallest)
        elif isinstance(placeholder, Word) and placeholder.choices:
            choices.setdefault(placeholder.name, placeholder.choices)
            if set(choices[placeholder.name]) != set(placeholder.choices):
                raise RuleError("", f"the choices of {{{placeholder.name}}} differ; state them once")
    return least, choices


def _refuse_parts(rule: Rule, parts: Any, axis: Any, sizes: Any) -> None:
    if not isinstance(parts, tuple) or len(parts) < 2:
        raise RuleError(str(rule), f"found {parts!r} for the parts; expected a tuple of at least two patterns")
    if not are_ints((axis,)) or axis < 0:
        raise RuleError(str(rule), f"found axis={axis!r}; expected a number from 0")
    if sizes is not None and (not are_ints(sizes) or len(sizes) != len(parts) or min(sizes) < 1):
        raise RuleError(
            str(rule), f"found sizes={sizes!r}; expected a size for each of the {len(parts)} parts, or None"
        )


def _refuse_no_reason(rule: Rule, why: object) -> None:
    if not isinstance(why, str) or not why.strip():
        raise RuleError(str(rule), f"found why={why!r}; say why in words")


def _refuse_value(rule: Rule, value: object, dtype: object, why: object) -> None:
    _refuse_no_reason(rule, why)
    wanted = getattr(torch, dtype, None) if isinstance(dtype, str) else None
    if not isinstance(wanted, torch.dtype):
        raise RuleError(str(rule), f"found dtype={dtype!r}; expected a name such as 'float32' or 'int64'")
    try:
        natural = torch.tensor(value, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise RuleError(str(rule), f"found the value {value!r}; expected a number or tuples of numbers") from error
    if not torch.can_cast(natural.dtype, wanted):
        raise RuleError(str(rule), f"the value {value!r} is no {dtype}")


def _filled(value: Value | None, dtype: str, shape: tuple[int, ...] | None) -> torch.Tensor:
    tensor = torch.tensor(value, dtype=getattr(torch, dtype), device="cpu")
    if shape is None:
        return tensor
    try:
        return tensor.expand(shape).contiguous()
    except RuntimeError:
        raise Misfit(f"the value {value!r} does not fill the shape {shape}") from None


def _require_value(tensor: torch.Tensor, value: Value, dtype: str) -> None:
    if tensor.is_meta:
        return
    expected = _filled(value, dtype, tuple(tensor.shape)).to(tensor.dtype)
    if not bit_equal(tensor, expected):
        raise Misfit(f"it holds something else than {value!r}")
