"""write: a checkpoint to a file of any format, with the options that the format takes."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import WeightsError
from zoo.weights.checkpoint import Checkpoint
from zoo.weights.reading import format_of

if TYPE_CHECKING:
    from zoo.model import Model


def write(model: Model | None, checkpoint: Checkpoint, path: Path, **options: Any) -> Path:
    """Write a checkpoint to a file; its suffix chooses the format.

    Args:
        model: the model whose tensors these are; None where only tensors are known.
        checkpoint: the tensors and their description.
        path: the file.
        options: keyword parameters of the format's ``write``.

    Returns:
        The file to load: ``path`` unless the format says otherwise.

    Raises:
        WeightsError: the format takes no such option, or the file cannot be written; what was there before is intact.
    """
    writer = format_of(path)
    parameters = inspect.signature(writer.write).parameters.values()
    taken = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    for name in options:
        if name not in taken:
            known = f"it takes {', '.join(taken)}" if taken else "it takes none"
            raise WeightsError(path, f"the format {path.suffix} has no option {name!r}; {known}")
    return writer.write(model, checkpoint, path, **options) or path
