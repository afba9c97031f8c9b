"""Files whose tensors are fine and whose description of themselves is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hostile.case import LOADING, SPEC, WAYS, Case, description, fingerprint
from hostile.headers import held, honest
from hostile.pickletext import honest as words
from hostile.pickletext import number, ordered, saved, table, text

_FIRST, _BIAS, _HEAD, _HEAD_BIAS = honest()
_DAMAGED = "its description is damaged"
_FINE = "0" * 64


def cases() -> Iterator[Case]:
    """Give every file."""
    for what, (told, *answer) in {**_texts(), **_aliases(), **_specs(), **_lies()}.items():
        yield Case(f"told-{what}.safetensors", _file(told), *answer)
    for what, (told, error, phrase, ways) in _pt().items():
        yield Case(f"told-{what}.pt", saved(ordered(words()) + table({"zoo": told}) + b"b"), error, phrase, ways)


def _file(told: str) -> bytes:
    return held({"__metadata__": {"zoo": told}, **honest()})


_Table = dict[str, tuple[str, *tuple[Any, ...]]]


def _texts() -> _Table:
    deep = '{"zoo": 1, "spec": {"backbone": ' + "[" * 600 + "]" * 600 + '}, "lock": {}}'
    twice = description()[:-1] + ', "fingerprint": null}'
    inner = '{"zoo": 1, "lock": {}, "spec": {"backbone": "mlp", "backbone": "lenet"}}'
    nan = '{"zoo": 1, "lock": {}, "spec": {"input": {"channels": NaN}, "backbone": "mlp"}}'
    surrogate = '{"zoo": 1, "lock": {}, "spec": {"backbone": "\\ud800"}}'
    record = {
        "data": "d", "licence": "l", "split": "s", "metrics": {}, "labels": [],
        "preprocessing": {"size": [1, 1], "mean": [0.0], "std": [1.0]},
    }  # fmt: skip

    def recorded(**changes: Any) -> str:
        return description(record={**record, **changes})

    def prepared(**changes: Any) -> str:
        return recorded(preprocessing={**record["preprocessing"], **changes})  # type: ignore[dict-item]

    damaged = {
        "not-json": ("spec", "JSON"),
        "empty": ("", "JSON"),
        "list": ("[]", "valid dict"),
        "deep": (deep, "nested"),
        "twice": (twice, "the key 'fingerprint' is there twice"),
        "spec-key-twice": (inner, "the key 'backbone' is there twice"),
        "nan": (nan, "NaN is no JSON"),
        "surrogate": (surrogate, "not Unicode text"),
        "version-2": (description(zoo=2), "zoo: Input should be 1"),
        "version-text": (description(zoo="1"), "zoo: Input should be 1"),
        "no-spec": ('{"zoo": 1, "lock": {}}', "spec: Field required"),
        "spec-text": (description(spec="lenet"), "spec: Input should be"),
        "spec-wide": (
            description(spec={"backbone": {"hidden": [1] * 10_000}}),
            "its spec holds more than 10000 values",
        ),
        "lock-shell": (description(lock={"zoo; touch ran": "1"}), "lock"),
        "lock-option": (description(lock={"--index-url=http://evil.example": "1"}), "lock"),
        "lock-version": (description(lock={"zoo-torch": "1 @ http://evil.example"}), "lock"),
        "lock-newline": (description(lock={"zoo\n": "1"}), "lock"),
        "lock-many": (description(lock={f"d{i}": "1" for i in range(1000)}), "lock"),
        "lock-numbers": (description(lock={"zoo-torch": 1}), "lock"),
        "aliases-list": (description(aliases=["a"]), "aliases"),
        "aliases-numbers": (description(aliases={"a": 1}), "aliases"),
        "fingerprint-number": (description(fingerprint=3), "fingerprint"),
        "fingerprint-noise": (description(fingerprint="\x1b[2J" * 9), "fingerprint"),
        "inputs-text": (description(inputs="image"), "inputs"),
        "record-list": (description(record=[]), "record"),
        "record-more": (recorded(command="rm"), "record.command: Extra inputs"),
        "record-infinite": (recorded(metrics={"a": "inf"}), "record.metrics.a"),
        "record-size-0": (prepared(size=[0, 1]), "record.preprocessing.size.0"),
        "record-size-huge": (prepared(size=[1 << 40, 1]), "record.preprocessing.size.0"),
        "record-size-3": (prepared(size=[1, 1, 1]), "record.preprocessing.size"),
        "record-std-0": (prepared(std=[0.0]), "record.preprocessing.std.0"),
        "record-resize": (prepared(interpolation="exec"), "record.preprocessing.interpolation"),
    }
    return {what: (told, "FileFormatError", f"{phrase}", WAYS) for what, (told, phrase) in damaged.items()}


def _aliases() -> _Table:
    format_ = "FileFormatError"
    lost = "other names stand for tensors that are not there: "
    return {
        "alias-shadows": (description(aliases={_HEAD: _FIRST}), format_, f"{_HEAD!r} is a tensor and stands for", WAYS),
        "alias-itself": (description(aliases={_HEAD: _HEAD}), format_, f"{_HEAD!r} is a tensor and stands for", WAYS),
        "alias-circle": (description(aliases={"a": "b", "b": "a"}), format_, f"{lost}'a', 'b'", WAYS),
        "alias-of-itself": (description(aliases={"a": "a"}), format_, f"{lost}'a'", WAYS),
        "alias-chain": (description(aliases={"a": "b", "b": _HEAD}), format_, f"{lost}'b'", WAYS),
        "alias-nowhere": (description(aliases={"a": "gone"}), format_, f"{lost}'gone'", WAYS),
        "alias-terminal": (description(aliases={"a": "\x1b[2J"}), format_, lost + r"'\x1b[2J'", WAYS),
        "alias-more": (
            description(aliases={"a": _HEAD}, fingerprint=fingerprint({"a": _HEAD})),
            "TensorMismatchError", "1 unexpected (a)", (*LOADING, "load with a spec"),
        ),
    }  # fmt: skip


def _specs() -> _Table:
    def part(**changes: Any) -> str:
        return description(spec={**SPEC, **changes})

    missing = {"acme-zoo": "0.3"}
    return {
        "spec-missing": (
            description(spec={**SPEC, "backbone": "swin9"}, lock=missing),
            "MissingProviderError", "pip install acme-zoo==0.3 (backbone 'swin9')", LOADING,
        ),
        "spec-unknown": (part(backbone="swin9"), "SpecError", "swin9", LOADING),
        "spec-module": (part(backbone={"type": "os.system", "command": "x"}), "SpecError", "os.system", LOADING),
        "spec-path": (part(backbone={"type": "../../evil"}), "SpecError", "../../evil", LOADING),
        "spec-namespace": (part(backbone={"type": "os:system"}), "SpecError", "os", LOADING),
        "spec-parameter": (
            part(backbone={"type": "mlp", "hidden": [2], "run": 1}), "SpecError",
            "spec.backbone.run: unknown parameter", LOADING,
        ),
        "spec-parameters": (
            part(backbone={"type": "mlp", **{f"\x1b[2J{i}": 1 for i in range(500)}}), "SpecError", "and 450 more",
            LOADING,
        ),
        "spec-number": (part(backbone={"type": "mlp", "hidden": ["2"]}), "SpecError", "spec.backbone.hidden", LOADING),
        "spec-null": (part(backbone=None), "SpecError", "spec.backbone: missing", LOADING),
        "spec-list": (part(head=[]), "SpecError", "spec.head: found []", LOADING),
        "spec-infinite": (
            part(head={"type": "linear", "num_classes": 2, "dropout": 1.5}), "SpecError", "spec.head.dropout", LOADING,
        ),
        "spec-other-width": (
            part(backbone={"type": "mlp", "hidden": [3]}), "TensorMismatchError", "its tensors do not fit the model",
            LOADING, "the weights were saved with [3], this is [2]",
        ),
        "spec-huge-width": (
            part(backbone={"type": "mlp", "hidden": [1 << 40]}), "SizeBudgetError", "found at least", LOADING,
            "saved with [1099511627776]",
        ),
        "spec-overflow": (
            part(backbone={"type": "mlp", "hidden": [1 << 62, 8]}), "PartError", "calculation overflowed", LOADING,
            "saved with [461168601",
        ),
        "spec-deep": (
            part(backbone={"type": "mlp", "hidden": [1] * 9000}), "SizeBudgetError", "found at least", LOADING,
            "saved with [1, 1, 1, 1",
        ),
        "spec-classes": (
            part(head={"type": "linear", "num_classes": 1 << 50}), "SizeBudgetError", "found at least", LOADING,
            "saved with 112589990",
        ),
    }  # fmt: skip


def _lies() -> _Table:
    lie = description(fingerprint=f"sha256:{_FINE}")
    return {
        "fingerprint-lies": (lie, "FingerprintError", f"expected sha256:{_FINE}", ("verify",)),
        "fingerprint-null": (description(fingerprint=None), "FingerprintError", "carries no fingerprint", ("verify",)),
    }


def _pt() -> dict[str, tuple[bytes, str, str, Any]]:
    def told(**changes: Any) -> bytes:
        return text(description(**changes))

    huge = json.dumps({"zoo": 1, "lock": {}, "spec": {"a": [[]] * 10_000}})
    return {
        "number": (number(3), "FileFormatError", f"{_DAMAGED}: it is int, not text", WAYS),
        "not-json": (text("{"), "FileFormatError", _DAMAGED, WAYS),
        "spec-wide": (text(huge), "FileFormatError", "its spec holds more than 10000 values", WAYS),
        "alias-shadows": (told(aliases={_HEAD: _FIRST}), "FileFormatError", f"{_HEAD!r} is a tensor and stands", WAYS),
        "alias-itself": (told(aliases={_HEAD: _HEAD}), "FileFormatError", f"that are not there: {_HEAD!r}", WAYS),
        "alias-circle": (told(aliases={_HEAD: _FIRST, _FIRST: _HEAD}), "FileFormatError", "stands for another", WAYS),
        "alias-all": (
            told(aliases={_HEAD: "gone", _FIRST: "gone"}), "FileFormatError", "is a tensor and stands for", WAYS,
        ),
        "alias-nowhere": (told(aliases={"a": "gone"}), "FileFormatError", "that are not there: 'gone'", WAYS),
        "alias-absent": (
            told(aliases={"a": _HEAD}), "FileFormatError", "'a' stands for another tensor and is not there", WAYS,
        ),
        "fingerprint-lies": (
            told(fingerprint=f"sha256:{_FINE}"), "FingerprintError", f"expected sha256:{_FINE}", ("verify",),
        ),
    }  # fmt: skip
