"""torchvision's detectors on a ResNet with a feature pyramid: RetinaNet and FCOS.

Source: https://github.com/pytorch/vision/tree/main/torchvision/models/detection, retinanet.py and fcos.py.
"""

from zoo.weights.keymaps.keymap import Rename, Table
from zoo.weights.keymaps.torchvision.classifiers import UNCOUNTED, resnet_trunk

_RESNET = (
    *resnet_trunk("backbone.body."),
    Rename("backbone.fpn.extra_blocks.p{i}.{name}", "neck.p{i}.{name}"),
    UNCOUNTED,
)
_FPN = (
    Rename("backbone.fpn.inner_blocks.{i}.0.{name}", "neck.laterals.{i}.conv.{name}"),
    Rename("backbone.fpn.layer_blocks.{i}.0.{name}", "neck.outputs.{i}.conv.{name}"),
)
_OLD_FPN = (
    Rename("backbone.fpn.inner_blocks.{i}.{name}", "neck.laterals.{i}.conv.{name}"),
    Rename("backbone.fpn.layer_blocks.{i}.{name}", "neck.outputs.{i}.conv.{name}"),
)
_RETINANET_TOWERS = (
    Rename("head.classification_head.conv.{i}.0.{name}", "head.class_tower.{i}.conv.{name}"),
    Rename("head.classification_head.conv.{i}.1.{name}", "head.class_tower.{i}.norm.{name}"),
    Rename("head.regression_head.conv.{i}.0.{name}", "head.box_tower.{i}.conv.{name}"),
    Rename("head.regression_head.conv.{i}.1.{name}", "head.box_tower.{i}.norm.{name}"),
)
_RETINANET_PREDICTIONS = (
    Rename("head.classification_head.cls_logits.{name}", "head.logits.{name}"),
    Rename("head.regression_head.bbox_reg.{name}", "head.deltas.{name}"),
)


def _in_one_row(parts: tuple[str, ...], period: int, depth: int = 4) -> tuple[Rename, ...]:
    """Return the rules of towers whose layers are numbered through: ``period`` of them for one of ours."""
    towers = {"head.classification_head.conv": "head.class_tower", "head.regression_head.conv": "head.box_tower"}
    return tuple(
        Rename(f"{theirs}.{period * layer + place}.{{name}}", f"{ours}.{layer}.{part}.{{name}}")
        for theirs, ours in towers.items()
        for layer in range(depth)
        for place, part in enumerate(parts)
    )


_FCOS_HEAD = (
    *_in_one_row(("conv", "norm"), 3),  # convolution, norm, activation
    Rename("head.classification_head.cls_logits.{name}", "head.logits.{name}"),
    Rename("head.regression_head.bbox_reg.{name}", "head.distances.{name}"),
    Rename("head.regression_head.bbox_ctrness.{name}", "head.centreness.{name}"),
)


RETINANET = Table(
    backbone="resnet_lite",
    neck="fpn",
    head="anchor_box",
    rules=(*_RESNET, *_FPN, *_RETINANET_TOWERS, *_RETINANET_PREDICTIONS),
)

FCOS = Table(backbone="resnet_lite", neck="fpn", head="anchor_point", rules=(*_RESNET, *_FPN, *_FCOS_HEAD))

# Up to torchvision 0.13 pyramids and towers without norms had shorter names; its own loader still takes them.
OLD_RETINANET = Table(
    backbone="resnet_lite",
    neck="fpn",
    head="anchor_box",
    parameters={"head.norm": "none"},
    rules=(*_RESNET, *_OLD_FPN, *_in_one_row(("conv",), 2), *_RETINANET_PREDICTIONS),
)

OLD_RETINANET_V2 = Table(
    backbone="resnet_lite",
    neck="fpn",
    head="anchor_box",
    parameters={"head.norm": "group"},
    rules=(*_RESNET, *_OLD_FPN, *_RETINANET_TOWERS, *_RETINANET_PREDICTIONS),
)

OLD_FCOS = Table(backbone="resnet_lite", neck="fpn", head="anchor_point", rules=(*_RESNET, *_OLD_FPN, *_FCOS_HEAD))
