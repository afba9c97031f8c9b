"""Tables of relative positions come home: what an exporter read out of them is put back where it was."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import disguises
import onnx
import pytest
import strangers
import timm
import torch
from onnx import numpy_helper
from strangers import Stranger
from torch import nn
from torchvision.models.swin_transformer import SwinTransformer

import zoo
from zoo.builder import compose
from zoo.errors import AlignmentError
from zoo.features import Feature
from zoo.model import Model
from zoo.weights.alignment import align, tables
from zoo.weights.alignment.tracing import traced
from zoo.weights.alignment.unfolding import Unfolded

TOKENS, HEADS, WIDTH = 16, 2, 16
DISTANCES = (torch.arange(TOKENS)[:, None] - torch.arange(TOKENS)).abs()
AROUND = (torch.arange(TOKENS)[:, None] - torch.arange(TOKENS)) % TOKENS


def _torchvision() -> nn.Module:
    return SwinTransformer(
        patch_size=[2, 2], embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=[4, 4], num_classes=5
    )


def _timm(window: int = 4) -> nn.Module:
    return timm.models.swin_transformer.SwinTransformer(
        img_size=32, patch_size=2, window_size=window, embed_dim=16, depths=(2, 2), num_heads=(2, 4), num_classes=5
    )


def _levit() -> nn.Module:
    return timm.models.levit.Levit(
        img_size=32, embed_dim=(16, 32), key_dim=8, depth=(1, 1), num_heads=(2, 4), num_classes=5
    )


def _beit() -> nn.Module:
    return timm.models.beit.Beit(
        img_size=32,
        patch_size=8,
        embed_dim=32,
        depth=2,
        num_heads=4,
        num_classes=5,
        use_rel_pos_bias=True,
        init_values=0.1,
    )


MODELS: dict[str, Callable[[], nn.Module]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "levit": _levit,
    "beit": _beit,
}


class Distant(nn.Module):
    """Attention over patches, twice, whose bias depends on how far apart two of them are."""

    def __init__(
        self,
        index: torch.Tensor = DISTANCES,
        entries: int = TOKENS,
        shared: bool = False,
        after: bool = False,
        second: torch.Tensor | None = None,
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 8, 8)
        self.into = nn.ModuleList(nn.Linear(WIDTH, 3 * WIDTH) for _ in range(2))
        self.out = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2))
        self.table = nn.ParameterList(nn.Parameter(torch.randn(entries, HEADS)) for _ in range(1 if shared else 2))
        self.fc = nn.Linear(WIDTH, 5)
        self.after = after
        self.register_buffer("places0", index.clone(), persistent=False)
        self.register_buffer("places1", (index if second is None else second).clone(), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        for depth in range(2):
            table = self.table[depth % len(self.table)]
            places: torch.Tensor = self.get_buffer(f"places{depth}")
            bias = table[places.view(-1)].view(TOKENS, TOKENS, HEADS).permute(2, 0, 1).unsqueeze(0)
            parts = self.into[depth](x).reshape(len(x), TOKENS, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
            weights = parts[0] @ parts[1].transpose(-2, -1)
            weights = weights.softmax(-1) + bias if self.after else (weights + bias).softmax(-1)
            x = x + self.out[depth]((weights @ parts[2]).transpose(1, 2).flatten(2))
        found: torch.Tensor = self.fc(x.mean(1))
        return found


Register = Callable[[str, type[nn.Module]], None]


def registered(backbone: Register, name: str, make: Callable[[], nn.Module]) -> dict[str, Any]:
    """Make a model of others a backbone here, and return the spec of it."""

    class Backbone(nn.Module):
        def __init__(self, in_channels: int) -> None:
            super().__init__()
            self.model, self.features = make(), (Feature("logits", 5, size=()),)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return (self.model(x),)

    backbone(name, Backbone)
    return {"input": {"channels": 3, "size": [32, 32]}, "backbone": name, "neck": "identity"}


def exported(make: Callable[[], nn.Module], path: Path, exporter: str = "dynamo") -> nn.Module:
    return strangers.exported(Stranger(make, dict), exporter, path)


def changed(path: Path, shape: list[int], place: tuple[int, ...], by: float) -> Path:
    """Change one number of the first constant of a shape in a file."""
    model = onnx.load(path)
    constant = next(each for each in model.graph.initializer if list(each.dims) == shape)
    array = numpy_helper.to_array(constant).copy()
    array[place] += by
    constant.CopyFrom(numpy_helper.from_array(array, constant.name))
    onnx.save(model, path)
    return path


def differing(model: Model, theirs: nn.Module) -> list[str]:
    """Return the names of the tensors that are not those of the stranger, bit for bit."""
    wanted = theirs.state_dict()
    return [name for name, each in model.backbone.model.state_dict().items() if not torch.equal(each, wanted[name])]


@pytest.mark.parametrize("disguise", [disguises.anonymous, disguises.extended])
@pytest.mark.parametrize("exporter", ["legacy", "dynamo", "dynamo, unfolded"])
@pytest.mark.parametrize("name", ["torchvision", "timm"])
def test_a_swin_comes_home_bit_for_bit(
    name: str, exporter: str, disguise: disguises.Disguise, backbone: Register, tmp_path: Path
) -> None:
    spec = registered(backbone, "swin", MODELS[name])
    theirs = exported(MODELS[name], tmp_path / "x.onnx", exporter)
    model = zoo.load(disguise(tmp_path / "x.onnx"), spec=spec)
    assert not differing(model, theirs)
    assert model.migration.alignment.counts == {"exact": 63, **({"identity": 4} if name == "torchvision" else {})}
    assert not model.migration.uncertain


@pytest.mark.parametrize("name", list(MODELS))
def test_the_order_of_the_nodes_does_not_matter(name: str, backbone: Register, tmp_path: Path) -> None:
    """What asks for sizes and makes masks of them is looked at after what it takes, as a runtime does."""
    spec = registered(backbone, name, MODELS[name])
    exported(MODELS[name], tmp_path / "x.onnx", "legacy")
    loaded = [zoo.load(path, spec=spec) for path in (tmp_path / "x.onnx", disguises.shuffled(tmp_path / "x.onnx"))]
    wanted, found = (each.state_dict() for each in loaded)
    assert all(torch.equal(wanted[key], found[key]) for key in wanted)


@pytest.mark.parametrize("disguise", [disguises.anonymous, disguises.extended])
@pytest.mark.parametrize("name", ["torchvision", "timm"])
def test_a_swin_for_any_batch_comes_home(
    name: str, disguise: disguises.Disguise, backbone: Register, tmp_path: Path
) -> None:
    spec = registered(backbone, "swin", MODELS[name])
    theirs = MODELS[name]().eval()
    strangers.fill(theirs)
    x, axes = torch.zeros(2, 3, 32, 32), {"x": {0: "n"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(theirs, (x,), tmp_path / "x.onnx", dynamo=False, input_names=["x"], dynamic_axes=axes)
    assert not differing(zoo.load(disguise(tmp_path / "x.onnx"), spec=spec), theirs)


@pytest.mark.parametrize("exporter", ["legacy", "dynamo", "dynamo, unfolded"])
@pytest.mark.parametrize("disguise", [disguises.anonymous, disguises.extended])
def test_the_tables_of_a_levit_come_home_bit_for_bit(
    exporter: str, disguise: disguises.Disguise, backbone: Register, tmp_path: Path
) -> None:
    spec = registered(backbone, "levit", _levit)
    theirs = exported(_levit, tmp_path / "x.onnx", exporter)
    model = zoo.load(disguise(tmp_path / "x.onnx"), spec=spec)
    told = [name for name in theirs.state_dict() if name.endswith("attention_biases")]
    assert len(told) == 3
    assert not set(told) & set(differing(model, theirs))
    assert model.migration.proven


@pytest.mark.parametrize("exporter", ["legacy", "dynamo", "dynamo, unfolded"])
@pytest.mark.parametrize("disguise", [disguises.anonymous, disguises.extended])
def test_a_beit_comes_home_with_the_biases_that_it_joins(
    exporter: str, disguise: disguises.Disguise, backbone: Register, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = registered(backbone, "beit", _beit)
    with monkeypatch.context() as plain:
        plain.setattr(timm.layers.config, "_USE_FUSED_ATTN", 0)  # dynamo does not export the other one
        theirs = exported(_beit, tmp_path / "x.onnx", exporter)
    model = zoo.load(disguise(tmp_path / "x.onnx"), spec=spec)
    assert not differing(model, theirs)
    notes = {each.name.rpartition(".")[2]: each.note for each in model.migration.alignment.origins if each.note}
    assert notes == dict.fromkeys(["q_bias", "v_bias"], "a part of what the file has as one")


def test_an_index_that_is_saved_is_the_one_that_the_model_makes(backbone: Register, tmp_path: Path) -> None:
    spec = registered(backbone, "swin", _torchvision)
    exported(_torchvision, tmp_path / "x.onnx")
    model = zoo.load(tmp_path / "x.onnx", spec=spec)
    origins = [each for each in model.migration.alignment.origins if each.provenance == "identity"]
    assert {each.name.rpartition(".")[2] for each in origins} == {"relative_position_index"}
    assert {each.note for each in origins} == {"an index that the model makes when it is built"}


def test_a_swin_is_traced_in_one_run_on_the_meta_device(backbone: Register) -> None:
    for name, make in MODELS.items():
        run = traced(compose(registered(backbone, name, make), "meta").eval(), [32, 32], 3)
        assert run.graph is not None


@pytest.mark.parametrize("exporter", ["legacy", "dynamo", "dynamo, unfolded"])
@pytest.mark.parametrize("shared", [False, True])
def test_one_entry_that_is_two_numbers_in_the_file_is_refused(
    exporter: str, shared: bool, backbone: Register, tmp_path: Path
) -> None:
    spec = registered(backbone, "distant", lambda: Distant(shared=shared))
    theirs = exported(lambda: Distant(shared=shared), tmp_path / "x.onnx", exporter)
    assert not differing(zoo.load(tmp_path / "x.onnx", spec=spec), theirs)
    if exporter == "dynamo, unfolded":  # the table itself is there, so that another entry is another table
        path = changed(tmp_path / "x.onnx", [TOKENS, HEADS], (3, 1), 1.0)
        table = zoo.load(path, spec=spec).backbone.model.table[0]
        assert table[3, 1] == theirs.table[0][3, 1] + 1
        return
    path = changed(tmp_path / "x.onnx", [1, HEADS, TOKENS, TOKENS], (0, 1, 5, 2), 1.0)
    with pytest.raises(
        AlignmentError, match=r"different values where the model takes one entry of 'backbone.*table.0'"
    ):
        zoo.load(path, spec=spec)


def test_a_table_that_two_layers_read_is_one(backbone: Register, tmp_path: Path) -> None:
    spec = registered(backbone, "distant", lambda: Distant(shared=True))
    exported(Distant, tmp_path / "x.onnx")  # with a table for each
    with pytest.raises(AlignmentError, match=r"different values where the model uses one tensor, 'backbone.*table.0'"):
        zoo.load(tmp_path / "x.onnx", spec=spec)


@pytest.mark.parametrize("exporter", ["legacy", "dynamo", "dynamo, unfolded"])
def test_a_table_of_which_each_layer_reads_other_entries_is_put_together(
    exporter: str, backbone: Register, tmp_path: Path
) -> None:
    def make(shared: bool = True) -> nn.Module:
        return Distant(entries=TOKENS + 8, shared=shared, second=DISTANCES + 8)

    spec = registered(backbone, "distant", make)
    theirs = exported(make, tmp_path / "x.onnx", exporter)
    model = zoo.load(tmp_path / "x.onnx", spec=spec)
    assert not differing(model, theirs)
    assert not model.migration.uncertain
    exported(lambda: make(shared=False), tmp_path / "x.onnx", exporter)  # half of the entries are two numbers there
    with pytest.raises(AlignmentError, match=r"different values where the model uses one tensor, 'backbone.*table.0'"):
        zoo.load(tmp_path / "x.onnx", spec=spec)


def test_entries_that_are_never_read_are_zero_and_told(backbone: Register, tmp_path: Path) -> None:
    spec = registered(backbone, "distant", lambda: Distant(entries=TOKENS + 3))
    theirs = exported(lambda: Distant(entries=TOKENS + 3), tmp_path / "x.onnx")
    model = zoo.load(tmp_path / "x.onnx", spec=spec)
    for mine, other in zip(model.backbone.model.table, theirs.table, strict=True):
        assert torch.equal(mine[:TOKENS], other[:TOKENS])
        assert not mine[TOKENS:].any()
    (told,) = model.migration.uncertain
    assert told.startswith("2 tables have entries that nothing of the model reads")
    notes = {each.note for each in model.migration.alignment.origins if ".table." in each.name}
    assert notes == {"6 of its 38 numbers are never read, and zero, for the file does not have them"}


def test_entries_that_are_never_read_come_home_where_the_file_has_them(backbone: Register, tmp_path: Path) -> None:
    spec = registered(backbone, "distant", lambda: Distant(entries=TOKENS + 3))
    theirs = exported(lambda: Distant(entries=TOKENS + 3), tmp_path / "x.onnx", "dynamo, unfolded")
    model = zoo.load(disguises.anonymous(tmp_path / "x.onnx"), spec=spec)
    assert not differing(model, theirs)
    assert not model.migration.uncertain


def test_an_index_that_counts_from_the_end_is_read_backwards(backbone: Register, tmp_path: Path) -> None:
    index = DISTANCES - TOKENS
    spec = registered(backbone, "distant", lambda: Distant(index))
    for exporter in ("legacy", "dynamo", "dynamo, unfolded"):
        theirs = exported(lambda: Distant(index), tmp_path / "x.onnx", exporter)
        assert not differing(zoo.load(tmp_path / "x.onnx", spec=spec), theirs)


def test_another_index_over_a_table_of_the_same_size_is_refused(backbone: Register, tmp_path: Path) -> None:
    """Where the model takes one entry the file took two."""
    spec = registered(backbone, "distant", Distant)
    exported(lambda: Distant(AROUND), tmp_path / "x.onnx")
    with pytest.raises(AlignmentError, match="different values where the model takes one entry"):
        zoo.load(tmp_path / "x.onnx", spec=spec)


def test_a_bias_of_something_else_is_refused_by_the_proof(backbone: Register, tmp_path: Path) -> None:
    spec = registered(backbone, "distant", Distant)
    exported(lambda: Distant(after=True), tmp_path / "x.onnx")
    with pytest.raises(AlignmentError, match="computes something else than the model with its weights"):
        zoo.load(tmp_path / "x.onnx", spec=spec)


def test_another_window_is_refused(backbone: Register, tmp_path: Path) -> None:
    spec = registered(backbone, "swin", _timm)
    exported(lambda: _timm(8), tmp_path / "x.onnx")
    with pytest.raises(AlignmentError, match="is no graph of this model"):
        zoo.load(tmp_path / "x.onnx", spec=spec)


def test_a_shift_of_windows_that_the_file_does_not_do_is_refused(backbone: Register, tmp_path: Path) -> None:
    def still() -> nn.Module:
        model = _torchvision()
        for module in model.modules():
            if hasattr(module, "shift_size"):
                module.shift_size = [0, 0]
        return model

    spec = registered(backbone, "swin", _torchvision)
    exported(still, tmp_path / "x.onnx")  # of the same parameters
    with pytest.raises(AlignmentError, match="is no graph of this model"):
        zoo.load(tmp_path / "x.onnx", spec=spec)


@pytest.mark.parametrize("place", [(0, 0), (24, 1)])
def test_one_entry_that_came_out_wrong_is_noticed(
    place: tuple[int, int], backbone: Register, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = registered(backbone, "swin", _timm)
    exported(_timm, tmp_path / "x.onnx")
    right = align.unfolded

    def wrong(*args: object) -> Unfolded:
        found = right(*args)
        name = "backbone.model.layers.0.blocks.0.attn.relative_position_bias_table"
        tensor = found.tensors[name].clone()
        tensor[place] += 5.0
        return Unfolded({**found.tensors, name: tensor}, found.origins)

    monkeypatch.setattr(align, "unfolded", wrong)
    with pytest.raises(AlignmentError, match="computes something else than the model with its weights"):
        zoo.load(tmp_path / "x.onnx", spec=spec)


def test_a_model_without_tables_is_not_built_for_its_indices(
    backbone: Register, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []
    right = tables.assemble
    monkeypatch.setattr(tables, "assemble", lambda *a, **k: built.append(a) or right(*a, **k))
    plain = lambda: nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 5))  # noqa: E731
    for name, make, times in (("plain", plain, 0), ("distant", Distant, 1)):
        spec = registered(backbone, name, make)
        exported(make, tmp_path / "x.onnx", "dynamo, unfolded")
        assert zoo.load(tmp_path / "x.onnx", spec=spec).migration.proven
        assert len(built) == times
