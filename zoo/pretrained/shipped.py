"""Shipped: trained weights in a file beside this one, described by a JSON file of the same name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Shipped:
    """Trained weights that are installed with their package.

    Attributes:
        model: the named model that they are for.
        path: the artifact.
        sha256: the hash of the artifact's bytes; loading checks it.
    """

    model: str
    path: Path
    sha256: str

    @classmethod
    def beside(cls, description: Path) -> Shipped:
        """Read the description of an artifact, which is the file of the same name that ends in ``.safetensors``."""
        told = json.loads(description.read_text())
        return cls(told["model"], description.with_suffix(".safetensors"), told["sha256"])
