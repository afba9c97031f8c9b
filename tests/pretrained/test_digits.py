"""The weights that ship: accuracy on held-out digits, records, sizes and hashes."""

from __future__ import annotations

import hashlib
import json

import digits
import pytest
import torch

import zoo
from zoo import kinds

LEAST = {"lenet": 0.97, "vgg-lite": 0.98, "resnet-lite": 0.98}


@pytest.mark.parametrize(("name", "least"), LEAST.items())
def test_accuracy_on_the_held_out_digits_is_as_recorded(name: str, least: float) -> None:
    model = zoo.build(name, weights="digits")
    test = digits.split()["test"]
    with torch.inference_mode():
        right = model(test.inputs(model.record.preprocessing)).argmax(1) == test.labels
    accuracy = right.double().mean().item()
    assert len(right) == 360
    assert accuracy >= least
    assert accuracy == pytest.approx(model.record.metrics["test_accuracy"], abs=0.003)  # one image of 360


@pytest.mark.parametrize("name", LEAST)
def test_each_file_has_a_record_and_its_hash(name: str) -> None:
    shipped = kinds.pretrained.get(f"{name}.digits")
    assert shipped.model == name
    assert hashlib.sha256(shipped.path.read_bytes()).hexdigest() == shipped.sha256
    told = json.loads(shipped.path.with_suffix(".json").read_text())
    record = zoo.load(shipped.path).record
    assert zoo.Record(**{key: value for key, value in told.items() if key not in ("model", "sha256")}) == record
    assert record.data == digits.DATA
    assert record.licence == digits.LICENCE
    assert record.split == digits.SPLIT
    assert record.labels == tuple("0123456789")
    assert record.preprocessing.size == (32, 32)


def test_all_files_together_are_small() -> None:
    sizes = [kinds.pretrained.get(name).path.stat().st_size for name in kinds.pretrained.names()]
    assert len(sizes) == 3
    assert sum(sizes) < 4e6


def test_the_split_is_stratified_and_its_parts_do_not_overlap() -> None:
    parts = digits.split()
    assert {name: len(part.labels) for name, part in parts.items()} == {"train": 1077, "validation": 360, "test": 360}
    for part in parts.values():
        shares = torch.bincount(part.labels, minlength=10) / len(part.labels)
        assert (shares - 0.1).abs().max() < 0.01
    again = digits.split()["test"]
    assert torch.equal(again.labels, parts["test"].labels)
    assert [i.tobytes() for i in again.images] == [i.tobytes() for i in parts["test"].images]
