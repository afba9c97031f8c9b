"""Model: the parts of a spec, composed into one nn.Module."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from registry import nearest
from zoo.errors import ShapeError, UnknownNameError, ZooError
from zoo.features import Feature
from zoo.kinds import PARTS
from zoo.layers.eager import is_eager
from zoo.record import Record

if TYPE_CHECKING:
    from zoo.weights.migration.report import MigrationReport


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode within a ``with`` block; each of its modules gets its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


class Model(nn.Module):
    """A backbone and, as the spec has it, a neck, a bottleneck and a head: an ordinary ``nn.Module``.

    Made by :func:`zoo.build` and :func:`zoo.load`, not by hand.

    Attributes:
        backbone: input tensor → tuple of tensors.
        neck: tuple → tuple, or None.
        bottleneck: tuple → tuple, or None.
        head: tuple → predictions, or None.
        features: what goes into the head; without a head, what the model returns.
        migration: how a file from elsewhere became this model; None for any other.

    Shape:
        ``(N, channels, *size)`` → what the head returns, ``(N, num_classes)`` for ``linear``; without a head a tuple of
        tensors, one for each of ``features``.
    """

    backbone: nn.Module
    neck: nn.Module | None
    bottleneck: nn.Module | None
    head: nn.Module | None
    migration: MigrationReport | None

    def __init__(
        self,
        parts: Mapping[str, nn.Module],
        *,
        spec: Mapping[str, Any],
        lock: Mapping[str, str],
        features: tuple[Feature, ...],
        record: Record | None = None,
    ) -> None:
        super().__init__()
        for kind in PARTS:
            self.register_module(kind, parts.get(kind))
        self._spec = copy.deepcopy(dict(spec))
        self._lock = dict(lock)
        self.features = features
        self.record = record
        self.migration = None

    @property
    def spec(self) -> dict[str, Any]:
        """The normalised spec: plain JSON, a copy."""
        return copy.deepcopy(self._spec)

    @property
    def lock(self) -> dict[str, str]:
        """The version of each distribution that provided a part, a copy."""
        return dict(self._lock)

    @property
    def record(self) -> Record | None:
        """What the weights were trained on and how inputs are prepared for them, or None."""
        return self._record

    @record.setter
    def record(self, record: Record | None) -> None:
        if record is not None and not isinstance(record, Record):
            raise ZooError(f"found a record of type {type(record).__name__!r}; expected zoo.Record(…) or None")
        self._record = record

    def forward(self, x: torch.Tensor) -> Any:
        if is_eager(x):
            self._check_input(x)
            self._keep_frozen()
        features = self.backbone(x)
        if self.neck is not None:
            features = self.neck(features)
        if self.bottleneck is not None:
            features = self.bottleneck(features)
        return features if self.head is None else self.head(features)

    def freeze(self, *names: str) -> Model:
        """Stop training parts: no gradients, and eval mode (BatchNorm statistics included) even through ``train()``.

        Args:
            names: parts or modules below them, ``"backbone"``, ``"backbone.layer1"``; none means all parts.

        Returns:
            The model itself.

        Raises:
            UnknownNameError: there is no such module.
        """
        for module in self._below(names):
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)
            module.training = False
            module._zoo_frozen = True  # type: ignore[assignment] # on the module: it goes where the module goes
        return self

    def unfreeze(self, *names: str) -> Model:
        """Take back what :meth:`freeze` did, for the same names or for some modules below them.

        Raises:
            UnknownNameError: there is no such module.
        """
        for module in self._below(names):
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(True)
            module.training = self.training
            module.__dict__.pop("_zoo_frozen", None)
        return self

    def train(self, mode: bool = True) -> Model:
        """Set training or evaluation mode; frozen parts stay in evaluation mode."""
        super().train(mode)
        self._keep_frozen()
        return self

    def param_groups(self, **options: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return optimiser groups, one for each part with something to train.

        Args:
            options: for a part, what its group gets besides: ``backbone={"lr": 1e-4}``.

        Returns:
            Dicts with ``name``, ``params`` and the options. A parameter that two parts share is in the first one's
            alone.

        Raises:
            UnknownNameError: options are given for something that is no part of this model.
        """
        parts = {kind: getattr(self, kind) for kind in PARTS if getattr(self, kind) is not None}
        for name in options:
            if name not in parts:
                raise UnknownNameError("part", name, tuple(parts), nearest(name, parts))
        groups = []
        seen: set[int] = set()
        for kind, part in parts.items():
            trained = [p for p in part.parameters() if p.requires_grad and id(p) not in seen]
            seen.update(id(p) for p in trained)
            if trained:
                groups.append({"name": kind, "params": trained, **options.get(kind, {})})
        return groups

    def _keep_frozen(self) -> None:
        for module in self.modules():
            if "_zoo_frozen" in module.__dict__:
                module.training = False

    def _below(self, names: tuple[str, ...]) -> Iterator[nn.Module]:
        modules = dict(self.named_modules(remove_duplicate=False))
        for name in names or [kind for kind in PARTS if getattr(self, kind) is not None]:
            if not name or name not in modules:
                known = [kind for kind in PARTS if kind in modules]
                raise UnknownNameError("part", name, known, nearest(name, [n for n in modules if n]))
        wanted = names or PARTS
        for path, module in modules.items():
            if any(path == name or path.startswith(f"{name}.") for name in wanted):
                yield module

    def _check_input(self, x: torch.Tensor) -> None:
        channels, size = self._spec["input"]["channels"], self._spec["input"]["size"]
        dims = getattr(self.backbone, "dims", 2) if size is None else len(size)
        if x.dim() != dims + 2 or x.shape[1] != channels:
            sizes = ", ".join("HWD"[:dims]) if dims <= 3 else "*size"
            raise ShapeError(f"an input of shape {tuple(x.shape)}", f"(N, {channels}, {sizes})", "model input")
        least = getattr(self.backbone, "min_size", 1)
        if min(x.shape[2:], default=1) < least:
            found = "×".join(str(n) for n in x.shape[2:])
            raise ShapeError(f"an input of {found}", f"at least {least} along each axis", "model input")
