"""The keymap of torchvision, a file for each family of its models."""

from zoo.weights.keymaps.keymap import Keymap
from zoo.weights.keymaps.torchvision.classifiers import R3D, RESNET, VGG
from zoo.weights.keymaps.torchvision.detection import (
    FCOS,
    OLD_FCOS,
    OLD_RETINANET,
    OLD_RETINANET_V2,
    RETINANET,
)
from zoo.weights.keymaps.torchvision.segmentation import DEEPLAB, FCN

TORCHVISION = Keymap("torchvision", (RESNET, R3D, VGG, FCN, DEEPLAB, RETINANET, FCOS))

TORCHVISION_OLD = Keymap("torchvision", (OLD_RETINANET, OLD_RETINANET_V2, OLD_FCOS))
"""The names that its detectors had up to version 0.13."""
