"""advising: what does not fit a model but for its last parts is told with the command that converts the rest."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Any

from zoo import kinds
from zoo.errors import AlignmentError, KeymapError, TensorMismatchError
from zoo.weights.conversion.plan import Places
from zoo.weights.transfer.changes import stated_parts

_FLAGS = {
    "spec": "--spec",
    "keymap": "--keymap",
    "to_keymap": "--to-keymap",
    "within": "--within",
    "dtype": "--dtype",
    "allow_lossy": "--allow-lossy",
    "max_shard_size": "--shard-size",
    "weights": "--weights",
    "opset": "--opset",
    "force": "--force",
}
"""What the command calls the parameters that state something or are True."""


@contextmanager
def advising(places: Places, options: Mapping[str, Any]) -> Iterator[None]:
    """Advise, where a source fits without the last parts of the model, to convert it without them.

    Args:
        places: which file becomes which.
        options: what :func:`zoo.convert` was told.
    """
    try:
        yield
    except (AlignmentError, KeymapError, TensorMismatchError) as error:
        if not error.fresh:
            raise
        named = {*stated_parts(options.get("without", ()), "without"), *error.fresh}
        without = [kind for kind in kinds.SECTIONS if kind in named]
        call = f"without={without!r}"
        if isinstance(options.get("spec"), str | PathLike):
            call = _command(places, options, without)
        raise error.advising(f"{call} converts it without the {' and the '.join(without)}") from error


def _command(places: Places, options: Mapping[str, Any], without: Sequence[str]) -> str:
    """Return the command that does with a source what was asked for, but without some parts of the model."""
    words = ["zoo", "convert", str(places.source), str(places.target)]
    for name, flag in _FLAGS.items():
        value = options.get(name)
        if value:
            words += [flag] if value is True else [flag, str(value).removeprefix("torch.")]
    if options.get("dynamic_size") is not None:
        words.append("--dynamic-size" if options["dynamic_size"] else "--fixed-size")
    if not options.get("verify", True):
        words.append("--no-verify")
    return shlex.join([*words, *(word for part in without for word in ("--without", part))])
