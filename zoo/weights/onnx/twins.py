"""A graph whose weights are in a safetensors file beside it: are they still the two that were written together?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from zoo.errors import FileFormatError, StalePairError
from zoo.weights.checkpoint import METADATA_KEY, Artifact
from zoo.weights.dtypes import dtype_name
from zoo.weights.regions import Region
from zoo.weights.safetensors.header import read_header


def refuse_other_twin(
    file: BinaryIO, weights: Path, wanted: Iterable[Region], path: Path, fingerprint: str | None
) -> None:
    """Check, by the header alone, that a safetensors file is the one that a graph was written for.

    Args:
        file: the safetensors file.
        weights: how it is called in errors.
        wanted: what the graph takes from it.
        path: the ONNX file.
        fingerprint: of the tensors that the graph was written for, if it says so.

    Raises:
        StalePairError: it holds other tensors by its own account.
        FileFormatError: it is damaged, or has no tensor of that name, dtype and shape where the graph says.
    """
    size = file.seek(0, 2)
    file.seek(0)
    header = read_header(file, size, weights)
    text = header.metadata.get(METADATA_KEY)
    found = Artifact.parse(text, weights).fingerprint if text is not None else None
    if found is not None and fingerprint is not None and found != fingerprint:
        raise StalePairError(path, weights, fingerprint, found)
    held = {region.name: region for region in header.regions}
    for region in wanted:
        if held.get(region.name) != region:
            here = held.get(region.name)
            told = "has no tensor of this name" if here is None else f"has {_told(here)}"
            raise FileFormatError(
                path,
                f"{region.name!r} should be in {weights.name}: {_told(region)}; that file {told}. The two were not "
                "written together: save both again",
            )


def _told(region: Region) -> str:
    return f"{dtype_name(region.dtype)}{list(region.shape)} at byte {region.offset}"
