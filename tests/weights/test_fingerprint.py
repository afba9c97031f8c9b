"""The fingerprint is the same for a model and its files, and every kind of change changes it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import zoo
from zoo.errors import FingerprintError
from zoo.weights.fingerprint import fingerprint_of

FORMATS = ("pt", "safetensors", "onnx")


@pytest.mark.parametrize("name", ["lenet", "resnet-lite", "vgg-lite"])
def test_a_model_and_its_files_have_one_fingerprint(name: str, randomise, tmp_path: Path) -> None:
    model = randomise(zoo.build(name))
    files = [zoo.save(model, tmp_path / f"model.{format_}") for format_ in FORMATS]
    assert {zoo.fingerprint(file) for file in files} == {zoo.fingerprint(model)}
    assert {zoo.fingerprint(zoo.load(file, verify=True)) for file in files} == {zoo.fingerprint(model)}


def test_names_dtypes_shapes_bytes_and_ties_count_and_the_order_does_not() -> None:
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([3, 4])
    found = [
        fingerprint_of(tensors, aliases)
        for tensors, aliases in (
            ({"a": a, "b": b}, {}),
            ({"a": a, "c": b}, {}),
            ({"a": a.double(), "b": b}, {}),
            ({"a": a[:, None], "b": b}, {}),
            ({"a": a + 1, "b": b}, {}),
            ({"a": torch.tensor([1.0, 2.0]).view(torch.int32), "b": b}, {}),
            ({"a": a, "b": b}, {"c": "a"}),
            ({"a": a, "b": b}, {"c": "b"}),
            ({"a": a, "b": b, "c": a}, {}),
        )
    ]
    assert len(set(found)) == len(found)
    assert fingerprint_of({"b": b, "a": a}, {}) == found[0]
    assert fingerprint_of({"c": a, "b": b}, {"a": "c"}) == fingerprint_of({"a": a, "b": b}, {"c": "a"})


def test_it_reads_values_not_memory() -> None:
    a = torch.arange(6.0).reshape(2, 3)
    dense = fingerprint_of({"a": a.t().contiguous()}, {})
    assert fingerprint_of({"a": a.t()}, {}) == dense
    z = torch.tensor([1 + 2j])
    assert fingerprint_of({"a": z.conj()}, {}) == fingerprint_of({"a": torch.tensor([1 - 2j])}, {})


@pytest.mark.parametrize("format_", FORMATS)
def test_a_changed_byte_is_found_when_verifying(format_: str, tmp_path: Path) -> None:
    model = zoo.build("lenet")
    file = zoo.save(model, tmp_path / f"model.{format_}")
    content = bytearray(file.read_bytes())
    bias = model.head.fc.bias.detach().numpy().tobytes()
    content[content.index(bias)] ^= 1
    file.write_bytes(content)
    with pytest.raises(FingerprintError, match="its tensors were changed") as caught:
        zoo.load(file, verify=True)
    assert caught.value.expected == zoo.fingerprint(model)
    assert caught.value.found == zoo.fingerprint(file)


def test_a_fingerprint_of_your_own_is_checked_too(tmp_path: Path) -> None:
    model = zoo.build("lenet")
    file = zoo.save(model, tmp_path / "model.pt")
    assert zoo.fingerprint(zoo.load(file, verify=zoo.fingerprint(model))) == zoo.fingerprint(model)
    with pytest.raises(FingerprintError, match="expected sha256:other"):
        zoo.load(file, verify="sha256:other")


def test_a_file_without_one_says_so_and_tells_what_it_would_be(tmp_path: Path) -> None:
    model = zoo.build("lenet")
    torch.save(model.state_dict(), tmp_path / "plain.pt")
    with pytest.raises(FingerprintError, match="carries no fingerprint to verify") as caught:
        zoo.load(tmp_path / "plain.pt", spec="lenet", verify=True)
    assert (caught.value.expected, caught.value.found) == (None, zoo.fingerprint(model))
    assert zoo.load(tmp_path / "plain.pt", spec="lenet", verify=caught.value.found).spec == model.spec


def test_what_was_verified_is_out_of_reach_of_whoever_edits_the_file(tmp_path: Path) -> None:
    for format_ in FORMATS:
        file = zoo.save(zoo.build("lenet"), tmp_path / f"model.{format_}")
        model = zoo.load(file, verify=True)
        before = zoo.fingerprint(model)
        with file.open("r+b") as opened:
            opened.write(b"\xff" * file.stat().st_size)
            opened.truncate(10)
        assert zoo.fingerprint(model) == before
