"""torchvision's classifiers: ResNet, with ResNeXt and Wide ResNet, VGG, ResNet of video.

Source: https://github.com/pytorch/vision/tree/main/torchvision/models, resnet.py, vgg.py and video/resnet.py.
"""

from zoo.weights.keymaps.keymap import Default, Rename, Table

UNCOUNTED = Default(
    "{module...}.num_batches_tracked",
    value=0,
    dtype="int64",
    why="BatchNorm has counted batches since torch 0.4.1; files from before that have no counters",
)


def resnet_trunk(before: str = "") -> tuple[Rename, ...]:
    """Return the rules of a ResNet without its classifier, whose names have something before them in a larger model."""
    return (
        Rename(f"{before}conv1.weight", "backbone.conv1.weight"),
        Rename(f"{before}bn1.{{name}}", "backbone.bn1.{name}"),
        Rename(f"{before}layer{{i}}.{{j}}.{{rest...}}", "backbone.layer{i}.{j}.{rest...}"),
    )


RESNET = Table(
    backbone="resnet_lite",
    neck="gap",
    head="linear",
    rules=(
        *resnet_trunk(),
        Rename("fc.{name}", "head.fc.{name}"),
        UNCOUNTED,
    ),
)

# Of r3d_18 alone: the other video networks divide their convolutions into space and time.
R3D = Table(
    backbone="resnet_lite",
    neck="gap",
    head="linear",
    parameters={"backbone.stem": "video"},
    rules=(
        Rename("stem.0.weight", "backbone.conv1.weight"),
        Rename("stem.1.{name}", "backbone.bn1.{name}"),
        Rename("layer{i}.{j}.conv{k}.0.weight", "backbone.layer{i}.{j}.conv{k}.weight"),
        Rename("layer{i}.{j}.conv{k}.1.{name}", "backbone.layer{i}.{j}.bn{k}.{name}"),
        Rename("layer{i}.{j}.downsample.{k}.{name}", "backbone.layer{i}.{j}.downsample.{k}.{name}"),
        Rename("fc.{name}", "head.fc.{name}"),
        UNCOUNTED,
    ),
)

VGG = Table(
    backbone="vgg_lite",
    neck="adaptive_pool",
    bottleneck="mlp",
    head="linear",
    rules=(
        Rename("features.{i}.{name}", "backbone.layers.{i}.{name}"),
        Rename("classifier.0.{name}", "bottleneck.layers.0.linear.{name}"),
        Rename("classifier.3.{name}", "bottleneck.layers.1.linear.{name}"),
        Rename("classifier.6.{name}", "head.fc.{name}"),
        UNCOUNTED,
    ),
)
