"""A name that is of another kind than the one asked for: what it is, and what to write for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import zoo
from registry import UnknownNameError
from zoo import kinds
from zoo.cli import main
from zoo.errors import FileFormatError, SpecError

_BACKBONE = "zoo.build('resnet18'), or zoo.normalise('resnet18')['backbone'] for its backbone alone"


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: zoo.build("gap"), "'gap' is a neck, not a model; write zoo.build({'backbone': …, 'neck': 'gap'})"),
        (
            lambda: zoo.build("timm:resnet18"),
            "'timm:resnet18' is a backbone, not a model; write zoo.build({'backbone': 'timm:resnet18'})",
        ),
        (
            lambda: zoo.build("lenet:digits"),
            "'lenet:digits' is a set of weights, not a model; write zoo.build('lenet', weights='digits')",
        ),
        (
            lambda: zoo.build("lenet.digits"),
            "'lenet.digits' is a set of weights, not a model; write zoo.build('lenet', weights='digits')",
        ),
        (
            lambda: zoo.build("lenet", weights="resnet18"),
            "'resnet18' is a model, not a set of weights; write zoo.build('resnet18')",
        ),
        (
            lambda: zoo.describe("onnx"),
            "'onnx' is a format, not a model or component; write 'model.onnx', the name of a file",
        ),
        (
            lambda: zoo.describe("timm"),
            "'timm' is a keymap and a provider, not a model or component; write keymap='timm' or "
            "{'backbone': 'timm:NAME'} in a spec",
        ),
        (
            lambda: zoo.plan("torchvision"),
            "'torchvision' is a keymap and a provider, not a model; write keymap='torchvision' or "
            "zoo.build({'backbone': 'torchvision:NAME'})",
        ),
    ],
)
def test_a_name_of_another_kind_is_said_to_be_one(call: Callable[[], Any], expected: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        call()
    assert str(caught.value) == caught.value.elsewhere == expected


def test_so_it_is_within_a_spec() -> None:
    with pytest.raises(SpecError) as caught:
        zoo.build({"backbone": "resnet18", "neck": "linear", "head": "gap"})
    assert str(caught.value).splitlines() == [
        "3 problems in the spec:",
        f"  spec.backbone.type: 'resnet18' is a model, not a backbone; write {_BACKBONE}",
        "  spec.neck.type: 'linear' is a bottleneck and a head, not a neck; "
        "write {'bottleneck': 'linear'} in a spec or {'head': 'linear'} in a spec",
        "  spec.head.type: 'gap' is a neck, not a head; write {'neck': 'gap'} in a spec",
    ]


@pytest.mark.parametrize("wanted", list(kinds.KINDS))
@pytest.mark.parametrize("kind", list(kinds.KINDS))
def test_every_kind_is_told_from_every_other(kind: str, wanted: str) -> None:
    others = set(kinds.KINDS[kind].names()) - set(kinds.KINDS[wanted].names())
    taken = {name for name in others if name in kinds.KINDS[wanted]}  # in another spelling
    for name in sorted(others - taken):
        with pytest.raises(UnknownNameError) as caught:
            kinds.KINDS[wanted].get(name)
        assert caught.value.elsewhere.startswith(f"{name!r} is a ")
        assert kind in caught.value.elsewhere.partition(", not ")[0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lenet", "a model and a backbone, not a file; write zoo.build('lenet') or {'backbone': 'lenet'} in a spec"),
        ("lenet:digits", "a set of weights, not a file; write zoo.build('lenet', weights='digits')"),
        ("timm:resnet18", "a backbone, not a file; write {'backbone': 'timm:resnet18'} in a spec"),
    ],
)
def test_a_name_that_is_loaded_as_a_file_is_said_to_be_none(name: str, expected: str) -> None:
    with pytest.raises(FileFormatError) as caught:
        zoo.load(name)
    assert str(caught.value) == f"{name}: there is no such file, and {name!r} is {expected}"


def test_a_model_may_not_be_saved_without_a_suffix_whatever_it_is_called(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"no suffix names no format; expected one of \.ckpt, \.onnx"):
        zoo.save(zoo.build("lenet"), "lenet")
    (tmp_path / "lenet").write_bytes(b"")
    with pytest.raises(FileFormatError, match=r"no suffix names no format; expected one of \.ckpt, \.onnx"):
        zoo.load(tmp_path / "lenet")


def test_what_nothing_is_called_is_answered_with_the_names_that_there_are() -> None:
    with pytest.raises(UnknownNameError, match=r"^unknown model 'lenett' \(did you mean lenet\?\); reg") as caught:
        zoo.build("lenett")
    assert caught.value.elsewhere == ""


def test_a_library_that_is_broken_does_not_get_in_the_way() -> None:
    with kinds.providers.overriding("ghostly", "no_such_package:THING"):
        with pytest.raises(UnknownNameError, match="unknown model 'ghostly:net'"):
            zoo.build("ghostly:net")
        with pytest.raises(SpecError, match="No module named 'no_such_package'"):
            zoo.build({"backbone": "ghostly:net"})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ("describe", "onnx"),
            "Error: 'onnx' is a format, not a model or component; write 'model.onnx', the name of a",
        ),
        (
            ("list", "models", "gap"),
            "Error: nothing matches 'gap'; 'gap' is a neck, not a model; write zoo.build({'back",
        ),
    ],
)
def test_the_command_says_so_too(words: tuple[str, ...], expected: str) -> None:
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    assert done.output.startswith(expected)
