"""Records: what is stated wrongly is told as our own error, all of it at once; what a file says, as one of the file."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

import zoo
from zoo.errors import FileFormatError, RecordError, ZooError
from zoo.weights.checkpoint import Artifact

PREPARED = {"size": (8, 8), "mean": (0.5,), "std": (0.5,)}
STATED = {
    "data": "digits",
    "licence": "CC BY 4.0",
    "split": "train",
    "metrics": {"test_accuracy": 0.99},
    "preprocessing": PREPARED,
    "labels": ("0", "1"),
}


def refused(make: Any, **stated: Any) -> RecordError:
    with pytest.raises(ZooError) as caught:
        make(**stated)
    assert isinstance(caught.value, RecordError)
    assert "pydantic" not in str(caught.value)
    return caught.value


def test_what_is_missing_is_told() -> None:
    error = refused(zoo.Record)
    assert [(each.path, each.message) for each in error.problems] == [(name, "missing") for name in STATED]
    assert str(error).startswith("zoo.Record: 6 problems in what is stated:\n  data: missing\n  licence: missing\n")
    assert str(refused(zoo.Preprocessing, **{**PREPARED, "std": (0,)})) == (
        "zoo.Preprocessing: std.0: found 0; expected greater than 0"
    )
    rest = {name: value for name, value in STATED.items() if name != "labels"}
    assert str(refused(zoo.Record, **rest)) == "zoo.Record: labels: missing"


def test_what_is_wrong_is_told_with_what_would_be_right() -> None:
    wrong = {"data": 3, "metrics": {"a": float("nan")}, "preprocessing": {"size": (8, 8), "mean": (0.5,), "stds": (1,)}}
    assert [str(each) for each in refused(zoo.Record, **{**STATED, **wrong}).problems] == [
        "data: found 3; expected a valid string",
        "metrics.a: found nan; expected a finite number",
        "preprocessing.std: missing",
        "preprocessing.stds: unknown",
    ]
    told = "lables: unknown; expected data, licence, split, metrics, preprocessing, labels (did you mean labels?)"
    assert str(refused(zoo.Record, **STATED, lables=())) == f"zoo.Record: {told}"


def test_what_a_file_says_wrongly_is_an_error_of_the_file() -> None:
    told = {"zoo": 1, "spec": {}, "lock": {}, "record": {**STATED, "data": 3}}
    with pytest.raises(FileFormatError, match=r"x\.pt: its description is damaged: record\.data: "):
        Artifact.parse(json.dumps(told), "x.pt")


def test_a_record_stays_itself(tmp_path: Path) -> None:
    record = zoo.Record(**STATED)
    assert pickle.loads(pickle.dumps(record)) == copy.deepcopy(record) == zoo.Record(**record.model_dump()) == record
    model = zoo.build("lenet")
    model.record = record
    assert zoo.load(zoo.save(model, tmp_path / "a.pt")).record == record
