"""Errors about weights of other libraries: their names, and what cannot be told of their files."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING

from registry.errors import ZooError
from zoo.errors.weights import WeightsError
from zoo.messages import some

if TYPE_CHECKING:
    from zoo.weights.keymaps.plan import KeyProblem


class AlignmentError(WeightsError):
    """The graph of an ONNX file from elsewhere cannot be laid beside that of the model; nothing was loaded.

    Attributes:
        reason: what was found and what was expected.
        in_file: the first node of the file that does not fit, or empty.
        in_model: the first layer of the model that does not, or empty.
        remedy: what to do, or empty.
        fresh: the parts without which it would be; empty if there are no such.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        reason: str,
        in_file: str = "",
        in_model: str = "",
        remedy: str = "",
        fresh: Sequence[str] = (),
    ) -> None:
        self.reason = reason
        self.in_file = in_file
        self.in_model = in_model
        self.remedy = remedy
        self.fresh = tuple(fresh)
        sides = (("the first in the file is", in_file), ("the first in the model is", in_model))
        told = [f"{where} {what}" for where, what in sides if what]
        found = f"{reason}{': ' if told else ''}{'; '.join(told)}"
        super().__init__(path, f"{found}; {remedy}" if remedy else found)

    def advising(self, remedy: str) -> AlignmentError:
        """Return the same error with another remedy, none for who has tried what it advises."""
        return AlignmentError(self.path, self.reason, self.in_file, self.in_model, remedy, self.fresh)


class KeymapError(WeightsError):
    """A keymap cannot translate these tensors, or not for this model; nothing was changed.

    Attributes:
        path: the file; empty for tensors that come from none.
        keymap: the library whose names it knows.
        reason: what was found and what was expected.
        problems: every key that is at fault, where keys are.
        remedy: what to do, or empty.
        fresh: the parts without which they would fit; empty if there are no such.
    """

    def __init__(
        self,
        keymap: str,
        reason: str,
        problems: Sequence[KeyProblem] = (),
        path: str | PathLike[str] = "",
        remedy: str = "",
        fresh: Sequence[str] = (),
    ) -> None:
        self.keymap = keymap
        self.reason = reason
        self.problems = tuple(problems)
        self.remedy = remedy
        self.fresh = tuple(fresh)
        super().__init__(path, f"keymap {keymap!r}: {reason}" + (f"\n  {remedy}" if remedy else ""))

    def advising(self, remedy: str) -> KeymapError:
        """Return the same error with another remedy."""
        return KeymapError(self.keymap, self.reason, self.problems, self.path, remedy, self.fresh)


class RuleError(ZooError):
    """A rule of a keymap, or a set of them, cannot be: told where it is written, before any tensor is seen.

    Attributes:
        rule: the rule, or the pattern, that is at fault.
        reason: what was found and what was expected.
    """

    def __init__(self, rule: str, reason: str) -> None:
        self.rule = rule
        self.reason = reason
        super().__init__(f"{rule}: {reason}")


class SeveralWeightsError(WeightsError):
    """A file holds the weights of several models, or of one at several times, and nobody says which are meant.

    Attributes:
        candidates: where they are; each can be asked for by ``within=``. None if it is one set, of which no part is
            called as was asked.
        within: what was asked for, if that is none of them.
    """

    def __init__(
        self, path: str | PathLike[str], candidates: Sequence[str], told: Sequence[str], within: str | None = None
    ) -> None:
        self.candidates = tuple(candidates)
        self.within = within
        asked = "" if within is None else f"{within!r} is none of them; "
        held = f"holds several sets of weights: {some(told, 10)}" if len(told) > 1 else f"holds weights in {some(told)}"
        if not self.candidates:
            begin = f" they begin with {some(told)}: pick one of these, or" if told else ""
            super().__init__(path, f"has no names that begin with {f'{within}.'!r};{begin} leave within= out")
            return
        pick = f"within={self.candidates[-1]!r} (--within {shlex.quote(self.candidates[-1])})"
        super().__init__(path, f"{held}; {asked}say which: {pick}")


class SeveralFitsError(WeightsError):
    """A file fits a model in several ways that give different models, and nothing tells which is right.

    Attributes:
        ways: the ways, in words.
    """

    def __init__(self, path: str | PathLike[str], ways: Sequence[str]) -> None:
        self.ways = tuple(ways)
        told = "; or ".join(self.ways)
        super().__init__(path, f"fits in {len(self.ways)} ways that are not the same: {told}; say which: keymap=")
