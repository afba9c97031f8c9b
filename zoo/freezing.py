"""Freezing: which parameters and modules of a model stop training, by part, by module, by stage or up to one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from torch import nn

from zoo.errors import UnknownNameError, ZooError
from zoo.sources import Sources, alike, feature_names, sources, stages

if TYPE_CHECKING:
    from zoo.model import Model

_MARK = "_zoo_frozen"  # on the module: it goes where the module goes


def chosen(model: Model, names: Iterable[str], until: str | None) -> Sources:
    """Return the parameters and modules that names stand for.

    Args:
        model: the model.
        names: parts, features of parts or modules below them; none, without ``until``, means all parts.
        until: a feature or module; all that it is computed from.

    Raises:
        UnknownNameError: there is no such thing.
        ZooError: what is given is no name.
        PartError: a feature is named and the model cannot be run on the meta device.
    """
    found = Sources() if until is None else sources(model, until)
    features = feature_names(model)
    modules = dict(model.named_modules(remove_duplicate=False))
    everything = tuple(name for name, _ in model.named_children())
    for name in tuple(names) or (() if until is not None else everything):
        if not isinstance(name, str):
            raise ZooError(f"found {name!r} to freeze or unfreeze; expected names: model.freeze('backbone', 'neck')")
        if name in features:
            part, feature = features[name]
            found |= stages(model, part)[feature]
        elif name and name in modules:
            below = [path for path in modules if path == name or path.startswith(f"{name}.")]
            found |= Sources(frozenset(n for n, _ in modules[name].named_parameters(name)), frozenset(below))
        else:
            raise UnknownNameError("part", name, everything, alike(name, [*features, *filter(None, modules)]))
    return found


def freeze(model: Model, what: Sources) -> None:
    """Stop training parameters and put modules into evaluation mode, to stay there."""
    for name in what.parameters:
        model.get_parameter(name).requires_grad_(False)
    for path in what.modules:
        module = model.get_submodule(path)
        module.training = False
        module.__dict__[_MARK] = True


def unfreeze(model: Model, what: Sources) -> None:
    """Take that back; modules get the mode of the model."""
    for name in what.parameters:
        model.get_parameter(name).requires_grad_(True)
    for path in what.modules:
        module = model.get_submodule(path)
        module.training = model.training
        module.__dict__.pop(_MARK, None)


def keep_frozen(model: nn.Module) -> None:
    """Put modules that are frozen back into evaluation mode."""
    for module in model.modules():
        if _MARK in module.__dict__:
            module.training = False
