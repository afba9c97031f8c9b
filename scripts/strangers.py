"""Strangers: models that others wrote, exported by others, and of which model of ours each is a file."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import disguises
import onnx
import timm
import torch
import torchvision
from disguises import Disguise
from torch import nn
from torch.nn import functional
from torchvision.models import resnet, vgg

import zoo
from zoo.spec import opened, parse

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


class Stranger(NamedTuple):
    """A model of others.

    Attributes:
        make: makes it, with any weights.
        spec: what it is here.
        channels: of its input.
        size: of its input, for each axis.
    """

    make: Callable[[], nn.Module]
    spec: Callable[[], dict[str, Any]]
    channels: int = 3
    size: tuple[int, ...] = (32, 32)


class Combination(NamedTuple):
    """One way for a file to come about."""

    stranger: str
    exporter: str
    disguise: Disguise


def spec_of(name: str, **changes: Any) -> dict[str, Any]:
    """Return the spec of a named model with parts changed; nothing is built."""
    with opened(name) as plain:
        spec: dict[str, Any] = parse(plain).dump()
    for part, values in changes.items():
        spec[part] = {**(spec[part] or {}), **values}
    return spec


def _vgg(layers: tuple[int, ...], norm: bool) -> nn.Module:
    widths = (8, 16, 32)
    plan: list[Any] = []
    for depth, width in zip(layers, widths, strict=True):
        plan += [width] * depth + ["M"]
    model = vgg.VGG(vgg.make_layers(plan, batch_norm=norm), num_classes=10, init_weights=False)
    model.avgpool = nn.AdaptiveAvgPool2d(2)
    model.classifier = nn.Sequential(
        nn.Linear(128, 24), nn.ReLU(), nn.Dropout(), nn.Linear(24, 24), nn.ReLU(), nn.Dropout(), nn.Linear(24, 10)
    )
    return model


def _vgg_spec(name: str, layers: tuple[int, ...]) -> dict[str, Any]:
    return spec_of(
        name,
        input={"size": [32, 32]},
        backbone={"layers": list(layers), "channels": [8, 16, 32]},
        neck={"size": 2},
        bottleneck={"hidden": [24, 24]},
        head={"num_classes": 10},
    )


def _lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10),
    )  # fmt: skip


def _grouped(channels: int) -> nn.Module:
    return nn.GroupNorm(4, channels)


def _perceptron() -> nn.Module:
    hidden = (nn.Linear(48, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 16), nn.LayerNorm(16), nn.GELU())
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(16, 10))


def _perceptron_spec() -> dict[str, Any]:
    return {
        "input": {"channels": 3, "size": [4, 4]},
        "backbone": {"type": "mlp", "hidden": [16, 16], "norm": "layer", "activation": "gelu"},
        "head": {"type": "linear", "num_classes": 10},
    }


class _Retrieval(nn.Module):
    """A network for finding images again, as its authors write it: GeM, and cosines with unit weights."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1])
        self.trunk.avgpool, self.trunk.fc = nn.Identity(), nn.Identity()
        self.p = nn.Parameter(torch.tensor([2.7]))
        self.weight, self.scale = nn.Parameter(torch.empty(10, 512)), 30.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the cosines, scaled."""
        trunk = self.trunk
        x = trunk.maxpool(trunk.relu(trunk.bn1(trunk.conv1(x))))
        x = trunk.layer4(trunk.layer3(trunk.layer2(trunk.layer1(x))))
        x = functional.avg_pool2d(x.clamp(min=1e-6).pow(self.p), (x.size(-2), x.size(-1))).pow(1.0 / self.p).flatten(1)
        return functional.linear(functional.normalize(x), functional.normalize(self.weight)) * self.scale


class _Part(nn.Module):
    """A model of others up to where ours ends: without what turns predictions into boxes or masks."""

    def __init__(self, model: nn.Module, forward: Callable[[Any, torch.Tensor], Any]) -> None:
        super().__init__()
        self.model, self.part = model, forward

    def forward(self, x: torch.Tensor) -> Any:
        return self.part(self.model, x)


class Deployed(nn.Module):
    """A model of others with what its owner needs of it behind its end."""

    def __init__(self, model: nn.Module, end: Callable[[Any], Any]) -> None:
        super().__init__()
        self.model, self.end = model, end

    def forward(self, x: torch.Tensor) -> Any:
        """Return what is left of the predictions."""
        return self.end(self.model(x))


def _deployed(name: str, end: Callable[[Any], Any]) -> Stranger:
    """Return a stranger with an end of its own; it is the same model here."""
    model = STRANGERS[name]
    return model._replace(make=lambda: Deployed(model.make(), end))


def _segmenter(name: str) -> Callable[[], nn.Module]:
    make = getattr(torchvision.models.segmentation, name)
    return lambda: _Part(make(weights=None, weights_backbone=None), lambda model, x: model(x)["out"])


def _detector(name: str, *outputs: str) -> Callable[[], nn.Module]:
    def predictions(model: Any, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = model.head(list(model.backbone(x).values()))
        return tuple(found[output] for output in outputs)

    make = getattr(torchvision.models.detection, name)
    return lambda: _Part(make(weights=None, weights_backbone=None), predictions)


def _named(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: getattr(torchvision.models, name)(**options)


def _provided(backbone: str, **options: Any) -> dict[str, Any]:
    return {"backbone": {"type": backbone, **options}, "neck": "gap", "head": {"type": "linear", "num_classes": 10}}


def _provided_stranger(backbone: str, size: int = 64) -> Stranger:
    """Return a model of torchvision or timm that is a backbone here, with our own head, so that no name is theirs."""
    spec = {"input": {"channels": 3, "size": [size, size]}, **_provided(backbone)}
    return Stranger(lambda: zoo.build(spec), lambda: spec, size=(size, size))


def _whole_stranger(make: Callable[[], nn.Module], backbone: str, size: int = 64) -> Stranger:
    """Return a library's own model, classifier included, and that of which it is a file here."""
    pooled = {"type": backbone, "pooled": True}
    spec = {"input": {"channels": 3, "size": [size, size]}, "backbone": pooled}
    return Stranger(make, lambda: {**spec, "head": {"type": "linear", "num_classes": 1000}}, size=(size, size))


STRANGERS = {
    "torchvision ResNet, basic blocks": Stranger(
        lambda: resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1], num_classes=10),
        lambda: spec_of("resnet18", backbone={"layers": [1, 1, 1, 1]}, head={"num_classes": 10}),
    ),
    "torchvision ResNet, bottleneck blocks": Stranger(
        lambda: resnet.ResNet(resnet.Bottleneck, [1, 1, 1, 1], num_classes=10),
        lambda: spec_of("resnet50", backbone={"layers": [1, 1, 1, 1]}, head={"num_classes": 10}),
    ),
    "timm ResNet": Stranger(
        lambda: timm.models.resnet.ResNet(timm.models.resnet.BasicBlock, (1, 1, 1, 1), num_classes=10),
        lambda: spec_of("resnet18", backbone={"layers": [1, 1, 1, 1]}, head={"num_classes": 10}),
    ),
    "torchvision VGG": Stranger(lambda: _vgg((1, 1, 2), False), lambda: _vgg_spec("vgg11", (1, 1, 2))),
    "torchvision VGG with BatchNorm": Stranger(lambda: _vgg((1, 1, 2), True), lambda: _vgg_spec("vgg11_bn", (1, 1, 2))),
    "LeNet-5 as nn.Sequential": Stranger(_lenet, lambda: spec_of("lenet"), channels=1),
    "torchvision ResNet, group norms": Stranger(
        lambda: resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1], num_classes=10, norm_layer=_grouped),
        lambda: spec_of(
            "resnet18",
            backbone={"layers": [1, 1, 1, 1], "norm": {"type": "group", "groups": 4}},
            head={"num_classes": 10},
        ),
    ),
    "perceptron with layer norms": Stranger(_perceptron, _perceptron_spec, size=(4, 4)),
    "resnet18_1d of ours": Stranger(
        lambda: zoo.build("resnet18_1d"), lambda: spec_of("resnet18_1d"), channels=1, size=(256,)
    ),
}
"""Small ones."""

STRANGERS |= {
    "torchvision ResNet, instance norms": Stranger(
        lambda: resnet.ResNet(
            resnet.BasicBlock, [1, 1, 1, 1], num_classes=10, norm_layer=lambda n: nn.InstanceNorm2d(n, affine=True)
        ),
        lambda: spec_of("resnet18", backbone={"layers": [1, 1, 1, 1], "norm": "instance"}, head={"num_classes": 10}),
        size=(64, 64),
    ),
    "retrieval network, GeM and cosines": Stranger(
        _Retrieval,
        lambda: {
            **spec_of("resnet18", backbone={"layers": [1, 1, 1, 1]}),
            "neck": {"type": "gem"},
            "head": {"type": "cosine", "num_classes": 10},
        },
        size=(64, 64),
    ),
    "torchvision ResNet, best class": _deployed(
        "torchvision ResNet, basic blocks", lambda logits: logits.softmax(1).argmax(1)
    ),
    "torchvision ResNet, best with its probability": _deployed(
        "torchvision ResNet, basic blocks", lambda logits: logits.softmax(1).max(1)
    ),
    "LeNet-5, best three": _deployed("LeNet-5 as nn.Sequential", lambda logits: logits.softmax(-1).topk(3)),
    "LeNet-5, logits and classes": _deployed(
        "LeNet-5 as nn.Sequential", lambda logits: (logits, logits.sigmoid(), logits.argmax(1, keepdim=True))
    ),
}

LARGE = {
    "torchvision resnet18": Stranger(_named("resnet18"), lambda: spec_of("resnet18"), size=(64, 64)),
    "torchvision resnet50": Stranger(_named("resnet50"), lambda: spec_of("resnet50"), size=(224, 224)),
    "timm resnet50": Stranger(lambda: timm.create_model("resnet50"), lambda: spec_of("resnet50"), size=(224, 224)),
    "torchvision vgg19_bn": Stranger(_named("vgg19_bn"), lambda: spec_of("vgg19_bn"), size=(224, 224)),
    "torchvision:mobilenet_v2": _provided_stranger("torchvision:mobilenet_v2"),
    "torchvision:mobilenet_v3_small": _provided_stranger("torchvision:mobilenet_v3_small"),
    "torchvision:shufflenet_v2_x0_5": _provided_stranger("torchvision:shufflenet_v2_x0_5"),
    "torchvision:googlenet": _provided_stranger("torchvision:googlenet"),
    "timm:efficientnet_lite0": _provided_stranger("timm:efficientnet_lite0"),
    "torchvision:densenet121": _provided_stranger("torchvision:densenet121"),
    "torchvision:convnext_tiny": _provided_stranger("torchvision:convnext_tiny"),
    "timm:vit_tiny_patch16_224": _provided_stranger("timm:vit_tiny_patch16_224", 224),
    "timm:deit_tiny_distilled_patch16_224": _provided_stranger("timm:deit_tiny_distilled_patch16_224", 224),
    "timm vit_tiny_patch16_224": _whole_stranger(
        lambda: timm.create_model("vit_tiny_patch16_224"), "timm:vit_tiny_patch16_224", 224
    ),
    "torchvision convnext_tiny": _whole_stranger(_named("convnext_tiny"), "torchvision:convnext_tiny"),
    "torchvision mobilenet_v3_large": _whole_stranger(_named("mobilenet_v3_large"), "torchvision:mobilenet_v3_large"),
    "timm:pvt_v2_b0": _provided_stranger("timm:pvt_v2_b0"),
    "torchvision:swin_t": _provided_stranger("torchvision:swin_t", 224),
    "timm:swin_tiny_patch4_window7_224": _provided_stranger("timm:swin_tiny_patch4_window7_224", 224),
    "timm:levit_128s": _provided_stranger("timm:levit_128s", 224),
    "timm:mobilevit_xxs": _provided_stranger("timm:mobilevit_xxs"),
    "torchvision resnext50_32x4d": Stranger(
        _named("resnext50_32x4d"), lambda: spec_of("resnext50_32x4d"), size=(64, 64)
    ),
    "timm vgg11_bn": Stranger(lambda: timm.create_model("vgg11_bn"), lambda: spec_of("vgg11_bn"), size=(224, 224)),
    "torchvision r3d_18": Stranger(torchvision.models.video.r3d_18, lambda: spec_of("r3d_18"), size=(8, 32, 32)),
    "torchvision fcn_resnet50": Stranger(_segmenter("fcn_resnet50"), lambda: spec_of("fcn_resnet50"), size=(64, 64)),
    "torchvision deeplabv3_resnet50": Stranger(
        _segmenter("deeplabv3_resnet50"), lambda: spec_of("deeplabv3_resnet50"), size=(64, 64)
    ),
    "torchvision retinanet_resnet50_fpn_v2, predictions": Stranger(
        _detector("retinanet_resnet50_fpn_v2", "cls_logits", "bbox_regression"),
        lambda: spec_of("retinanet_resnet50_fpn_v2"),
        size=(128, 128),
    ),
    "torchvision fcos_resnet50_fpn, predictions": Stranger(
        _detector("fcos_resnet50_fpn", "cls_logits", "bbox_regression", "bbox_ctrness"),
        lambda: spec_of("fcos_resnet50_fpn"),
        size=(128, 128),
    ),
}
"""Whole ones."""

_D, _L, _U, _H, _W = "dynamo", "legacy", "dynamo, unfolded", "dynamo, float16", "dynamo, float64"
_BASIC, _BOTTLENECK, _TIMM, _VGG, _VGG_BN, _LENET, _GROUPED, _LAYERED, _SIGNAL, _INSTANCE, _RETRIEVAL, *_DEPLOYED = (
    STRANGERS
)

COMBINATIONS = [
    *(Combination(_BASIC, _D, each) for each in (
        disguises.plain, disguises.anonymous, disguises.shuffled, disguises.constants, disguises.external,
        disguises.multiplied, disguises.functions, disguises.basic, disguises.extended,
    )),
    *(Combination(_BASIC, _L, each) for each in (
        disguises.plain, disguises.anonymous, disguises.constants, disguises.basic, disguises.extended)),
    *(Combination(_BASIC, _U, each) for each in (
        disguises.plain, disguises.anonymous, disguises.functions, disguises.extended)),
    *(Combination(_BASIC, _H, each) for each in (disguises.plain, disguises.anonymous)),
    *(Combination(_BASIC, _W, each) for each in (disguises.anonymous, disguises.functions)),
    *(Combination(_BOTTLENECK, each, disguises.anonymous) for each in (_D, _L, _U)),
    *(Combination(_TIMM, each, disguises.anonymous) for each in (_D, _L)),
    *(Combination(_VGG_BN, _D, each) for each in (disguises.anonymous, disguises.extended)),
    *(Combination(_VGG_BN, _L, each) for each in (disguises.anonymous, disguises.multiplied)),
    *(Combination(_VGG_BN, _U, each) for each in (disguises.anonymous,)),
    *(Combination(_VGG, _D, each) for each in (disguises.anonymous, disguises.extended)),
    *(Combination(_VGG, _L, each) for each in (disguises.constants,)),
    *(Combination(_LENET, _D, each) for each in (disguises.anonymous, disguises.extended, disguises.external)),
    *(Combination(_LENET, _W, each) for each in (disguises.external, disguises.multiplied)),
    *(Combination(_LENET, _L, each) for each in (disguises.multiplied, disguises.shuffled, disguises.functions)),
    *(Combination(_GROUPED, each, disguises.anonymous) for each in (_D, _L, _U)),
    *(Combination(_LAYERED, each, disguises.extended) for each in (_D, _L)),
    *(Combination(_SIGNAL, each, disguises.anonymous) for each in (_D, _L, _U)),
    *(Combination(_INSTANCE, each, disguises.anonymous) for each in (_D, _L, _U)),
    *(Combination(_RETRIEVAL, _D, each) for each in (disguises.anonymous, disguises.extended)),
    *(Combination(_RETRIEVAL, _L, each) for each in (disguises.plain, disguises.extended)),
    *(Combination(_RETRIEVAL, _U, each) for each in (disguises.anonymous, disguises.basic)),
    *(Combination(name, exporter, disguise) for name in _DEPLOYED for exporter, disguise in (
        (_D, disguises.external), (_L, disguises.extended), (_U, disguises.anonymous))),
]  # fmt: skip

LARGE_COMBINATIONS = [
    Combination(name, exporter, disguise)
    for name in LARGE
    for exporter, disguise in ((_D, disguises.anonymous), (_L, disguises.extended))
]


def exported(stranger: Stranger, exporter: str, path: Path) -> nn.Module:
    """Fill a stranger with random numbers and let an exporter write it.

    Returns:
        The stranger.
    """
    model = stranger.make().eval()
    fill(model)
    if exporter.endswith("float16"):
        model = model.half()
    if exporter.endswith("float64"):
        model = model.double()
    dtype = next(model.parameters()).dtype
    example = torch.randn(2, stranger.channels, *stranger.size).to(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "legacy":
            torch.onnx.export(model, (example,), path, dynamo=False)
        else:
            folded = not exporter.endswith("unfolded")
            torch.onnx.export(model, (example,), path, dynamo=True, optimize=folded, verbose=False, external_data=False)
    return model


def fill(model: nn.Module) -> None:
    """Fill a model with random numbers of a sane size, BatchNorm statistics too."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0, generator=random)
            elif tensor.is_floating_point() and tensor.numel() > 1:  # an exponent or a scale cannot be any number
                fan_in = tensor[0].numel() if tensor.dim() > 1 else 16
                tensor.normal_(0.0, fan_in**-0.5, generator=random)
