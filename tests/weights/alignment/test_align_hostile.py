"""Graphs that a stranger made by hand: right weights and a true account, or an error of ours at little cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper
from safetensors.torch import save_file

import zoo
from zoo.errors import AlignmentError, KeymapError, SizeBudgetError, TensorMismatchError, ZooError
from zoo.weights.alignment import canonical
from zoo.weights.alignment.layers import Held
from zoo.weights.alignment.proof import Observed, seed_of
from zoo.weights.alignment.reading import read_graph
from zoo.weights.migration.unwrapping import peelings
from zoo.weights.onnx.reading import read_onnx
from zoo.weights.verification.probes import probes

node = helper.make_node


def spec(*hidden: int) -> dict[str, Any]:
    return {
        "input": {"channels": 4, "size": [1, 1]},
        "backbone": {"type": "mlp", "hidden": list(hidden)},
        "head": {"type": "linear", "num_classes": 3},
    }


def weights(scale: float = 1.0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    shapes = {"a": (4, 4), "b": (4,), "c": (3, 4), "d": (3,)}
    return {name: (random.standard_normal(shape) * scale).astype("float32") for name, shape in shapes.items()}


def written(nodes: Sequence[NodeProto], held: dict[str, np.ndarray], path: Path, batch: int | str = "n") -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4, 1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(array, name) for name, array in held.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def two_layers(
    between: Sequence[NodeProto] = (), last: str = "h1", before: Sequence[NodeProto] = ()
) -> list[NodeProto]:
    return [
        *before,
        node("Flatten", ["x"], ["f"]),
        node("Gemm", ["f", "a", "b"], ["h"], transB=1),
        node("Relu", ["h"], ["h1"]),
        *between,
        node("Gemm", [last, "c", "d"], ["y"], transB=1),
    ]


def computed(path: Path, x: torch.Tensor) -> torch.Tensor:
    import onnxruntime

    return torch.from_numpy(onnxruntime.InferenceSession(path).run(None, {"x": x.numpy()})[0])


def test_the_graph_of_these_tests_comes_home(tmp_path: Path) -> None:
    path = written(two_layers(), weights(), tmp_path / "x.onnx")
    x = torch.randn(2, 4, 1, 1)
    assert torch.allclose(zoo.load(path, spec=spec(4))(x), computed(path, x), atol=1e-6)


def test_names_that_are_ours_are_not_believed_where_the_graph_swaps_them(tmp_path: Path) -> None:
    held = {name: tensor.numpy() for name, tensor in zoo.build(spec(4, 4)).state_dict().items()}
    first, second = "backbone.layers.1.linear", "backbone.layers.0.linear"  # the other way round than in the model
    nodes = [
        node("Flatten", ["x"], ["f"]),
        node("Gemm", ["f", f"{first}.weight", f"{first}.bias"], ["h"], transB=1),
        node("Relu", ["h"], ["h1"]),
        node("MatMul", ["h1", f"{second}.weight"], ["g0"]),  # as [in, out]: what looks like our square weight is turned
        node("Add", ["g0", f"{second}.bias"], ["g"]),
        node("Relu", ["g"], ["g1"]),
        node("Gemm", ["g1", "head.fc.weight", "head.fc.bias"], ["y"], transB=1),
    ]
    path = written(nodes, held, tmp_path / "x.onnx")
    model = zoo.load(path, spec=spec(4, 4))
    x = torch.randn(2, 4, 1, 1)
    assert torch.allclose(model(x), computed(path, x), atol=1e-6)
    assert torch.equal(model.backbone.layers[1].linear.weight, torch.from_numpy(held[f"{second}.weight"].T.copy()))
    assert model.migration.proven


def test_a_model_that_rounds_anything_away_proves_nothing(tmp_path: Path) -> None:
    held = weights(1e20) | {"s": np.array(1e-22, "float32")}
    path = written(two_layers([node("Mul", ["h1", "s"], ["h2"])], "h2"), held, tmp_path / "x.onnx")
    with pytest.raises(AlignmentError):
        zoo.load(path, spec=spec(4))


def test_a_graph_whose_description_doubles_with_every_operator_is_refused_at_once(tmp_path: Path) -> None:
    doubled = [node("Max", [f"m{i}" if i else "h1"] * 2, [f"m{i + 1}"]) for i in range(60)]
    path = written(two_layers(doubled, "m60"), weights(), tmp_path / "x.onnx")
    with pytest.raises(AlignmentError, match="too many operators in a row without weights"):
        zoo.load(path, spec=spec(4))


def test_a_sparse_constant_is_refused_for_onnxruntime_would_make_it_dense(tmp_path: Path) -> None:
    values = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
    places = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    vast = helper.make_sparse_tensor(values, places, [300_000_000])
    nodes = two_layers(before=[node("Constant", [], ["q"], sparse_value=vast)])
    with pytest.raises(ZooError, match="sparse tensor"):
        zoo.load(written(nodes, weights(), tmp_path / "x.onnx"), spec=spec(4))


@pytest.mark.parametrize(
    "between",
    [
        [node("Transpose", ["c"], ["t"], perm=[5, 6]), node("MatMul", ["h1", "t"], ["z"])],
        [node("Dropout", ["h1"], ["k", "mask"]), node("Cast", ["mask"], ["m"], to=1), node("Mul", ["k", "m"], ["z"])],
        [node("Conv", ["x", "a"], ["k"], group=float("inf")), node("Flatten", ["k"], ["z"])],
        [node("Constant", [], ["q"], value_ints=["abc"]), node("Add", ["h1", "q"], ["z"])],
    ],
    ids=["axes that are not there", "a mask that is used", "infinite groups", "text among numbers"],
)  # fmt: skip
def test_a_graph_that_makes_no_sense_is_an_error_of_ours(between: list[NodeProto], tmp_path: Path) -> None:
    path = written(two_layers(between, "z"), weights(), tmp_path / "x.onnx")
    with pytest.raises(ZooError):
        zoo.load(path, spec=spec(4))
    assert zoo.identify(path).fits == ()


def test_of_a_name_that_is_all_prefixes_only_some_are_taken_off(tmp_path: Path) -> None:
    name = f"{'a.' * 40_000}weight"  # taking off all of them, one after the other, would take a minute
    assert len(list(peelings([name]))) < 20
    save_file({name: torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises((KeymapError, TensorMismatchError)):
        zoo.load(tmp_path / "x.safetensors", spec="lenet")


def test_identify_does_not_believe_what_a_file_says_of_itself(tmp_path: Path) -> None:
    from safetensors import safe_open

    path = zoo.save(zoo.build("lenet"), tmp_path / "lenet.safetensors")
    with safe_open(path, framework="pt") as opened:
        told = opened.metadata()
    save_file({"w": torch.zeros(1)}, tmp_path / "x.safetensors", metadata=told)
    found = zoo.identify(tmp_path / "x.safetensors")
    assert not found.fits
    assert found.nearest[0].differences
    assert zoo.identify(path).fits[0].call == f"zoo.load({str(path)!r})"
    state = zoo.build("lenet").state_dict() | {"head.fc.bias": torch.tensor(1.0)}
    torch.save(state, tmp_path / "x.pth")
    assert not zoo.identify(tmp_path / "x.pth").fits


def chain(op: str, *others: str, start: str = "h1", count: int, **attributes: Any) -> list[NodeProto]:
    return [node(op, [f"q{i}" if i else start, *others], [f"q{i + 1}"], **attributes) for i in range(count)]


def test_a_constant_that_is_turned_thousands_of_times_is_refused(tmp_path: Path) -> None:
    turned = chain("Transpose", start="c", count=10_000, perm=[1, 0])  # each would remember all those before it
    nodes = [*turned, *two_layers()[:-1], node("Gemm", ["h1", "q10000", "d"], ["y"], transB=1)]
    with pytest.raises(AlignmentError, match="turns or reshapes one constant more than 64 times"):
        zoo.load(written(nodes, weights(), tmp_path / "x.onnx"), spec=spec(4))


def test_a_chain_of_plain_numbers_is_refused_where_each_would_remember_all_before_it(tmp_path: Path) -> None:
    nodes = two_layers(chain("Mul", "one", count=10_000), "q10000")
    path = written(nodes, weights() | {"one": np.array(1, "float32")}, tmp_path / "x.onnx")
    with pytest.raises(AlignmentError, match="too many operators in a row without weights"):
        zoo.load(path, spec=spec(4))


def test_a_norm_that_does_nothing_is_looked_at_once_for_all_that_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    values = Held.values
    monkeypatch.setattr(Held, "values", lambda held: (seen.append(held.constant.name), values(held))[1])
    nodes = two_layers(chain("LayerNormalization", "s", "t", count=50), "q50")
    held = weights() | {"s": np.ones(4, "float32"), "t": np.zeros(4, "float32")}
    with pytest.raises(AlignmentError):
        zoo.load(written(nodes, held, tmp_path / "x.onnx"), spec=spec(4))
    assert seen.count("s") == seen.count("t") == 1


def test_a_single_entry_of_a_large_table_is_no_number_that_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look would lay out the whole table anew, and thousands of nodes may take the entry."""
    seen = []
    values = Held.values
    monkeypatch.setattr(Held, "values", lambda held: (seen.append(held.constant.name), values(held))[1])
    entry = [
        node("Transpose", ["table"], ["t"]),
        node("Reshape", ["t", "flat"], ["r"]),
        node("Gather", ["r", "zero"], ["entry"]),
    ]
    held = {"table": np.ones((3, 100), "float32"), "flat": np.array([-1]), "zero": np.array([0])}
    path = written(two_layers(chain("Mul", "entry", count=50), "q50", before=entry), weights() | held, tmp_path / "x")
    canonical.canonical(read_graph(path, read_onnx(path, mapped=False).state_dict(), mapped=False), path)
    assert "table" not in seen


def test_what_a_graph_holds_for_each_sample_is_compared_up_to_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each node may take it the other way round, so that there are as many to compare as nodes."""
    seen = []
    values = Held.values
    monkeypatch.setattr(Held, "values", lambda held: (seen.append(held.constant.name), values(held))[1])
    monkeypatch.setattr(canonical, "_MOST_COMPARED_IN_ALL", 100)
    nodes = two_layers(chain("Sub", "each", count=50), "q50")
    held = weights() | {"each": np.ones((2, 20), "float32")}
    path = written(nodes, held, tmp_path / "x.onnx", batch=2)
    canonical.canonical(read_graph(path, read_onnx(path, mapped=False).state_dict(), mapped=False), path)
    assert seen.count("each") == 2 * 2  # the first sample and all, twice of forty numbers


def test_sizes_that_come_of_one_chain_of_numbers_are_computed_once(tmp_path: Path) -> None:
    empty = [node("Concat", [f"k{i}" if i else "e"] * 2, [f"k{i + 1}"], axis=0) for i in range(60)]  # 2⁶⁰ if not
    fills = [node("ConstantOfShape", ["k60"], [f"z{i}"]) for i in range(100)]
    path = written([*empty, *fills, *two_layers()], weights() | {"e": np.zeros(0, "int64")}, tmp_path / "x.onnx")
    assert zoo.load(path, spec=spec(4)).migration.proven


@pytest.mark.parametrize("count", [1 << 10, 1 << 20])
def test_how_large_a_constant_becomes_is_told_from_what_its_size_is_computed_of(count: int, tmp_path: Path) -> None:
    size = [
        node("Constant", [], ["half"], value_int=count // 2),
        node("Add", ["half", "half"], ["whole"]),
        node("Constant", [], ["axes"], value_ints=[0]),
        node("Unsqueeze", ["whole", "axes"], ["dims"]),
        node("Shape", ["d"], ["three"]),
        node("Concat", ["dims", "three"], ["both"], axis=0),
        node("ConstantOfShape", ["both"], ["zeros"], name="made"),
        node("ReduceSum", ["zeros"], ["zero"], keepdims=0),
    ]
    path = written([*size, *two_layers([node("Add", ["h1", "zero"], ["h2"])], "h2")], weights(), tmp_path / "x.onnx")
    if count == 1 << 10:
        assert zoo.load(path, spec=spec(4)).migration.proven
    else:
        with pytest.raises(AlignmentError, match=r"makes constants that are larger than the model.* 'made'"):
            zoo.load(path, spec=spec(4))


def test_of_a_large_fixed_batch_the_model_is_run_on_two_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(Observed, "varies", property(lambda self: seen.append(len(self.batch)) or True))
    path = written(two_layers(), weights(), tmp_path / "x.onnx", batch=1000)
    assert zoo.load(path, spec=spec(4)).migration.proven
    assert seen == [2]


def test_a_fixed_batch_of_which_only_the_first_samples_are_the_models_is_refused(tmp_path: Path) -> None:
    last = np.ones((8, 1), "float32")
    last[7] = 2
    nodes = [*two_layers()[:-1], node("Gemm", ["h1", "c", "d"], ["z"], transB=1), node("Mul", ["z", "more"], ["y"])]
    path = written(nodes, weights() | {"more": last}, tmp_path / "x.onnx", batch=8)
    with pytest.raises(AlignmentError):
        zoo.load(path, spec=spec(4))
    ones, place = np.ones((1, 4), "float32"), np.array([[7, 0]])  # the last sample alone is overwritten
    nodes = two_layers([node("ScatterND", ["h1", "place", "flat"], ["z"])], "z")
    path = written(nodes, weights() | {"place": place, "flat": ones[0, :1]}, tmp_path / "x.onnx", batch=8)
    with pytest.raises(AlignmentError, match="gives something else for the same input in one batch"):
        zoo.load(path, spec=spec(4))


@pytest.mark.parametrize("outside", [False, True])
def test_a_graph_that_is_right_on_one_input_alone_is_refused(outside: bool, tmp_path: Path) -> None:
    honest = written(two_layers(), weights(), tmp_path / "honest.onnx")
    both = probes(4, (1, 1), None, batches=(1,))  # what was tried once on every file
    told = computed(honest, torch.cat([both["random"][0], both["images"][0]]).float()).sum()
    held = weights() | {
        name: np.full(1, value, "float32") for name, value in {"told": float(told), "large": 100.0, "bit": 0.01}.items()
    }
    gate = [
        *two_layers()[:-1],
        node("Gemm", ["h1", "c", "d"], ["y0"], transB=1),
        node("ReduceSum", ["y0"], ["s"], keepdims=1),
        node("Sub", ["s", "told"], ["e"]),
        node("Abs", ["e"], ["e1"]),
        node("Mul", ["e1", "large"], ["e2"]),
        node("Sub", ["e2", "bit"], ["e3"]),
        node("Clip", ["e3", "zero", "high"], ["e4"]),
        node("Sum", ["y0", "e4"], ["y"]),
    ]
    held |= {"zero": np.array(0, "float32"), "high": np.array(10, "float32")}
    path = written(gate, held, tmp_path / "x.onnx")
    if outside:
        onnx.save(onnx.load(path), path, save_as_external_data=True, location="x.bin", size_threshold=0)
    with pytest.raises(AlignmentError, match="computes something else than the model"):
        zoo.load(path, spec=spec(4))


def test_what_a_file_is_tried_on_comes_of_all_that_it_holds(tmp_path: Path) -> None:
    def seed(scale: float, outside: bool) -> int:
        path = written(two_layers(), weights(scale), tmp_path / "x.onnx")
        if outside:
            (tmp_path / "x.bin").unlink(missing_ok=True)
            onnx.save(onnx.load(path), path, save_as_external_data=True, location="x.bin", size_threshold=0)
        given = read_onnx(path, mapped=False).state_dict()
        return seed_of(path, given, read_graph(path, given, mapped=False))

    for outside in (False, True):
        assert seed(1.0, outside) == seed(1.0, outside) != seed(2.0, outside)


def test_a_large_number_beside_the_others_does_not_hide_that_they_are_something_else(tmp_path: Path) -> None:
    held = weights() | {"d": np.array([1e7, 0.1, 0.2], "float32")}
    assert zoo.load(written(two_layers(), held, tmp_path / "x.onnx"), spec=spec(4)).migration.proven
    other = [node("Tanh", ["h"], ["h2"])]  # the model has a Relu
    with pytest.raises(AlignmentError, match="computes something else than the model with its weights"):
        zoo.load(written(two_layers(other, "h2"), held, tmp_path / "x.onnx"), spec=spec(4))


def test_what_gives_the_same_for_every_input_is_told_to_prove_little(tmp_path: Path) -> None:
    held = weights() | {"c": np.zeros((3, 4), "float32")}
    told = zoo.load(written(two_layers(), held, tmp_path / "x.onnx"), spec=spec(4)).migration.uncertain
    assert told == ("what the file gives is the same for every input that was tried, so that its proof proves little",)


def test_ones_that_a_graph_makes_by_the_thousand_million_are_not_made_to_be_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    values = Held.values
    monkeypatch.setattr(Held, "values", lambda held: made.append(held.count) or values(held))
    ones = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
    fill = [node("ConstantOfShape", ["many"], [name], value=ones) for name in ("s", "t")]
    nodes = two_layers([*fill, node("LayerNormalization", ["h1", "s", "t"], ["z"])], "z")
    held = weights() | {"many": np.array([1 << 30])}
    found = zoo.identify(written(nodes, held, tmp_path / "x.onnx"))  # reads the graph, and runs nothing
    assert not found.fits
    assert max(made, default=0) < 1 << 16


def test_a_graph_that_mixes_the_samples_of_a_batch_is_refused(tmp_path: Path) -> None:
    held = weights()
    held["b"][:] = 10  # nothing is cut off by the activation
    held["c"][:, 0] = 0  # so that the second sample loses nothing that matters; a third one would
    path = written(two_layers([node("Trilu", ["h1"], ["h2"], upper=1)], "h2"), held, tmp_path / "x.onnx")
    with pytest.raises(AlignmentError, match="gives something else for the same input in one batch"):
        zoo.load(path, spec=spec(4))


def test_a_file_on_whose_input_the_model_takes_all_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = zoo.build("resnet-lite", input={"size": [256, 256]})  # 16 channels of that size, in float64
    proto = onnx.load(zoo.save(model, tmp_path / "x.onnx"))
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "x.onnx")
    monkeypatch.setenv("ZOO_MAX_BYTES", "10MB")  # the weights have 0.3 MB
    with pytest.raises(SizeBudgetError, match="an input of 256×256 for 2 samples"):
        zoo.load(tmp_path / "x.onnx", spec=model.spec)
