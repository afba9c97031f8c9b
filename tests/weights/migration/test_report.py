"""The account of a migration: in words, and as plain values."""

from __future__ import annotations

import json
from dataclasses import replace

import torch

from zoo.weights.migration.report import (
    Alignment,
    MigrationReport,
    Proof,
    Renaming,
    TensorOrigin,
    Unwrapping,
    precision_of,
)

REPORT = MigrationReport(
    "run.ckpt.pth",
    "pt",
    124,
    "resnet18",
    Unwrapping(
        within="state_dict",
        writer="Lightning",
        candidates=("state_dict", "ema"),
        beside=("optimizer_states (list of 1)",),
        prefixes=("model.", "module."),
        left_out=("n_averaged",),
    ),
    Renaming("timm", renamed=120, converted=2, made=("bn1.num_batches_tracked",), left_out=("aux (trained beside)",)),
    Alignment(
        (TensorOrigin("conv1.weight", "exact", "w0"), TensorOrigin("bn1.bias", "batchnorm-folded", "b0")),
        producer="pytorch 2.14",
        nodes=41,
        notes=("the statistics of BatchNorm are lost",),
    ),
    proofs=(Proof("onnxruntime agrees", difference=2e-6, tolerance=1e-5), Proof("it holds", holds=False)),
    uncertain=("whether it is so",),
)


def test_it_reads_like_an_account() -> None:
    assert str(REPORT).splitlines() == [
        "run.ckpt.pth became resnet18.",
        "The file is of the format pt, as Lightning writes it, with 124 tensors.",
        "Done: the weights were found in 'state_dict' (chosen among 'state_dict', 'ema').",
        "Done: what is beside them was ignored: optimizer_states (list of 1).",
        "Done: 'model.' and then 'module.' was taken off the beginning of the names.",
        "Done: what is not of the model was left out: n_averaged.",
        "Done: the names are those of timm: 122 tensors got ours, 2 of them reshaped or cut.",
        "Done: what the file lacks was filled in: bn1.num_batches_tracked.",
        "Done: what has no counterpart was left out: aux (trained beside).",
        "Done: 41 nodes were aligned with those of the model; the tensors are 1 exact, 1 batchnorm-folded.",
        "Done: the statistics of BatchNorm are lost.",
        "Proven: onnxruntime agrees, 2e-06 apart at most (1e-05 would do).",
        "FAILED: it holds.",
        "Uncertain: whether it is so.",
    ]


def test_what_was_changed_after_the_proof_is_told_behind_it() -> None:
    changed = replace(REPORT, changed=("head.num_classes 37 → 5",))
    assert str(changed).splitlines()[-2:] == [
        "Then: the model was changed, head.num_classes 37 → 5; model.transfer names the tensors that are new.",
        "Uncertain: whether it is so.",
    ]
    assert changed.to_json()["changed"] == ["head.num_classes 37 → 5"]


def test_one_reason_for_many_is_told_once() -> None:
    left = (*(f"decoder.{i} (another architecture)" for i in range(7)), "scale (a constant (of theirs))", "bare")
    told = str(replace(REPORT, renaming=Renaming("acme", renamed=3, left_out=left)))
    assert [line for line in told.splitlines() if "no counterpart" in line] == [
        "Done: what has no counterpart was left out: decoder.0, decoder.1, decoder.2, decoder.3, decoder.4 and 2 more "
        "(another architecture).",
        "Done: what has no counterpart was left out: scale (a constant (of theirs)).",
        "Done: what has no counterpart was left out: bare.",
    ]


def test_json_has_all_of_it() -> None:
    told = json.loads(json.dumps(REPORT.to_json(), allow_nan=False))
    assert told["proven"] is False
    assert told["unwrapping"]["prefixes"] == ["model.", "module."]
    assert told["alignment"]["counts"] == {"exact": 1, "batchnorm-folded": 1}
    assert told["proofs"][0] == {"claim": "onnxruntime agrees", "holds": True, "difference": 2e-06, "tolerance": 1e-05}


def test_a_number_that_json_cannot_say_is_text() -> None:
    report = MigrationReport("a.onnx", "onnx", 1, "lenet", proofs=(Proof("the same", difference=float("nan")),))
    assert report.to_json()["proofs"][0]["difference"] == "nan"


def test_nothing_checked_is_not_proven() -> None:
    assert not MigrationReport("a.pth", "pt", 1, "lenet").proven


def test_what_a_file_says_can_do_nothing_to_a_terminal() -> None:
    assert "\x1b" not in str(MigrationReport("a.pth", "pt", 1, "lenet", Unwrapping(within="\x1b[2J")))


def test_an_uncommon_precision_is_told() -> None:
    tensors = [torch.zeros(1, dtype=each) for each in (torch.float32, torch.float16, torch.int64)]
    assert precision_of(tensors) == "float16 and float32"
    assert "with 124 tensors, in float16." in str(replace(REPORT, precision="float16"))
    assert "with 124 tensors." in str(replace(REPORT, precision="float32"))
