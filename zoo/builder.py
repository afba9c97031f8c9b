"""The builder: from a checked spec to a composed Model; it reaches every component through the registry."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn

from registry import nearest
from registry.signature import to_json
from zoo import kinds
from zoo.budget import Budget, Meter
from zoo.errors import PartError, ShapeError, ZooError
from zoo.features import Feature
from zoo.kinds import output_features
from zoo.model import Model
from zoo.parts import Part, replaced
from zoo.spec import Aux, Input, ParsedSpec, Spec, parse


def compose(spec: Spec, device: torch.device | str | None = None) -> Model:
    """Build the model that a spec describes, with fresh weights.

    The parts are first composed on the meta device, so that parts that do not fit, or that are too large for this
    machine, are found before a weight is allocated.

    Args:
        spec: a complete spec.
        device: where the weights go; torch's default device unless given.

    Raises:
        SpecError: a name or a parameter is wrong.
        ShapeError: two parts do not fit.
        PartError: a component breaks the contract of its kind.
        SizeBudgetError: the model would be too large.
    """
    parsed = parse(spec)
    target = torch.get_default_device() if device is None else torch.device(device)
    budget = Budget.of_machine(allocated=target.type != "meta")
    model = assemble(parsed, "meta", initialise=False, budget=budget)
    return model if target.type == "meta" else assemble(parsed, target)


def assemble(
    parsed: ParsedSpec,
    device: torch.device | str,
    *,
    initialise: bool = True,
    budget: Budget | None = None,
    only: Container[str] | None = None,
) -> Model:
    """Build the parts of a checked spec one after the other on a device, each told what the one before gives.

    Args:
        parsed: the spec.
        device: where the weights go.
        initialise: False where the weights are about to be replaced, so that a part need not find good ones.
        budget: how large the model may become; None where this spec was composed before.
        only: the parts to build there, ``"head"``; the others are built on the meta device. None means all.

    Raises:
        ShapeError: two parts do not fit.
        PartError: a component breaks the contract of its kind.
        SizeBudgetError: the model would be too large.
    """
    meter = None if budget is None else Meter(budget)
    features: tuple[Feature, ...] = (_input_feature(parsed.input),)
    before = "the input"
    modules: dict[str, nn.Module] = {}
    given: dict[str, tuple[Feature, ...]] = {}
    with torch.device(device):
        for part in parsed.parts:
            where = f"{part.where} after {before}"
            real = only is None or part.kind in only
            with (
                meter.watching(where, trusted=bool(part.entry.namespace)) if meter else nullcontext(),
                nullcontext() if real else torch.device("meta"),
            ):
                module = modules[part.kind] = _build_part(part, features, before, initialise and real)
            if part.kind == "head":
                break
            given[part.kind] = features = output_features(module) or ()
            before = f"{part.kind} {part.type}"
        taps, extra = {}, {}
        for aux in parsed.aux:
            taps[aux.name] = _tap(aux, given)
            feature = given[aux.part][taps[aux.name][1]]
            where = f"{aux.head.where} on {aux.feature}"
            real = only is None or kinds.AUX in only
            with (
                meter.watching(where, trusted=bool(aux.head.entry.namespace)) if meter else nullcontext(),
                nullcontext() if real else torch.device("meta"),
            ):
                source = f"{aux.part} feature {feature.name}"
                extra[aux.name] = _build_part(aux.head, (feature,), source, initialise and real)
    if meter is not None:
        weighed = {part.where: modules[part.kind] for part in parsed.parts if part.kind in modules}
        meter.weigh({**weighed, **{aux.head.where: extra[aux.name] for aux in parsed.aux}})
    return Model(modules, aux=extra, taps=taps, spec=parsed.dump(), lock=parsed.lock, features=features)


def _input_feature(source: Input) -> Feature:
    return Feature("input", source.channels, 1, source.size)


def _build_part(part: Part, features: tuple[Feature, ...], before: str, initialise: bool) -> nn.Module:
    offers = {
        "in_channels": features[-1].channels,
        "in_features": features,
        "in_size": features[-1].size,
        kinds.INITIALISE: initialise,
    }
    for name, stated in part.stated.items():
        _check_stated(part, name, stated, offers[name], features, before)

    def maker(nested: Part, _: str) -> partial[nn.Module]:
        return partial(_build_part, nested, before=before, initialise=initialise)

    values = replaced(part.arguments.values, Part, maker)
    try:
        module = part.component(**values, **{name: offers[name] for name in part.signature.offered})
    except ShapeError as error:
        if any(error.where.startswith(f"{nested.where} after") for nested in part.nested):
            raise
        raise ShapeError(error.found, error.expected, f"{part.where} after {before}") from error
    except ZooError:
        raise
    except Exception as error:  # whatever a component raises, its provider is to be named
        reason = str(error).strip().partition("\n")[0]
        raise PartError(_provided(part), f"building it raised {type(error).__name__}: {reason}") from error
    if not isinstance(module, nn.Module):
        raise PartError(_provided(part), f"it built {type(module).__name__!r}, not a torch.nn.Module")
    if part.kind != "head" and output_features(module) is None:
        raise PartError(
            _provided(part),
            "what it builds has no 'features', a tuple of zoo.features.Feature that says what comes out",
        )
    return module


def _tap(aux: Aux, given: Mapping[str, tuple[Feature, ...]]) -> tuple[str, int]:
    """Return which part an auxiliary head listens to, and at which of its features."""
    where = f"spec.aux.{aux.name}.feature"
    known = [f"{kind}.{feature.name}" for kind, features in given.items() for feature in features]
    if aux.feature not in known:
        guess = nearest(aux.feature, known)
        hint = f" (did you mean {' or '.join(guess)}?)" if guess else ""
        raise ShapeError(f"the feature {aux.feature!r}", f"one of {', '.join(known)}{hint}", where)
    names = [feature.name for feature in given[aux.part]]
    return aux.part, names.index(aux.feature.removeprefix(f"{aux.part}."))


def _check_stated(part: Part, name: str, stated: Any, true: Any, features: tuple[Feature, ...], before: str) -> None:
    # torch.nn.Linear calls its width in_features: a number there is meant so, and is right if the width is.
    truths = [to_json(true)] + ([features[-1].channels] if name == "in_features" else [])
    if json.dumps(to_json(stated), default=repr) not in [json.dumps(truth) for truth in truths]:
        given = ", ".join(f"{f.name!r} {f.shape_text}" for f in features)
        raise ShapeError(
            f"{name}={stated!r} stated",
            f"{name}={truths[-1]!r}, for {before} gives {given}; leave it out and it is filled in",
            part.where,
        )


def _provided(part: Part) -> str:
    return f"{part.where} of {part.entry.source}"
