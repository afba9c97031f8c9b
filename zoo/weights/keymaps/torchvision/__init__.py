"""The keymap of torchvision, a file for each family of its models."""

from zoo.weights.keymaps.keymap import Keymap
from zoo.weights.keymaps.torchvision.classifiers import RESNET, VGG
from zoo.weights.keymaps.torchvision.detection import FCOS, RETINANET

TORCHVISION = Keymap("torchvision", (RESNET, VGG, RETINANET, FCOS))
