"""timm's image classifiers: ResNets, whose names are torchvision's, and VGG, whose classifier is convolutional.

Source: https://github.com/huggingface/pytorch-image-models/tree/main/timm/models, resnet.py and vgg.py.
"""

from zoo.weights.keymaps.keymap import Keymap, Rename, Reshape, Table
from zoo.weights.keymaps.torchvision.classifiers import RESNET, UNCOUNTED

# timm slides a 7×7 kernel over the last map, where we and torchvision pool it to 7×7 and flatten it. The outputs are
# the same for an input of 224×224 alone.
VGG = Table(
    backbone="vgg_lite",
    neck="adaptive_pool",
    bottleneck="mlp",
    head="linear",
    rules=(
        Rename("features.{i}.{name}", "backbone.layers.{i}.{name}"),
        Rename(
            "pre_logits.fc1.weight",
            "bottleneck.layers.0.linear.weight",
            layout=(Reshape(theirs=(0, -1, 7, 7), ours=(0, -1)),),
        ),
        Rename("pre_logits.fc1.bias", "bottleneck.layers.0.linear.bias"),
        Rename(
            "pre_logits.fc2.weight",
            "bottleneck.layers.1.linear.weight",
            layout=(Reshape(theirs=(0, 0, 1, 1), ours=(0, 0)),),
        ),
        Rename("pre_logits.fc2.bias", "bottleneck.layers.1.linear.bias"),
        Rename("head.fc.{name}", "head.fc.{name}"),
        UNCOUNTED,
    ),
)

TIMM = Keymap("timm", (RESNET, VGG))
