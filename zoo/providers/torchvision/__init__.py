"""torchvision: the classification models of torchvision as backbones, for their maps or for their vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from zoo.errors import UnknownNameError
from zoo.providers.torchvision import maps, vectors
from zoo.providers.torchvision.models import TWO_STARTS, family, fresh, made_for

if TYPE_CHECKING:
    from torch import nn


class _Torchvision:
    """The namespace ``torchvision``."""

    distribution = "torchvision"

    def names(self, kind: str) -> Sequence[str]:
        """Return the names of all of torchvision's classification models, which are all candidates for a backbone."""
        import torchvision.models

        return torchvision.models.list_models(module=torchvision.models) if kind == "backbone" else []

    def component(self, kind: str, name: str) -> Callable[..., nn.Module]:
        """Return what builds one of them.

        Raises:
            UnknownNameError: torchvision has no such model, or the kind is another than backbone.
        """
        known = self.names(kind)
        if name not in known:
            from registry import nearest

            raise UnknownNameError(kind, f"torchvision:{name}", known, nearest(name, known))
        return _backbone(name)

    def whole(self, kind: str, name: str) -> Sequence[nn.Module]:
        """Return torchvision's own model, and for one that has classifiers on its way, that without them."""
        size = made_for(name)[1]
        return [fresh(name, size, aux=aux) for aux in ((True, False) if family(name) in TWO_STARTS else (False,))]


TORCHVISION = _Torchvision()
"""What the entry point names."""


def _backbone(name: str) -> Callable[..., nn.Module]:
    def build(
        in_channels: int,
        in_size: tuple[int, ...] | None = None,
        initialise: bool = True,
        out_indices: tuple[int, ...] | None = None,
        pretrained: bool = False,
        pooled: bool = False,
    ) -> Any:
        """Build a model of torchvision without its classifier; it gives one map for each stride, or a vector.

        Source: https://github.com/pytorch/vision; the paper of each model stands in its file there. The map of a
        stride is the last one that the model computes at it, in inference as in training, dropout left out. An input
        with other than three channels gets a new first convolution; trained weights are summed for one channel, and
        repeated and scaled for several.

        Args:
            in_channels: channels of the input.
            in_size: spatial size of the input, where it is known.
            initialise: False leaves the weights of torchvision aside, for others are about to come.
            out_indices: which of its maps to give, counted from 0 at the shallowest; None gives all.
            pretrained: start from torchvision's default weights, downloaded if they are not in its cache; GoogLeNet and
                Inception then recolour what they take, as those weights want it, with weights of a file as well.
            pooled: give one vector instead of maps: what the last layer of torchvision's classifier takes, those before
                that included. The ``linear`` head is then that last layer.

        Shape:
            ``(N, in_channels, H, W)`` → one map for each of ``out_indices``, channels first; ``(N, C)`` if ``pooled``.

        Raises:
            PartError: the model gives no maps, or its weights cannot be had.
            ShapeError: it does not take such an input, or has no such maps.
        """
        if pooled:
            return vectors.build(name, in_channels, in_size, initialise, out_indices, pretrained)
        return maps.build(name, in_channels, in_size, initialise, out_indices, pretrained)

    build.__qualname__ = build.__name__ = name
    return build
