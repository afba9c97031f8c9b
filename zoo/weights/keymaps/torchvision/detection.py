"""torchvision's detectors on a ResNet with a feature pyramid: RetinaNet and FCOS.

Source: https://github.com/pytorch/vision/tree/main/torchvision/models/detection, retinanet.py and fcos.py.
"""

from zoo.weights.keymaps.keymap import Rename, Table
from zoo.weights.keymaps.torchvision.classifiers import UNCOUNTED

_RESNET_FPN = (
    Rename("backbone.body.conv1.weight", "backbone.conv1.weight"),
    Rename("backbone.body.bn1.{name}", "backbone.bn1.{name}"),
    Rename("backbone.body.layer{i}.{j}.{rest...}", "backbone.layer{i}.{j}.{rest...}"),
    Rename("backbone.fpn.inner_blocks.{i}.0.{name}", "neck.laterals.{i}.conv.{name}"),
    Rename("backbone.fpn.layer_blocks.{i}.0.{name}", "neck.outputs.{i}.conv.{name}"),
    Rename("backbone.fpn.extra_blocks.p{i}.{name}", "neck.p{i}.{name}"),
    UNCOUNTED,
)

RETINANET = Table(
    backbone="resnet_lite",
    neck="fpn",
    head="anchor_box",
    rules=(
        *_RESNET_FPN,
        Rename("head.classification_head.conv.{i}.0.{name}", "head.class_tower.{i}.conv.{name}"),
        Rename("head.classification_head.conv.{i}.1.{name}", "head.class_tower.{i}.norm.{name}"),
        Rename("head.classification_head.cls_logits.{name}", "head.logits.{name}"),
        Rename("head.regression_head.conv.{i}.0.{name}", "head.box_tower.{i}.conv.{name}"),
        Rename("head.regression_head.conv.{i}.1.{name}", "head.box_tower.{i}.norm.{name}"),
        Rename("head.regression_head.bbox_reg.{name}", "head.deltas.{name}"),
    ),
)


def _fcos_tower(theirs: str, ours: str, depth: int = 4) -> tuple[Rename, ...]:
    # convolution, norm and activation in one row: every third is a convolution
    return tuple(
        Rename(f"{theirs}.{3 * layer + place}.{{name}}", f"{ours}.{layer}.{part}.{{name}}")
        for layer in range(depth)
        for place, part in enumerate(("conv", "norm"))
    )


FCOS = Table(
    backbone="resnet_lite",
    neck="fpn",
    head="anchor_point",
    rules=(
        *_RESNET_FPN,
        *_fcos_tower("head.classification_head.conv", "head.class_tower"),
        Rename("head.classification_head.cls_logits.{name}", "head.logits.{name}"),
        *_fcos_tower("head.regression_head.conv", "head.box_tower"),
        Rename("head.regression_head.bbox_reg.{name}", "head.distances.{name}"),
        Rename("head.regression_head.bbox_ctrness.{name}", "head.centreness.{name}"),
    ),
)
