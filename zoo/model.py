"""Model: the parts of a spec, composed into one nn.Module."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from zoo import freezing
from zoo.errors import ShapeError, ZooError
from zoo.extraction import extract
from zoo.features import Feature
from zoo.groups import param_groups
from zoo.kinds import AUX, PARTS
from zoo.layers.eager import is_eager
from zoo.layers.sized import predict
from zoo.record import Record

if TYPE_CHECKING:
    from zoo.weights.migration.report import MigrationReport
    from zoo.weights.transfer.report import Transfer


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


class Supervised(NamedTuple):
    """What a model with auxiliary heads returns in training mode.

    Attributes:
        out: the prediction, what the model returns in evaluation mode.
        aux: what each auxiliary head predicts, by its name in the spec.
    """

    out: Any
    aux: dict[str, Any]


class Model(nn.Module):
    """A backbone and, as the spec has it, a neck, a bottleneck and a head: an ordinary ``nn.Module``.

    Made by :func:`zoo.build` and :func:`zoo.load`, not by hand.

    Attributes:
        backbone: input tensor → tuple of tensors.
        neck: tuple → tuple, or None.
        bottleneck: tuple → tuple, or None.
        head: tuple → predictions, or None.
        aux: the auxiliary heads by name, each on a feature of its own, or None.
        features: what goes into the head; without a head, what the model returns.
        migration: how a file from elsewhere became this model; None for any other.
        transfer: what :func:`zoo.build` took from the file of its ``weights``, and what it did not; None for any other.

    Shape:
        ``(N, channels, *size)`` → what the head returns, ``(N, num_classes)`` for ``linear``; without a head a tuple of
        tensors, one for each of ``features``. With auxiliary heads, in training mode, a :class:`Supervised` of that and
        of what they predict.
    """

    backbone: nn.Module
    neck: nn.Module | None
    bottleneck: nn.Module | None
    head: nn.Module | None
    aux: nn.ModuleDict | None
    migration: MigrationReport | None
    transfer: Transfer | None

    def __init__(
        self,
        parts: Mapping[str, nn.Module],
        *,
        aux: Mapping[str, nn.Module] | None = None,
        taps: Mapping[str, tuple[str, int]] | None = None,
        spec: Mapping[str, Any],
        lock: Mapping[str, str],
        features: tuple[Feature, ...],
        record: Record | None = None,
    ) -> None:
        super().__init__()
        for kind in PARTS:
            self.register_module(kind, parts.get(kind))
        self.register_module(AUX, nn.ModuleDict(dict(aux)) if aux else None)
        self._taps = dict(taps or {})
        self._spec = copy.deepcopy(dict(spec))
        self._lock = dict(lock)
        self.features = features
        self.record = record
        self.migration = None
        self.transfer = None

    @property
    def spec(self) -> dict[str, Any]:
        """The normalised spec: plain JSON, a copy."""
        return copy.deepcopy(self._spec)

    @property
    def lock(self) -> dict[str, str]:
        """The version of each distribution that provided a part, a copy."""
        return dict(self._lock)

    @property
    def aux_weights(self) -> dict[str, float]:
        """The weight of the loss of each auxiliary head, by its name, as the spec has it."""
        return {name: aux["weight"] for name, aux in self._spec.get(AUX, {}).items()}

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
        self._prepare(x)
        given = {"backbone": self.backbone(x)}
        features = given["backbone"]
        if self.neck is not None:
            features = given["neck"] = self.neck(features)
        if self.bottleneck is not None:
            features = given["bottleneck"] = self.bottleneck(features)
        size = x.shape[2:]
        out = features if self.head is None else predict(self.head, features, size)
        if self.aux is None or not self.training:
            return out
        aux = {}
        for name, head in self.aux.items():
            part, index = self._taps[name]
            aux[name] = predict(head, (given[part][index],), size)
        return Supervised(out, aux)

    def features_at(self, x: torch.Tensor, names: str | Iterable[str]) -> dict[str, Any]:
        """Return intermediate maps for an input: those of features, parts or modules; see :func:`zoo.extract`.

        Each call plans anew what to compute; for many inputs make an extraction once.

        Raises:
            UnknownNameError: there is neither such a feature nor such a module.
            PartError: a module is not called when the model runs, or several times and the name does not say which.
        """
        return extract(self, names)(x)  # type: ignore[no-any-return]

    def freeze(self, *names: str, until: str | None = None) -> Model:
        """Stop training parts: no gradients, and eval mode (BatchNorm statistics included) even through ``train()``.

        Args:
            names: parts, ``"backbone"``; modules below them, ``"backbone.layer1"``; or features of them,
                ``"backbone.stage3"``: what in this part the feature needs and no feature before it does. None, without
                ``until``, means all parts.
            until: a feature or a module: all that it is computed from, ``"backbone.stage2"`` for the stem and the first
                two stages.

        Returns:
            The model itself.

        Raises:
            UnknownNameError: there is no such module or feature.
            PartError: a feature is named, and the model cannot be run on the meta device to find what it needs.
        """
        freezing.freeze(self, freezing.chosen(self, names, until))
        return self

    def unfreeze(self, *names: str, until: str | None = None) -> Model:
        """Take back what :meth:`freeze` did, for the same names or for some below them.

        Raises:
            UnknownNameError: there is no such module or feature.
            PartError: as :meth:`freeze`.
        """
        freezing.unfreeze(self, freezing.chosen(self, names, until))
        return self

    def train(self, mode: bool = True) -> Model:
        """Set training or evaluation mode; frozen parts stay in evaluation mode."""
        super().train(mode)
        freezing.keep_frozen(self)
        return self

    def param_groups(
        self,
        *,
        lr: float | None = None,
        weight_decay: float | None = None,
        layer_decay: float | None = None,
        **options: Mapping[str, Any],
    ) -> list[dict[str, Any]]:
        """Return optimiser groups, one for each part with something to train, or finer ones.

        Source: of ``layer_decay``, Clark, Luong, Le, Manning, "ELECTRA", ICLR 2020, appendix B; Bao, Dong, Piao, Wei,
        "BEiT", ICLR 2022, appendix H. Departure: a layer is a stage of the backbone, the stem being in the first, or
        another part.

        Args:
            lr: the learning rate of every group.
            weight_decay: the weight decay of every group; biases, the parameters of norms, and what else is a vector
                or a number, get groups of their own without any.
            layer_decay: by what the learning rate is multiplied for each step from the head down to the input: of
                ``n`` layers, the first has ``lr · layer_decay ** (n - 1)`` and the last ``lr``. What is frozen counts.
            options: for a part, what its groups get besides or instead: ``backbone={"lr": 1e-4}``.

        Returns:
            Dicts with ``name``, ``params`` and the options. A parameter that two groups share is in the first one's
            alone.

        Raises:
            UnknownNameError: options are given for something that is no part of this model.
            PartError: ``layer_decay`` is given, and the model cannot be run on the meta device to find its stages.
            ZooError: ``layer_decay`` is not in (0, 1], or there is no learning rate for it to scale.

        >>> import zoo
        >>> groups = zoo.build("resnet-lite").param_groups(lr=0.1, layer_decay=0.5)
        >>> [(group["name"], group["lr"]) for group in groups]
        [('backbone.stage1', 0.0125), ('backbone.stage2', 0.025), ('backbone.stage3', 0.05), ('head', 0.1)]
        """
        return param_groups(self, lr, weight_decay, layer_decay, options)

    def _prepare(self, x: torch.Tensor) -> None:
        if is_eager(x):
            self._check_input(x)
            freezing.keep_frozen(self)

    def _check_input(self, x: torch.Tensor) -> None:
        channels, size = self._spec["input"]["channels"], self._spec["input"]["size"]
        if not isinstance(x, torch.Tensor):
            found = type(x).__name__
            raise ZooError(f"model input: found {found!r}; expected a tensor: torch.as_tensor(…), and batches first")
        dims = getattr(self.backbone, "dims", 2) if size is None else len(size)
        if x.dim() != dims + 2 or x.shape[1] != channels:
            sizes = {1: "L", 2: "H, W", 3: "D, H, W"}.get(dims, "*size")
            raise ShapeError(f"an input of shape {tuple(x.shape)}", f"(N, {channels}, {sizes})", "model input")
        least = getattr(self.backbone, "min_size", 1)
        if min(x.shape[2:], default=1) < least:
            found = "×".join(str(n) for n in x.shape[2:])
            raise ShapeError(f"an input of {found}", f"at least {least} along each axis", "model input")
