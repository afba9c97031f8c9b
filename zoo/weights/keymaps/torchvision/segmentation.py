"""torchvision's segmenters on a ResNet: FCN and DeepLabv3.

Source: https://github.com/pytorch/vision/tree/main/torchvision/models/segmentation, fcn.py and deeplabv3.py.
"""

from zoo.weights.keymaps.keymap import Rename, Table
from zoo.weights.keymaps.torchvision.classifiers import UNCOUNTED

_TRUNK = (
    Rename("backbone.{rest...}", "backbone.{rest...}"),
    Rename("aux_classifier.0.{name}", "aux.stage3.conv.{name}"),
    Rename("aux_classifier.1.{name}", "aux.stage3.norm.{name}"),
    Rename("aux_classifier.4.{name}", "aux.stage3.classifier.{name}"),
    UNCOUNTED,
)

FCN = Table(
    backbone="resnet_lite",
    head="fcn",
    rules=(
        *_TRUNK,
        Rename("classifier.0.{name}", "head.conv.{name}"),
        Rename("classifier.1.{name}", "head.norm.{name}"),
        Rename("classifier.4.{name}", "head.classifier.{name}"),
    ),
)

DEEPLAB = Table(
    backbone="resnet_lite",
    head="deeplab",
    rules=(
        *_TRUNK,
        Rename("classifier.0.{rest...}", "head.aspp.{rest...}"),
        Rename("classifier.1.{name}", "head.conv.{name}"),
        Rename("classifier.2.{name}", "head.norm.{name}"),
        Rename("classifier.4.{name}", "head.classifier.{name}"),
    ),
)
