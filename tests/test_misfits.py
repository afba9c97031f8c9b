"""Parts that do not fit what comes before them are refused before a weight is allocated, and told what would fit."""

from __future__ import annotations

from typing import Any

import pytest

import zoo
from zoo import builder
from zoo.errors import ShapeError, SpecError

IMAGES = {"type": "vgg_lite", "layers": [1, 1], "channels": [4, 6]}
VECTORS = {"type": "mlp", "hidden": [8]}
MAP = "found the map 'stage2' (6×{}); expected a vector; put a neck such as 'gap' or 'flatten' before it"
VECTOR = "found the vector 'hidden' (8); expected maps with a spatial size, before any pooling"
SIZES: dict[int, list[int]] = {1: [16], 2: [16, 12], 3: [8, 16, 12]}
HALVED = {1: "4", 2: "4×3", 3: "2×4×3"}

TAKE_MAPS: dict[str, list[dict[str, Any]]] = {
    "neck": [{"type": t} for t in ("adaptive_pool", "aspp", "concat", "fpn", "gap", "gem", "gmp", "pan")],
    "bottleneck": [{"type": "conv1x1"}],
    "head": [{"type": t, "num_classes": 3} for t in ("anchor_box", "anchor_point", "deeplab", "fcn")],
}
TAKE_VECTORS: dict[str, list[dict[str, Any]]] = {
    "bottleneck": [{"type": t} for t in ("linear", "low_rank", "mlp")],
    "head": [*({"type": t, "num_classes": 3} for t in ("cosine", "linear", "mlp")), {"type": "projection"}],
}


def parts(of: dict[str, list[dict[str, Any]]]) -> list[Any]:
    return [pytest.param(kind, part, id=f"{kind}-{part['type']}") for kind, each in of.items() for part in each]


@pytest.fixture(autouse=True)
def nothing_is_allocated(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Every model of this file is refused while it is composed on the meta device."""
    devices = []
    real = builder.assemble
    monkeypatch.setattr(builder, "assemble", lambda p, device, **o: devices.append(str(device)) or real(p, device, **o))
    yield
    assert set(devices) <= {"meta"}


@pytest.mark.parametrize(("kind", "part"), parts(TAKE_MAPS))
def test_what_takes_maps_refuses_a_vector(kind: str, part: dict[str, Any]) -> None:
    with pytest.raises(ShapeError) as raised:
        zoo.build({"input": {"channels": 1, "size": [8, 8]}, "backbone": VECTORS, kind: part})
    assert str(raised.value) == f"spec.{kind} ({part['type']}) after backbone mlp: {VECTOR}"


@pytest.mark.parametrize("dims", SIZES)
@pytest.mark.parametrize(("kind", "part"), parts(TAKE_VECTORS))
def test_what_takes_a_vector_refuses_maps_of_any_dimension(kind: str, part: dict[str, Any], dims: int) -> None:
    spec = {"input": {"channels": 1, "size": SIZES[dims]}, "backbone": {**IMAGES, "dims": dims}, kind: part}
    with pytest.raises(ShapeError) as raised:
        zoo.build(spec)
    told = MAP.format(HALVED[dims])
    assert str(raised.value) == f"spec.{kind} ({part['type']}) after backbone vgg_lite: {told}"


@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("backbone", ["lenet", "vgg_lite", "resnet_lite"])
def test_an_input_of_other_dimensions_than_the_backbone_is_told_with_both(backbone: str, dims: int) -> None:
    with pytest.raises(ShapeError) as raised:
        zoo.build({"input": {"channels": 1, "size": SIZES[dims]}, "backbone": backbone, "neck": "gap"})
    assert str(raised.value).startswith(f"spec.backbone ({backbone}) after the input: found an input of size ")
    assert f"{SIZES[dims]}, {dims}-dimensional; expected height and width, two numbers" in str(raised.value)


@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("head", ["anchor_box", "anchor_point"])
def test_what_finds_objects_in_images_refuses_signals_and_volumes(head: str, dims: int) -> None:
    spec = {"input": {"channels": 1, "size": SIZES[dims]}, "backbone": {**IMAGES, "dims": dims}, "neck": "fpn"}
    with pytest.raises(ShapeError) as raised:
        zoo.build({**spec, "head": {"type": head, "num_classes": 3}})
    halves = "×".join(str(n // 2) for n in SIZES[dims])
    assert str(raised.value) == (
        f"spec.head ({head}) after neck fpn: found the map 'stage1' (256×{halves}); expected maps with height and width"
    )


@pytest.mark.parametrize("dims", [1, 3])
def test_a_size_for_another_number_of_axes_is_told_with_the_map(dims: int) -> None:
    spec = {
        "input": {"channels": 1, "size": SIZES[dims]},
        "backbone": {**IMAGES, "dims": dims},
        "neck": {"type": "adaptive_pool", "size": [3, 3]},
    }
    with pytest.raises(ShapeError) as raised:
        zoo.build(spec)
    assert str(raised.value) == (
        f"spec.neck (adaptive_pool) after backbone vgg_lite: found size=[3, 3] for the map 'stage2' "
        f"(6×{HALVED[dims]}); expected one number for each of its axes, or one for all of them"
    )


@pytest.mark.parametrize(
    ("neck", "told"),
    [
        ({"type": "gem", "exponent": 0.5}, "spec.neck.exponent: found 0.5 (float); expected float ≥ 1"),
        ({"type": "gem", "eps": 0.0}, "spec.neck.eps: found 0.0 (float); expected float > 0"),
        ({"type": "concat", "mode": "cubic"}, "spec.neck.mode: found 'cubic' (str); expected 'nearest' | 'linear'"),
        ({"type": "aspp", "rates": []}, "spec.neck.rates: found [] (list)"),
        ({"type": "adaptive_pool", "size": [7, 0]}, "spec.neck.size"),
    ],
)
def test_numbers_and_names_that_make_no_sense_are_refused_by_the_spec(neck: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError) as raised:
        zoo.build({"backbone": IMAGES, "neck": neck})
    assert told in str(raised.value)


def test_the_parts_are_refused_without_an_input_size_too() -> None:
    with pytest.raises(
        ShapeError, match=r"spec.head \(cosine\) after backbone vgg_lite: found the map 'stage2' \(6×\?"
    ):
        zoo.build({"backbone": {**IMAGES, "dims": 1}, "head": {"type": "cosine", "num_classes": 3}})
