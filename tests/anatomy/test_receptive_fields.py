"""The receptive fields of a plan are those that the gradient of the real network has."""

from __future__ import annotations

import pytest
import torch
from fields import planned, positive, seen
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import zoo
from zoo.anatomy.record import Output, output
from zoo.anatomy.tracing import run


def traced(network: nn.Module, shape: tuple[int, ...]) -> Output:
    """What a plan says of the one output of a network."""
    visits = run(network.to("meta").eval(), torch.empty(1, *shape, device="meta"), training=False).visits
    (tensor,) = visits[""].outputs
    return output("", tensor.shape, tensor.reach, shape[1:])


def middle(found: Output) -> list[int]:
    return [n // 2 for n in found.shape[2:]]


numbers = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2))


@st.composite
def stacks(draw: st.DrawFn) -> tuple[int, list[tuple[str, tuple[tuple[int, int, int, int], ...]]]]:
    dims = draw(st.sampled_from([1, 1, 2]))
    layers = draw(
        st.lists(
            st.tuples(st.sampled_from(["conv", "pool", "residual"]), st.tuples(*[numbers] * dims)),
            min_size=1,
            max_size=4 if dims == 1 else 3,
        )
    )
    return dims, layers


class Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inner(x)


def layer(dims: int, kind: str, axes: tuple[tuple[int, int, int, int], ...]) -> nn.Module:
    kernel, stride, padding, dilation = (tuple(axis[n] for axis in axes) for n in range(4))
    convolution = (nn.Conv1d, nn.Conv2d)[dims - 1]
    if kind == "conv":
        return convolution(2, 2, kernel, stride, padding, dilation)
    if kind == "pool":
        pool = (nn.AvgPool1d, nn.AvgPool2d)[dims - 1]
        return pool(kernel, stride, tuple(min(p, k // 2) for p, k in zip(padding, kernel, strict=True)))
    odd = tuple(k | 1 for k in kernel)
    same = tuple(d * (k - 1) // 2 for k, d in zip(odd, dilation, strict=True))
    return Residual(convolution(2, 2, odd, 1, same, dilation))


@settings(max_examples=60, deadline=None)
@given(stacks())
def test_stacks_of_convolutions_pools_and_shortcuts(stack) -> None:
    dims, layers = stack
    make = lambda: nn.Sequential(*[layer(dims, kind, axes) for kind, axes in layers])  # noqa: E731
    first = traced(make(), (2, *[400] * dims))
    # large enough that from its middle no edge is seen, neither by the output nor on the way
    size = tuple(3 * field.size + 8 * field.jump for field in first.field)
    found = traced(make(), (2, *size))
    position = middle(found)
    assert seen(positive(make()), (2, *size), position) == planned(found, position)


@settings(max_examples=30, deadline=None)
@given(stacks(), st.integers(0, 10_000))
def test_at_the_edges_nothing_else_is_seen(stack, where: int) -> None:
    dims, layers = stack
    make = lambda: nn.Sequential(*[layer(dims, kind, axes) for kind, axes in layers])  # noqa: E731
    size = (60,) * dims
    try:
        found = traced(make(), (2, *size))
    except Exception:  # the stack is too deep for such an input
        return
    position = [where % n for n in found.shape[2:]]
    real = seen(positive(make()), (2, *size), position)
    for (low, high), (first, last) in zip(real, planned(found, position) if real else [], strict=True):
        assert first <= low
        assert high <= last


VGG = {"type": "vgg_lite", "layers": [1, 2, 2], "channels": [2, 2, 2]}
RESNET = {"type": "resnet_lite", "layers": [1, 1, 1], "width": 2}
SPECS = {
    "lenet": {"input": {"channels": 1, "size": [48, 48]}, "backbone": {"type": "lenet"}},
    "vgg": {"input": {"channels": 2, "size": [96, 80]}, "backbone": VGG},
    "resnet": {"input": {"channels": 2, "size": [160, 120]}, "backbone": RESNET},
    "bottlenecks": {
        "input": {"channels": 2, "size": [160, 120]},
        "backbone": {"type": "resnet_lite", "layers": [1, 2], "width": 2, "block": "bottleneck"},
    },
    "dilated": {
        "input": {"channels": 2, "size": [400, 400]},
        "backbone": {"type": "resnet_lite", "layers": [1, 1, 1, 1], "width": 2, "output_stride": 8},
    },
    "signals": {"input": {"channels": 1, "size": [300]}, "backbone": {**RESNET, "dims": 1}},
    "volumes": {
        "input": {"channels": 1, "size": [40, 44, 48]},
        "backbone": {"type": "resnet_lite", "layers": [1, 1], "width": 2, "dims": 3},
    },
    "timm": {"input": {"channels": 3, "size": [192, 192]}, "backbone": {"type": "timm:resnet14t"}},
}


@pytest.mark.parametrize("name", SPECS)
def test_the_features_of_real_networks(name: str) -> None:
    compare(SPECS[name])


def compare(spec: dict) -> None:
    model = positive(zoo.build(spec))
    shape = (spec["input"]["channels"], *spec["input"]["size"])
    compared = 0
    for number, found in enumerate(zoo.plan(spec).parts["backbone"].outputs):
        position = middle(found)
        lowest_and_highest = planned(found, position)
        if all(low >= 0 and high < n for (low, high), n in zip(lowest_and_highest, shape[1:], strict=True)):
            assert seen(lambda x, n=number: model(x)[n], shape, position) == lowest_and_highest, found.name
            compared += 1
    assert compared


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("timm:cspresnet50", 420),
        ("timm:dla34", 512),
        ("torchvision:googlenet", 500),
        ("torchvision:shufflenet_v2_x0_5", 480),
        ("torchvision:squeezenet1_0", 420),
    ],
)
def test_the_features_of_networks_of_other_libraries(name: str, size: int) -> None:
    compare({"input": {"channels": 3, "size": [size, size]}, "backbone": name})


@pytest.mark.parametrize(
    ("name", "fields"),
    [("resnet18", [43, 99, 211, 435]), ("resnet50", [35, 91, 267, 427]), ("vgg16", [6, 16, 44, 100, 212])],
)
def test_the_fields_of_the_papers(name: str, fields: list[int]) -> None:
    assert [output.field[0].size for output in zoo.plan(name).parts["backbone"].outputs] == fields


class Resized(nn.Module):
    def __init__(self, mode: str, scale: float) -> None:
        super().__init__()
        self.mode, self.scale = mode, scale
        self.before = nn.Conv2d(2, 2, 3, 2, 1)
        self.after = nn.Conv2d(2, 2, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        small = self.before(x)
        size = [int(n * self.scale) for n in small.shape[2:]]
        return self.after(nn.functional.interpolate(small, size=size, mode=self.mode))


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "bicubic"])
@pytest.mark.parametrize("scale", [2, 1.5, 3, 0.5, 0.7])
def test_of_resized_maps_the_field_is_a_bound_that_is_not_far_off(mode: str, scale: float) -> None:
    found = traced(Resized(mode, scale), (2, 60, 66))
    network = positive(Resized(mode, scale))
    slack = 2 * 2 * max(1, 1 / scale) + 1  # rounding on either side, in positions of the input
    for at in range(8, min(found.shape[2:]) - 8):
        real = seen(network, (2, 60, 66), (at, at))
        lines = [(f.offset + f.jump * at, f.offset + f.jump * at + f.size - 1) for f in found.field]
        for (low, high), (first, last) in zip(real, lines, strict=True):
            assert first - 1 < low
            assert high < last + 1
            assert (last - first) - (high - low) <= slack


class Custom(nn.Module):
    def __init__(self, forward) -> None:
        super().__init__()
        self.call = forward
        self.conv = nn.Conv2d(2, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.call(self.conv(x))


def of(forward, shape: tuple[int, ...] = (2, 16, 16)) -> list[tuple[str, float]]:
    return [(str(field), field.jump) for field in traced(Custom(forward), shape).field]


def test_global_pools_see_the_whole_input() -> None:
    whole = [("whole", 0)] * 2
    assert of(lambda x: nn.functional.adaptive_avg_pool2d(x, 1)) == whole
    assert of(lambda x: nn.functional.adaptive_max_pool2d(x, 1)) == whole
    assert of(lambda x: x.mean((2, 3))) == whole
    assert of(lambda x: x.flatten(2).amax(-1)) == whole
    assert of(lambda x: x * x.mean((2, 3), keepdim=True).sigmoid()) == whole
    assert of(lambda x: x.mean(3)) == [("3", 1), ("whole", 0)]


def test_a_product_over_positions_sees_the_whole_input() -> None:
    assert of(lambda x: x.flatten(1) @ torch.empty(4 * 16 * 16, 5, device=x.device)) == [("whole", 0)] * 2
    tokens = lambda x: x.flatten(2).transpose(1, 2)  # noqa: E731
    attention = lambda t: torch.nn.functional.scaled_dot_product_attention(t, t, t)  # noqa: E731
    assert of(lambda x: attention(tokens(x))) == [("whole", 0)] * 2
    assert of(lambda x: tokens(x) @ torch.empty(4, 4, device=x.device)) == [("3", 1)] * 2


def test_attention_in_windows_sees_its_window() -> None:
    def windows(x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        tokens = x.view(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
        mixed = (tokens @ tokens.transpose(1, 2)).softmax(-1) @ tokens
        return mixed.view(n, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)

    assert of(windows) == [("6", 1)] * 2  # four positions that see one more on either side


def test_positions_may_be_sliced_padded_flipped_and_put_into_channels() -> None:
    assert of(lambda x: x[:, :, ::2, 3:]) == [("3", 2), ("3", 1)]
    assert of(lambda x: nn.functional.pad(x, (2, 2))) == [("3", 1)] * 2
    assert of(lambda x: nn.functional.pixel_unshuffle(x, 2)) == [("4", 2)] * 2
    assert of(lambda x: nn.functional.pixel_shuffle(x, 2)) == [("3", 0.5)] * 2
    pooled = lambda x: nn.functional.max_pool2d(nn.functional.pixel_shuffle(x, 2), 4)  # noqa: E731
    assert of(pooled) == [("4", 2)] * 2
    assert of(lambda x: torch.cat([x, x], 1)) == [("3", 1)] * 2
    levels = lambda x: torch.cat([x.flatten(2), nn.functional.max_pool2d(x, 2).flatten(2)], 2)  # noqa: E731
    assert of(levels) == [("4", 0)] * 2  # that of the largest: no jump describes both
    assert of(lambda x: x.roll(2, 3)) == [("3", 1), ("whole", 0)]


def test_what_is_written_in_place_is_followed() -> None:
    def written(x: torch.Tensor) -> torch.Tensor:
        canvas = torch.zeros_like(x)
        canvas[:, :2] = x[:, :2]
        return canvas

    def summed(x: torch.Tensor) -> torch.Tensor:
        x += nn.functional.avg_pool2d(x, 3, 1, 1)
        return x.relu_()

    assert of(summed) == [("5", 1)] * 2
    assert all(size == "whole" for size, _ in of(written))  # a bound: it is not known where


def test_an_operation_that_is_not_known_makes_unknown_and_nothing_else_does() -> None:
    def grid(x: torch.Tensor) -> torch.Tensor:
        places = torch.empty(x.shape[0], 4, 4, 2, device=x.device)
        return nn.functional.grid_sample(x, places, align_corners=False)

    assert [size for size, _ in of(grid)] == ["unknown"] * 2
    assert [size for size, _ in of(lambda x: grid(x) + x[:, :, :4, :4])] == ["unknown"] * 2


NECKS = {"fpn": {"channels": 2}, "pan": {"channels": 2}, "concat": {}}


@pytest.mark.parametrize("neck", ["fpn", "pan", "concat"])
def test_necks_that_merge_maps_see_no_more_than_is_planned_and_not_much_less(neck: str) -> None:
    backbone = {"type": "resnet_lite", "layers": [1, 1, 1], "width": 2, "stem": "3x3"}
    spec = {"input": {"channels": 1, "size": [160, 144]}, "backbone": backbone, "neck": {"type": neck, **NECKS[neck]}}
    model = positive(zoo.build(spec))
    part = zoo.plan(spec).parts["neck"]
    coarsest = max(output.stride[0] for output in part.outputs) if neck != "concat" else 4
    for number, found in enumerate(part.outputs):
        for shift in (0, 1):
            position = [n // 2 + shift for n in found.shape[2:]]
            real = seen(lambda x, n=number: model(x)[n], (1, 160, 144), position)
            for (low, high), (first, last) in zip(real, planned(found, position), strict=True):
                assert first <= low
                assert high <= last
                assert (last - first) - (high - low) <= 4 * coarsest
