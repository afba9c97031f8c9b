"""What a backbone, neck, bottleneck, head, model, format, keymap or pretrained record must offer; a Registry for each.

Nothing here imports torch: listing what is installed has to stay instant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from registry import Contract, Registry, RegistryError, Signature, SignatureError

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

INITIALISE = "initialise"
"""One more parameter that the builder fills in, never a spec: False where the weights are about to be replaced.

A component that can start from weights of its own, or whose initialisation is slow, leaves them out then.
"""

PARTS = ("backbone", "neck", "bottleneck", "head")
"""The four kinds of component, in the order in which data passes through them."""

AUX = "aux"
"""Where a spec and a model have their auxiliary heads, which only take part in training."""

SECTIONS = (*PARTS, AUX)
"""What of a model holds weights."""


class Component(Protocol):
    """What a backbone, neck or bottleneck builds: a module that takes and gives features.

    A backbone's ``forward`` takes the input tensor ``(N, C, *spatial)``; the others take a tuple of tensors, one for
    each incoming feature. All return a tuple of tensors, one for each entry of ``features``. A head takes the tuple,
    returns the predictions and needs no ``features``.

    A head whose predictions depend on the size of the input has an attribute ``needs_size = True``: its ``forward``
    takes that size, ``x.shape[2:]``, as a second argument ``size``. A head may say what comes out in an attribute
    ``outputs``, a dict from a name to the shape after the batch, one for each tensor in order, for the description in
    files: ``{"logits": (21, "height", "width")}``. The names of the input's axes stand for its sizes.
    """

    features: tuple[Feature, ...]


class Namespace(Protocol):
    """A library with many models of its own, usable in specs as ``namespace:model``: ``timm:resnet50d``.

    Registered in ``zoo.providers`` under the name of the namespace. Both methods may import the library; nothing is
    asked of them before a spec or a pattern names the namespace.

    One whose checkpoints are to come home by the library's own names has besides a method ``whole(kind, name)``. It
    returns the library's model as its checkpoints have it, classifier included, on the default device, in each form
    that they come in: with a classifier, and without. Where that takes other inputs than three channels of 224×224, a
    method ``made_for(kind, name)`` tells which, ``(channels, *size)``.

    Attributes:
        distribution: the installed distribution that the models come from, for the lock.
    """

    distribution: str

    def names(self, kind: str) -> Sequence[str]:
        """Return the names of the components of one kind, without the namespace."""

    def component(self, kind: str, name: str) -> Callable[..., Any]:
        """Return one of them: what an entry point of that kind would point at."""


class Format(Protocol):
    """One weights file format; entries are registered under the file suffix, without its dot.

    One whose ``write`` cannot do without the model, because the file says how to compute, has besides an attribute
    ``needs_model = True``. One that writes several files has a method ``tidy(path, kept)``, which removes what earlier
    artifacts at ``path`` had and is not among the names ``kept``. All files are written into the folder of ``path`` and
    refer to each other by name alone: ``zoo.convert`` writes them into another folder and moves them.
    """

    def write(self, model: Model | None, checkpoint: Checkpoint, path: Path) -> Path | None:
        """Write an artifact, whole or not at all.

        What a user may choose besides is a keyword-only parameter with a default: ``zoo.save`` hands it over by name.

        Args:
            model: the model whose tensors these are; None where only tensors are known, of a file without a spec.
            checkpoint: the tensors, and what the file is to say of them.
            path: the file.

        Returns:
            The file to load, if that is not ``path``.
        """

    def read(self, path: Path, *, mapped: bool = True) -> Checkpoint:
        """Read a file, running nothing of it.

        Args:
            path: the file.
            mapped: whether tensors may stay in the file until they are used; False reads every byte into memory that
                nobody else can change.

        Raises:
            WeightsError: the file is not of this format, or unsafe.
        """


@runtime_checkable
class Pretrained(Protocol):
    """Trained weights for a named model, registered as ``model.name``: ``lenet.digits``."""

    model: str
    path: Path
    sha256: str


@runtime_checkable
class Keymap(Protocol):
    """A two-way table between the names of another library and ours: a :class:`zoo.weights.keymaps.keymap.Keymap`."""

    library: str
    tables: tuple[Any, ...]

    def to_ours(self, state: Mapping[str, Any], spec: Any) -> dict[str, torch.Tensor]:
        """Translate a state dict of the other library for a model of ours."""

    def to_theirs(self, model: Any, spec: Any = None) -> dict[str, torch.Tensor]:
        """Translate a model of ours to the names of the other library."""


def signature_of(component: Callable[..., Any]) -> Signature:
    """Return what a spec may state of a component, and what the builder offers it.

    Raises:
        SignatureError: its signature cannot serve as a schema.
    """
    known = _signatures.get(id(component))
    if known is None or known[0] is not component:
        known = _signatures[id(component)] = (component, Signature.of(component, (*OFFERED, INITIALISE)))
    return known[1]


_signatures: dict[int, tuple[Callable[..., Any], Signature]] = {}  # by identity: a component need not be hashable


def _component_fault(loaded: Any) -> str | None:
    if not callable(loaded):
        return f"it is {type(loaded).__name__!r}, not a class or function"
    try:
        signature = signature_of(loaded)
    except SignatureError as fault:
        return fault.reason
    if any(p.name == "type" for p in signature.parameters):
        return "it has a parameter 'type', which in a spec is the name of the component"
    return next((f"parameter {p.name!r} {why}" for p in signature.parameters if (why := p.fault)), None)


def _model_fault(loaded: Any) -> str | None:
    if not isinstance(loaded, Mapping) or "backbone" not in loaded:
        return f"it is {type(loaded).__name__!r}, not a spec: a dict with a 'backbone'"
    return None


def _format_fault(loaded: Any) -> str | None:
    lacking = [name for name in ("read", "write") if not callable(getattr(loaded, name, None))]
    return f"it has no method {' and no method '.join(lacking)}" if lacking else None


def _pretrained_fault(loaded: Any) -> str | None:
    return None if isinstance(loaded, Pretrained) else "it lacks model, path or sha256"


def _keymap_fault(loaded: Any) -> str | None:
    if isinstance(loaded, Keymap):
        return None
    return f"it is {type(loaded).__name__!r}, not a Keymap: zoo.weights.keymaps.keymap.Keymap(library, tables)"


def _namespace_fault(loaded: Any) -> str | None:
    lacking = [name for name in ("names", "component", "distribution") if not hasattr(loaded, name)]
    return f"it has no {' and no '.join(lacking)}" if lacking else None


CONTRACT = Contract("zoo.contract", 1)
"""What a plugin is written for, if it says so by an entry point ``1 = "its_package"`` in the group ``zoo.contract``."""


def elsewhere(kind: str, name: str) -> str:
    """Tell what a name is that no entry of one kind has, and what to write for it; empty if nothing is called so.

    >>> elsewhere("model", "gap")
    "'gap' is a neck, not a model; write zoo.build({'backbone': …, 'neck': 'gap'})"
    >>> elsewhere("backbone", "gap")
    "'gap' is a neck, not a backbone; write {'neck': 'gap'} in a spec"
    >>> elsewhere("model", "lenet:digits")
    "'lenet:digits' is a set of weights, not a model; write zoo.build('lenet', weights='digits')"
    """
    found: dict[str, str] = {}
    for other, registry in KINDS.items():
        spelt = name.replace(":", ".") if other == "weights" else name  # the command takes MODEL:WEIGHTS
        with suppress(RegistryError, ImportError):  # a library that is broken has no names
            if registry.candidates(spelt):
                found[other] = _to_write(other, spelt, kind)
    if not found and name.rpartition(".")[2] in formats and "." in name and kind != "file":
        return f"{name!r} is the name of a weights file, not {_one(kind)}; zoo identify {name} tells what it can be of"
    if not found:
        return ""
    return f"{name!r} is {' and '.join(map(_one, found))}, not {_one(kind)}; write {' or '.join(found.values())}"


def _one(kind: str) -> str:
    return "a set of weights" if kind == "weights" else f"a {kind}"


def _to_write(kind: str, name: str, wanted: str) -> str:
    """Return how a name of one kind is used, for who wanted one of another."""
    if kind == "model":
        part = f", or zoo.normalise({name!r})[{wanted!r}] for its {wanted} alone" if wanted in PARTS else ""
        return f"zoo.build({name!r}){part}"
    if kind == "weights":
        model, _, weights = name.rpartition(".")
        return f"zoo.build({model!r}, weights={weights!r})"
    if kind == "format":
        return f"'model.{name}', the name of a file"
    if kind == "keymap":
        return f"keymap={name!r}"
    if kind == "provider":
        kind, name = "backbone", f"{name}:NAME"
    if wanted != "model":
        return f"{{{kind!r}: {name!r}}} in a spec"
    before = "" if kind == "backbone" else "'backbone': …, "
    return f"zoo.build({{{before}{kind!r}: {name!r}}})"


_registry = partial(Registry, builtin=DISTRIBUTION, contract=CONTRACT, elsewhere=elsewhere)

providers = _registry("zoo.providers", kind="provider", check=_namespace_fault)
_components = partial(_registry, check=_component_fault, namespaces=providers)

backbones = _components("zoo.backbones", kind="backbone")
necks = _components("zoo.necks", kind="neck")
bottlenecks = _components("zoo.bottlenecks", kind="bottleneck")
heads = _components("zoo.heads", kind="head")
models = _registry("zoo.models", kind="model", check=_model_fault)
formats = _registry("zoo.formats", kind="format", check=_format_fault)
keymaps = _registry("zoo.keymaps", kind="keymap", check=_keymap_fault)
pretrained = _registry("zoo.weights", kind="weights", check=_pretrained_fault)

COMPONENTS: Mapping[str, Registry] = {
    "backbone": backbones,
    "neck": necks,
    "bottleneck": bottlenecks,
    "head": heads,
}
"""The registry of each kind of component."""

KINDS: Mapping[str, Registry] = {
    "model": models,
    **COMPONENTS,
    "weights": pretrained,
    "format": formats,
    "keymap": keymaps,
    "provider": providers,
}
"""Everything that can be listed, by the singular of its kind."""


def output_features(module: torch.nn.Module) -> tuple[Feature, ...] | None:
    """Return the features that a built part declares, or None if it declares none that can be used."""
    from zoo.features import Feature

    declared = getattr(module, "features", None)
    if isinstance(declared, tuple) and declared and all(isinstance(f, Feature) for f in declared):
        return declared
    return None
