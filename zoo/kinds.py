"""What a backbone, neck, bottleneck, head, model, format or pretrained record must offer, and one Registry for each.

Nothing here imports torch: listing what is installed has to stay instant.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from registry import Registry, Signature, SignatureError

if TYPE_CHECKING:
    import torch

    from zoo.features import Feature
    from zoo.model import Model
    from zoo.weights.checkpoint import Checkpoint

DISTRIBUTION = "zoo-torch"
"""The distribution that ships zoo; its names are never shadowed."""

OFFERED = ("in_channels", "in_features", "in_size")
"""Parameters that the builder fills in from the stage before.

``in_features`` is the tuple of :class:`~zoo.features.Feature` that come in, ``in_channels`` and ``in_size`` are the
channels and the spatial size (or None) of the last one. A backbone gets the input of the model as its one feature.
"""

PARTS = ("backbone", "neck", "bottleneck", "head")
"""The four kinds of component, in the order in which data passes through them."""


class Component(Protocol):
    """What a backbone, neck or bottleneck builds: a module that takes and gives features.

    A backbone's ``forward`` takes the input tensor ``(N, C, *spatial)``; the others take a tuple of tensors, one for
    each incoming feature. All return a tuple of tensors, one for each entry of ``features``. A head takes the tuple,
    returns the predictions and needs no ``features``.
    """

    features: tuple[Feature, ...]


class Format(Protocol):
    """One weights file format; entries are registered under the file suffix, without its dot."""

    def write(self, model: Model, checkpoint: Checkpoint, path: Path) -> None:
        """Write an artifact, whole or not at all."""

    def read(self, path: Path) -> Checkpoint:
        """Read a file, running nothing of it.

        Raises:
            WeightsError: the file is not of this format, or unsafe.
        """


@runtime_checkable
class Pretrained(Protocol):
    """Trained weights for a named model, registered as ``model.name``: ``lenet.digits``."""

    model: str
    path: Path
    sha256: str


def _component_fault(loaded: Any) -> str | None:
    if not callable(loaded):
        return f"it is {type(loaded).__name__!r}, not a class or function"
    try:
        signature = Signature.of(loaded, OFFERED)
    except SignatureError as fault:
        return fault.reason
    if any(p.name == "type" for p in signature.parameters):
        return "it has a parameter 'type', which in a spec is the name of the component"
    return None


def _model_fault(loaded: Any) -> str | None:
    if not isinstance(loaded, Mapping) or "backbone" not in loaded:
        return f"it is {type(loaded).__name__!r}, not a spec: a dict with a 'backbone'"
    return None


def _format_fault(loaded: Any) -> str | None:
    lacking = [name for name in ("read", "write") if not callable(getattr(loaded, name, None))]
    return f"it has no method {' and no method '.join(lacking)}" if lacking else None


def _pretrained_fault(loaded: Any) -> str | None:
    return None if isinstance(loaded, Pretrained) else "it lacks model, path or sha256"


backbones = Registry("zoo.backbones", kind="backbone", builtin=DISTRIBUTION, check=_component_fault)
necks = Registry("zoo.necks", kind="neck", builtin=DISTRIBUTION, check=_component_fault)
bottlenecks = Registry("zoo.bottlenecks", kind="bottleneck", builtin=DISTRIBUTION, check=_component_fault)
heads = Registry("zoo.heads", kind="head", builtin=DISTRIBUTION, check=_component_fault)
models = Registry("zoo.models", kind="model", builtin=DISTRIBUTION, check=_model_fault)
formats = Registry("zoo.formats", kind="format", builtin=DISTRIBUTION, check=_format_fault)
pretrained = Registry("zoo.weights", kind="weights", builtin=DISTRIBUTION, check=_pretrained_fault)

COMPONENTS: Mapping[str, Registry] = {
    "backbone": backbones,
    "neck": necks,
    "bottleneck": bottlenecks,
    "head": heads,
}
"""The registry of each kind of component."""


def output_features(module: torch.nn.Module) -> tuple[Feature, ...] | None:
    """Return the features that a built part declares, or None if it declares none that can be used."""
    from zoo.features import Feature

    declared = getattr(module, "features", None)
    if isinstance(declared, tuple) and declared and all(isinstance(f, Feature) for f in declared):
        return declared
    return None
