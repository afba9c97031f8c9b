"""Groups: the parameters of a model for an optimiser, by part, by depth, and with or without weight decay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from registry import nearest
from zoo.errors import UnknownNameError, ZooError
from zoo.kinds import AUX
from zoo.sources import stages

if TYPE_CHECKING:
    from zoo.model import Model


def param_groups(
    model: Model,
    lr: float | None,
    weight_decay: float | None,
    layer_decay: float | None,
    options: Mapping[str, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Return the groups of :meth:`zoo.Model.param_groups`, where the parameters are told."""
    if layer_decay is not None and not 0 < layer_decay <= 1:
        raise ZooError(f"found layer_decay={layer_decay!r}; expected a number above 0 and up to 1")
    parts = dict(model.named_children())
    for name in options:
        if name not in parts:
            raise UnknownNameError("part", name, tuple(parts), nearest(name, parts))
    stated = {"lr": lr, "weight_decay": weight_decay}
    common = {key: value for key, value in stated.items() if value is not None}
    levels = list(_parts(parts) if layer_decay is None else _levels(model, parts))
    top = sum(part != AUX for part, _, _ in levels) - 1
    groups: dict[str, dict[str, Any]] = {}
    seen: set[int] = set()
    for height, (part, name, parameters) in enumerate(levels):
        group = {**common, **options.get(part, {})}
        if layer_decay is not None:
            if "lr" not in group:
                raise ZooError(f"layer_decay needs a learning rate to scale; found none for {part!r}; state lr=…")
            group["lr"] *= layer_decay ** max(0, top - height)  # auxiliary heads come last, and are no deeper
        for parameter in parameters:
            if parameter.requires_grad and id(parameter) not in seen:
                exempt = weight_decay is not None and parameter.dim() < 2
                title = f"{name}, no decay" if exempt else name
                own = {"name": title, "params": [], **group, **({"weight_decay": 0.0} if exempt else {})}
                groups.setdefault(title, own)["params"].append(parameter)
            seen.add(id(parameter))
    return list(groups.values())


def _parts(parts: Mapping[str, nn.Module]) -> Iterator[tuple[str, str, list[nn.Parameter]]]:
    for name, part in parts.items():
        yield name, name, list(part.parameters())


def _levels(model: Model, parts: Mapping[str, nn.Module]) -> Iterator[tuple[str, str, list[nn.Parameter]]]:
    """Give the parameters by depth, the lowest first: the stages of the backbone, then the other parts."""
    for name, part in parts.items():
        own = dict(part.named_parameters(name))
        if name != "backbone":
            if own:
                yield name, name, list(own.values())
            continue
        found = {stage: needed.parameters for stage, needed in stages(model, name).items() if needed.parameters}
        idle = own.keys() - frozenset().union(*found.values())
        for number, (stage, names) in enumerate(found.items(), start=1):
            last = number == len(found)
            taken = [p for n, p in own.items() if n in names or (last and n in idle)]
            yield name, f"{name}.{stage}", taken
