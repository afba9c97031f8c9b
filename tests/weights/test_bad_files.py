"""Files that are missing, damaged, of another kind or hostile: each is an error of ours, and nothing in it runs."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Literal

import pytest
import torch

import zoo
from zoo import kinds
from zoo.errors import (
    FileFormatError,
    MissingSpecError,
    SpecError,
    TensorMismatchError,
    UnsafeFileError,
    WeightsError,
)
from zoo.features import Feature
from zoo.weights.checkpoint import Artifact

FORMATS = ("pt", "safetensors", "onnx")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("saved")
    return {format_: zoo.save(zoo.build("lenet"), folder / f"lenet.{format_}") for format_ in FORMATS}


@pytest.mark.parametrize("read", [zoo.load, zoo.inspect])
@pytest.mark.parametrize("format_", FORMATS)
def test_a_missing_file_is_named(read, format_: str, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="there is no such file") as caught:
        read(tmp_path / f"x.{format_}")
    assert caught.value.path == str(tmp_path / f"x.{format_}")
    (tmp_path / f"d.{format_}").mkdir()
    with pytest.raises(FileFormatError, match="is a folder, not a file"):
        read(tmp_path / f"d.{format_}")


@pytest.mark.parametrize("call", [zoo.load, zoo.inspect, zoo.identify, zoo.fingerprint, zoo.verify])
@pytest.mark.parametrize("folder", [".", "..", "/", ""])
def test_a_folder_is_told_to_be_one_whatever_it_is_called(call, folder: str) -> None:
    with pytest.raises(FileFormatError, match="is a folder, not a file; name a file in it"):
        call(folder)
    with pytest.raises(FileFormatError, match=r"is a folder, not a file|no suffix names no format"):
        zoo.save(zoo.build("lenet"), folder)


@pytest.mark.parametrize("call", [zoo.load, lambda path: zoo.save(zoo.build("lenet"), path)], ids=["load", "save"])
def test_a_suffix_that_names_no_format_is_answered_with_those_that_do(call, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError) as caught:
        call(tmp_path / "x.h5")
    assert caught.value.reason == "suffix '.h5' names no format; expected one of .ckpt, .onnx, .pt, .pth, .safetensors"
    with pytest.raises(FileFormatError, match="no suffix names no format"):
        call(tmp_path / "x")


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(format_: str, share: float, saved: dict[str, Path], tmp_path: Path) -> None:
    whole = saved[format_].read_bytes()
    part = tmp_path / f"part.{format_}"
    part.write_bytes(whole[: int(len(whole) * share)])
    for read in (zoo.load, zoo.inspect):
        with pytest.raises(FileFormatError, match="not a whole"):
            read(part)


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("other", FORMATS)
def test_a_file_of_another_kind_is_refused_and_recognised(
    format_: str, other: str, saved: dict[str, Path], tmp_path: Path
) -> None:
    if format_ == other:
        assert zoo.load(saved[format_]).spec["backbone"]["type"] == "lenet"
        return
    disguised = tmp_path / f"x.{format_}"
    disguised.write_bytes(saved[other].read_bytes())
    like = {"pt": "a zip, which torch.save writes", "safetensors": "safetensors", "onnx": "ONNX"}[other]
    with pytest.raises(FileFormatError, match=f"it begins like {like}"):
        zoo.load(disguised)


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("content", [b"", b"hello", b"\x00" * 100, b"\xff" * 1000, os.urandom(4096)], ids=len)
def test_noise_is_refused(format_: str, content: bytes, tmp_path: Path) -> None:
    noise = tmp_path / f"noise.{format_}"
    noise.write_bytes(content)
    with pytest.raises(WeightsError):
        zoo.load(noise)


class _Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        ("torch.save", r"it asks for posix\.mkdir; "),
        (2, r"it asks for posix\.mkdir; "),
        (4, r"it asks for posix\.mkdir; "),
        (5, r"it asks for posix\.mkdir; "),
    ],
)
def test_a_pickle_with_code_is_refused_and_never_run(protocol: int | str, message: str, tmp_path: Path) -> None:
    mark, file = tmp_path / "ran", tmp_path / "x.pt"
    bomb = {"a": 1, "bomb": _Bomb(mark)}
    torch.save(bomb, file) if isinstance(protocol, str) else file.write_bytes(pickle.dumps(bomb, protocol))
    with pytest.raises(UnsafeFileError, match=f"refused, and nothing in it was run: {message}"):
        zoo.load(file, spec="lenet")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"state_dict": {"a": torch.ones(1)}, "epoch": 3}, "no plain state dict: 'state_dict' (dict), 'epoch' (int)"),
        ([torch.ones(1)], "it holds a list, not a plain state dict"),
        ({1: torch.ones(1)}, "it holds a dict whose keys are no text, not a plain state dict"),
    ],
)
def test_a_pickle_that_is_no_plain_state_dict_is_refused(content: object, reason: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(UnsafeFileError) as caught:
        zoo.load(tmp_path / "x.pt", spec="lenet")
    assert reason in str(caught.value)


def test_a_whole_pickled_model_is_refused(tmp_path: Path) -> None:
    torch.save(zoo.build("lenet"), tmp_path / "x.pt")
    with pytest.raises(UnsafeFileError, match=r"it asks for zoo\.model\.Model"):
        zoo.load(tmp_path / "x.pt")


def test_a_file_from_elsewhere_needs_a_spec_and_loads_with_it(tmp_path: Path) -> None:
    model = zoo.build("lenet")
    torch.save(dict(model.state_dict()), tmp_path / "x.pt")
    told = r"say what it holds: spec='resnet18', a spec dict or a spec file \(--spec\); zoo identify .*x\.pt tells"
    with pytest.raises(MissingSpecError, match=told):
        zoo.load(tmp_path / "x.pt")
    back = zoo.load(tmp_path / "x.pt", spec="lenet")
    assert torch.equal(back.head.fc.weight, model.head.fc.weight)
    torch.save(dict(model.state_dict()), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert torch.equal(zoo.load(tmp_path / "old.pt", spec=model.spec).head.fc.weight, model.head.fc.weight)


def test_tensors_that_do_not_correspond_are_listed(tmp_path: Path) -> None:
    state = dict(zoo.build("lenet").state_dict())
    state["extra"] = state.pop("head.fc.bias")
    state["head.fc.weight"] = torch.zeros(10, 83)
    state["backbone.stages.0.conv.bias"] = torch.zeros(6, dtype=torch.int64)
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(TensorMismatchError) as caught:
        zoo.load(tmp_path / "x.pt", spec="lenet")
    assert caught.value.missing == ("head.fc.bias",)
    assert caught.value.unexpected == ("extra",)
    assert caught.value.different == (
        "backbone.stages.0.conv.bias int64[6] for float32[6]",
        "head.fc.weight float32[10, 83] for float32[10, 84]",
    )
    assert str(caught.value).startswith(
        f"{tmp_path / 'x.pt'}: its tensors do not fit the model: 1 missing (head.fc.bias);"
    )


def with_artifact(source: Path, target: Path, text: str) -> Path:
    """Copy a safetensors file with another description in its header."""
    data = source.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = {"zoo": text}
    head = json.dumps(header).encode()
    target.write_bytes(struct.pack("<Q", len(head)) + head + data[8 + length :])
    return target


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("not json", FileFormatError, "its description is damaged: JSON: its JSON is damaged"),
        ("[]", FileFormatError, "its description is damaged"),
        ('{"spec": 3, "lock": {}}', FileFormatError, "its description is damaged: spec: Input should be a valid dict"),
        (
            '{"spec": {"backbone": "lenet"}, "lock": {}, "aliases": {"a": "b"}}',
            FileFormatError,
            "other names stand for tensors that are not there: 'b'",
        ),
        ('{"spec": {"backbone": {"type": "os.system"}}, "lock": {"evil-zoo": "1"}}', WeightsError,
         r"pip install evil-zoo==1 \(backbone 'os.system'\)"),
        ('{"spec": {"backbone": "mlp"}, "lock": {}}', zoo.ZooError, "an input of unknown size"),
    ],
)  # fmt: skip
def test_a_damaged_or_hostile_description_is_refused(
    text: str, error: type[Exception], message: str, saved: dict[str, Path], tmp_path: Path
) -> None:
    file = with_artifact(saved["safetensors"], tmp_path / "x.safetensors", text)
    with pytest.raises(error, match=message):
        zoo.load(file)


def test_a_file_of_another_component_version_says_what_it_was_made_with(saved: dict[str, Path], tmp_path: Path) -> None:
    artifact = json.loads(Artifact(spec={"backbone": {"type": "swin"}}, lock={"acme-zoo": "0.3"}).dump())
    file = with_artifact(saved["safetensors"], tmp_path / "x.safetensors", json.dumps(artifact))
    with pytest.raises(zoo.ZooError, match=r"pip install acme-zoo==0\.3 \(backbone 'swin'\)") as caught:
        zoo.load(file)
    assert caught.value.requirements == ("acme-zoo==0.3",)


def test_a_model_without_values_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(zoo.ZooError, match=r"'backbone.stages.0.conv.weight' is on the meta device"):
        zoo.save(zoo.build("lenet").to("meta"), tmp_path / "x.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_zip_with_compressed_members_is_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(saved["pt"]) as stored,
        zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    with pytest.raises(FileFormatError, match=r"is compressed, which torch.save never does"):
        zoo.load(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("tensor", "function"),
    [
        (torch.empty(10, 84, device="meta"), "meta_tensor_no_storage"),
        (torch.zeros(10, 84).to_sparse(), "sparse_tensor"),
    ],
)
def test_a_tensor_without_plain_values_is_refused(tensor: torch.Tensor, function: str, tmp_path: Path) -> None:
    torch.save({**zoo.build("lenet").state_dict(), "head.fc.weight": tensor}, tmp_path / "x.pt")
    with pytest.raises(UnsafeFileError) as caught:
        zoo.load(tmp_path / "x.pt", spec="lenet")
    kind = f"it holds a tensor of a kind that no layer can use (torch._utils._rebuild_{function})"
    assert caught.value.reason == kind


@pytest.mark.parametrize(
    ("tensor", "told"),
    [
        (torch.zeros(10, 84, dtype=torch.bool), "bool[10, 84]"),
        (torch.zeros(10, 84, dtype=torch.complex64), "complex64[10, 84]"),
    ],
)
def test_a_tensor_that_no_layer_can_use_is_refused(tensor: torch.Tensor, told: str, tmp_path: Path) -> None:
    torch.save({**zoo.build("lenet").state_dict(), "head.fc.weight": tensor}, tmp_path / "x.pt")
    with pytest.raises(TensorMismatchError) as caught:
        zoo.load(tmp_path / "x.pt", spec="lenet")
    assert caught.value.different == (f"head.fc.weight {told} for float32[10, 84]",)


@pytest.mark.parametrize(
    "lock", [{"--index-url=http://evil.example/ x": "1"}, {"a\nb": "1"}, {"": ""}, {"zoo": "1; rm -rf /"}], ids=repr
)
def test_a_lock_that_would_make_a_hostile_advice_is_refused(lock: dict, saved: dict[str, Path], tmp_path: Path) -> None:
    text = json.dumps({"spec": {"backbone": "swin"}, "lock": lock})
    file = with_artifact(saved["safetensors"], tmp_path / "x.safetensors", text)
    with pytest.raises(FileFormatError, match="its description is damaged: lock"):
        zoo.load(file)


def test_a_description_of_another_version_is_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    text = json.dumps({"zoo": 2, "spec": {"backbone": "lenet"}, "lock": {}})
    with pytest.raises(FileFormatError, match="its description is damaged: zoo: Input should be 1"):
        zoo.load(with_artifact(saved["safetensors"], tmp_path / "x.safetensors", text))


def test_weights_of_a_model_that_computes_something_else_are_refused(tmp_path: Path) -> None:
    file = zoo.save(zoo.build("lenet", bottleneck={"activation": "relu"}), tmp_path / "x.pt")
    told = "spec.bottleneck.activation: the weights were saved with 'relu', this is 'tanh'"
    for call in (lambda: zoo.build("lenet", weights=file), lambda: zoo.load(file, spec="lenet")):
        with pytest.raises(SpecError, match=told):
            call()
    on_purpose = zoo.build("lenet", weights=file, bottleneck={"activation": "tanh"})
    assert on_purpose.spec["bottleneck"]["activation"] == "tanh"


@pytest.mark.parametrize("format_", FORMATS)
def test_a_model_that_its_spec_no_longer_describes_is_not_saved(format_: str, tmp_path: Path) -> None:
    model = zoo.build("lenet")
    model.head.fc = torch.nn.Linear(84, 5)
    with pytest.raises(
        WeightsError, match=r"no longer what its spec describes: head.fc.weight float32\[5, 84\], in the"
    ):
        zoo.save(model, tmp_path / f"x.{format_}")
    with pytest.raises(WeightsError, match="found a 'Linear' to save; expected a model made by zoo"):
        zoo.save(model.head.fc, tmp_path / f"x.{format_}")
    assert list(tmp_path.iterdir()) == []


class OneOperator(torch.nn.Module):
    """A neck with one operator of torch, from which ONNX gets a graph that is right at one size, or none."""

    def __init__(self, in_features: tuple[Feature, ...], pool: Literal["avg", "max"] = "avg") -> None:
        super().__init__()
        self.pool = torch.nn.AdaptiveAvgPool2d(3) if pool == "avg" else torch.nn.AdaptiveMaxPool2d(3)
        self.features = (Feature("pooled", in_features[-1].channels, size=(3, 3)),)

    def forward(self, maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (self.pool(maps[-1]),)


def test_a_model_of_any_size_with_an_operator_of_one_size_is_not_exported(tmp_path: Path) -> None:
    spec = {"backbone": {"type": "vgg_lite", "layers": [1], "channels": [4]}, "neck": {"type": "adaptive_pool"}}
    with kinds.necks.overriding("adaptive_pool", OneOperator):
        with pytest.raises(WeightsError, match=r"only be right at 64×64, not at 96×128 .*; state input.size in the"):
            zoo.save(zoo.build(spec), tmp_path / "x.onnx")
        spec["neck"]["pool"] = "max"
        with pytest.raises(WeightsError, match="torch cannot export this model to ONNX"):
            zoo.save(zoo.build({**spec, "input": {"size": [64, 64]}}), tmp_path / "x.onnx")


@pytest.mark.parametrize("spelling", [rb"Float\x53torage", rb"Float\s"])
def test_a_name_in_a_pickle_is_taken_letter_for_letter(spelling: bytes, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    content = (tmp_path / "x.pt").read_bytes()
    assert b"FloatStorage" in content
    (tmp_path / "x.pt").write_bytes(content.replace(b"FloatStorage", spelling))
    with pytest.raises(UnsafeFileError) as caught:
        zoo.load(tmp_path / "x.pt", spec="lenet")
    assert caught.value.reason.startswith(f"it asks for torch.{spelling.decode()}; ")


def test_what_training_scripts_call_pth_tar_is_read_as_pth(tmp_path: Path) -> None:
    run = tmp_path / "model_best.pth.tar"
    torch.save({"epoch": 3, "state_dict": zoo.build("lenet").state_dict()}, run)
    model = zoo.build("lenet", weights=run)
    assert (model.migration.format, zoo.identify(run).format, zoo.inspect(run).unwrapping.within) == (
        "pth", "pth", "state_dict",
    )  # fmt: skip
    report = zoo.convert(run, tmp_path / "x.safetensors", spec="lenet")
    assert (report.source_format, report.verified) == ("pth", True)
    (tmp_path / "archive.tar").write_bytes(b"")
    with pytest.raises(FileFormatError, match=r"suffix '\.tar' names no format; .* give it a name that ends in \.pth"):
        zoo.load(tmp_path / "archive.tar")
