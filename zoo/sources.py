"""Sources: which parameters and modules a feature is computed from, found by running the model without its weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from registry import nearest
from zoo.errors import PartError, UnknownNameError
from zoo.ghost import ghost, ghost_input, haunting
from zoo.kinds import PARTS, output_features
from zoo.layers.sized import predict

if TYPE_CHECKING:
    from zoo.model import Model


@dataclass(frozen=True)
class Sources:
    """What a feature is computed from.

    Attributes:
        parameters: names of parameters.
        modules: names of modules, those that have no parameters and those that hold others included. One that is
            called for something else, too, counts only if a parameter of its own is among ``parameters``.
    """

    parameters: frozenset[str] = frozenset()
    modules: frozenset[str] = frozenset()

    def __or__(self, other: Sources) -> Sources:
        return Sources(self.parameters | other.parameters, self.modules | other.modules)

    def __sub__(self, other: Sources) -> Sources:
        return Sources(self.parameters - other.parameters, self.modules - other.modules)

    def within(self, part: str) -> Sources:
        """Return those that are in one part."""
        start = f"{part}."
        return Sources(
            frozenset(n for n in self.parameters if n.startswith(start)),
            frozenset(n for n in self.modules if n == part or n.startswith(start)),
        )


def feature_names(model: Model) -> dict[str, tuple[str, str]]:
    """Return the features that can be named: ``"backbone.stage3"`` → ``("backbone", "stage3")``, in their order."""
    parts = {kind: getattr(model, kind) for kind in PARTS if getattr(model, kind) is not None}
    return {
        f"{kind}.{feature.name}": (kind, feature.name)
        for kind, part in parts.items()
        for feature in (output_features(part) or ())
    }


def alike(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """Return the features and modules that a name may have meant, the best first: those that end so, then lookalikes.

    >>> alike("stage2", ["backbone.stage1", "backbone.stage2", "backbone.layer1.stage2.conv"])
    ('backbone.stage2',)
    """
    paths = sorted(known, key=lambda path: path.count("."))
    ending = [path for path in paths if path.endswith(f".{name}")]
    last = {path.rpartition(".")[2]: path for path in reversed(paths)}
    return tuple(ending[:3]) or nearest(name, paths) or tuple(last[each] for each in nearest(name, last))


def stages(model: Model, part: str) -> dict[str, Sources]:
    """Return for each feature of a part what in this part it needs and no feature before it does.

    Of a backbone these are its stages, the stem being in the first.

    Raises:
        PartError: the model cannot be run on the meta device.
    """
    graph = _Graph.of(model, last=part)
    found: dict[str, Sources] = {}
    before = Sources()
    for name, nodes in graph.features[part].items():
        needed = graph.sources(nodes).within(part)
        found[name] = needed - before
        before |= needed
    return found


def sources(model: Model, name: str) -> Sources:
    """Return all that a feature, or what a module gives, is computed from, in whichever part it is.

    Args:
        model: the model.
        name: ``"backbone.stage3"``, ``"backbone.layer1.0"``, ``"neck"``.

    Raises:
        UnknownNameError: there is neither such a feature nor such a module.
        PartError: the model cannot be run on the meta device, or the module takes no part when it is run.
    """
    features, modules = feature_names(model), dict(model.named_modules())
    if name not in features and (not name or name not in modules):
        raise UnknownNameError("feature", name, list(features), alike(name, [*features, *filter(None, modules)]))
    part = name.partition(".")[0]
    graph = _Graph.of(model, last=part)
    if name in features:
        return graph.sources(graph.features[part][features[name][1]])
    calls = graph.calls.get(name)
    if not calls:
        raise PartError(name, "is not called when the model runs, so that nothing is computed from it")
    return graph.sources({node for call in calls for node in call})


class _Graph:
    """The graph of autograd of one run.

    Attributes:
        features: for each part, the nodes that gave each of its features.
        calls: for each module, for each of its calls, the nodes that gave its output.
    """

    def __init__(self) -> None:
        self.features: dict[str, dict[str, set[Any]]] = {}
        self.calls: dict[str, list[set[Any]]] = {}
        self._names: dict[int, str] = {}
        self._owners: dict[str, set[str]] = {}

    @classmethod
    def of(cls, model: Model, last: str) -> _Graph:
        """Run a model's ghost in training mode, up to one of its parts."""
        graph = cls()
        try:
            with haunting(), torch.enable_grad():
                twin = graph._watched(ghost(model))
                graph._run(twin, ghost_input(model).requires_grad_().clone(), last)
        except Exception as error:  # whatever it is that a part raises
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise PartError(
                f"model.{last}", f"cannot be run on the meta device to find its stages: {reason}"
            ) from error
        return graph

    def sources(self, nodes: Iterable[Any]) -> Sources:
        """Walk back from nodes to all that they are computed from."""
        waiting, seen = list(nodes), set(nodes)
        parameters: set[str] = set()
        while waiting:
            node = waiting.pop()
            variable = getattr(node, "variable", None)
            if variable is not None and id(variable) in self._names:
                parameters.add(self._names[id(variable)])
            before = {each for each, _ in node.next_functions if each is not None} - seen
            seen |= before
            waiting += before
        wholly = {path for path, calls in self.calls.items() if seen.issuperset(set().union(*calls))}
        owners = set().union(*(self._owners[name] for name in parameters)) if parameters else set()
        return Sources(frozenset(parameters), frozenset(wholly | owners))

    def _watched(self, twin: Model) -> Model:
        for path, module in twin.named_modules():
            module.training = True  # a dropout that does nothing could not be told from what is before it
            module.register_forward_hook(self._recorder(path))
            for name, parameter in module.named_parameters(path, recurse=False):
                self._owners.setdefault(self._names.setdefault(id(parameter), name), set()).add(path)
        return twin

    def _recorder(self, path: str) -> Any:
        def record(_module: nn.Module, _given: Any, output: Any) -> None:
            nodes = set(_nodes(output))
            if nodes:
                self.calls.setdefault(path, []).append(nodes)

        return record

    def _run(self, twin: Model, x: torch.Tensor, last: str) -> None:
        given: Any = x
        for kind in PARTS:
            part = getattr(twin, kind)
            if part is not None:
                given = predict(part, given, x.shape[2:]) if kind == "head" else part(given)
                declared = output_features(part) or ()
                if declared:
                    pairs = zip(declared, given, strict=True)
                    self.features[kind] = {feature.name: set(_nodes(tensor)) for feature, tensor in pairs}
            if kind == last:
                return


def _nodes(output: Any) -> Iterator[Any]:
    for tensor in pytree.tree_leaves(output):
        if isinstance(tensor, torch.Tensor) and tensor.grad_fn is not None:
            yield tensor.grad_fn
