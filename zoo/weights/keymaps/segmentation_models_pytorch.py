"""segmentation_models_pytorch: its encoders, alone and within a whole model, whose decoder has no counterpart here.

Source: https://github.com/qubvel-org/segmentation_models.pytorch, encoders/resnet.py and encoders/vgg.py: torchvision's
networks without their classifiers.
"""

from zoo.weights.keymaps.keymap import Keymap, NoCounterpart, Rename, Rule, Table
from zoo.weights.keymaps.torchvision.classifiers import UNCOUNTED, resnet_trunk

_DECODER = "the decoder is another architecture than ours; train a head here, or keep theirs"
_BESIDE: tuple[Rule, ...] = (
    NoCounterpart("decoder.{rest...}", _DECODER),
    NoCounterpart("segmentation_head.{rest...}", _DECODER),
    NoCounterpart("classification_head.{rest...}", _DECODER),
)


def _vgg(prefix: str) -> tuple[Rule, ...]:
    return (Rename(f"{prefix}features.{{i}}.{{name}}", "backbone.layers.{i}.{name}"), UNCOUNTED)


ENCODER = Keymap(
    "segmentation_models_pytorch_encoder",
    (Table(backbone="resnet_lite", rules=(*resnet_trunk(), UNCOUNTED)), Table(backbone="vgg_lite", rules=_vgg(""))),
)
"""The names of an encoder alone: ``model.encoder.state_dict()``."""

WHOLE = Keymap(
    "segmentation_models_pytorch",
    (
        Table(backbone="resnet_lite", rules=(*resnet_trunk("encoder."), UNCOUNTED, *_BESIDE)),
        Table(backbone="vgg_lite", rules=(*_vgg("encoder."), *_BESIDE)),
    ),
)
"""The names of a whole model; there is no way back, for a whole model is more than its encoder."""
