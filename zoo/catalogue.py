"""The catalogue: what is installed, by name; listing imports neither torch nor any plugin."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry import Entry, Registry, UnknownNameError, ZooError, nearest
from zoo import kinds

if TYPE_CHECKING:
    from zoo.features import Feature


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of the models that fit a shell pattern, sorted.

    >>> list_models("*-lite")
    ['resnet-lite', 'vgg-lite']
    """
    return kinds.models.names(pattern)


def list_components(kind: str, pattern: str = "*") -> list[str]:
    """Return the names of the components of one kind that fit a shell pattern, sorted.

    Args:
        kind: ``"backbone"``, ``"neck"``, ``"bottleneck"`` or ``"head"``; the plural will do.
        pattern: a shell pattern.

    Raises:
        UnknownNameError: there is no such kind.

    >>> list_components("backbones")
    ['lenet', 'mlp', 'resnet_lite', 'vgg_lite']
    """
    return _registry(kind, kinds.COMPONENTS).names(pattern)


def list_weights(model: str = "*") -> list[str]:
    """Return the trained weights that are installed for the models that fit a shell pattern, as ``model.name``, sorted.

    >>> list_weights("lenet")
    ['lenet.digits']
    """
    return kinds.pretrained.names(f"{model}.*")


def entries(kind: str | None = None, pattern: str = "*") -> list[Entry]:
    """Return the entries of one kind, or of all, that fit a shell pattern, in order; nothing is imported.

    Raises:
        UnknownNameError: there is no such kind.
    """
    registries = kinds.KINDS.values() if kind is None else [_registry(kind, kinds.KINDS)]
    return [entry for registry in registries for entry in registry.entries(pattern)]


@dataclass(frozen=True)
class Description:
    """What there is to know of one model or component.

    Attributes:
        kind: ``"model"``, ``"backbone"``, ….
        name: its name.
        provider: the distribution that it comes from.
        version: the version of that distribution.
        target: where it is, ``package.module:attribute``.
        signature: what a spec can state, a line a parameter: ``width: int > 0 = 64``; of a model, its parts.
        doc: its docstring; of a model, that of the file it stands in.
        features: what comes out: of a backbone at its defaults for a 3×224×224 input, of a model before its head; None
            where that depends on what goes in.
        spec: of a model, its normalised spec; None otherwise.
    """

    kind: str
    name: str
    provider: str
    version: str
    target: str
    signature: tuple[str, ...]
    doc: str
    features: tuple[Feature, ...] | None
    spec: dict[str, Any] | None = None


def describe(name: str) -> list[Description]:
    """Describe everything that has a name, for a name may be a model, a backbone and a bottleneck at once.

    Raises:
        UnknownNameError: nothing has this name.
        BrokenEntryError: what has it cannot be imported.

    >>> [found.kind for found in describe("mlp")]
    ['model', 'backbone', 'bottleneck', 'head']
    """
    described = {"model": kinds.models, **kinds.COMPONENTS}
    found = [(registry, registry.find(name)) for registry in described.values() if name in registry]
    if not found:
        known = sorted({known for registry in described.values() for known in registry.names()})
        what = "model or component"
        raise UnknownNameError(what, name, known, nearest(name, known), elsewhere=kinds.elsewhere(what, name))
    return [_describe_model(entry) if entry.kind == "model" else _describe_component(r, entry) for r, entry in found]


def _describe_model(entry: Entry) -> Description:
    from zoo.builder import compose
    from zoo.spec import named

    model = compose(named(entry.qualified_name), "meta")
    spec = model.spec
    signature = tuple(f"{kind}: {spec[kind]['type']}" for kind in kinds.PARTS if spec[kind])
    signature += tuple(
        f"aux {name}: {aux['head']['type']} on {aux['feature']}" for name, aux in spec.get("aux", {}).items()
    )
    doc = inspect.getdoc(sys.modules.get(entry.target.partition(":")[0])) or ""
    return Description(
        entry.kind, entry.name, entry.provider, entry.version, entry.target, signature, doc, model.features, spec
    )


def _describe_component(registry: Registry, entry: Entry) -> Description:
    entry, component = registry.resolve(entry.qualified_name)
    features = _default_features(entry) if entry.kind == "backbone" else None
    signature = tuple(str(p) for p in kinds.signature_of(component).parameters)
    doc = inspect.getdoc(component) or ""
    return Description(entry.kind, entry.name, entry.provider, entry.version, entry.target, signature, doc, features)


def _default_features(entry: Entry) -> tuple[Feature, ...] | None:
    from zoo.builder import compose

    spec: dict[str, Any] = {"input": {"channels": 3, "size": [224, 224]}, "backbone": {"type": entry.qualified_name}}
    try:
        return compose(spec, "meta").features
    except ZooError:  # it has parameters without a default, or does not take such an input
        return None


def _registry(kind: str, among: Mapping[str, Registry]) -> Registry:
    if kind in among:
        return among[kind]
    if kind.removesuffix("s") in among:
        return among[kind.removesuffix("s")]
    raise UnknownNameError("kind", kind, tuple(among), nearest(kind, among))
