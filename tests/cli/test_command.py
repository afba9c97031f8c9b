"""The zoo command: text for people, JSON for programs, errors with an exit code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import digits
import pytest
import torch
from click.testing import CliRunner

import zoo
from zoo.cli import main


def run(*words: str | Path, fails: int = 0):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == fails, result.output
    return result


def told(*words: str | Path):
    return json.loads(run(*words, "--json").stdout)


def test_everything_is_listed_unless_a_kind_or_pattern_is_given() -> None:
    lines = run("list").stdout.splitlines()
    assert lines[0].split() == ["kind", "name", "provider"]
    assert ["backbone", "resnet_lite", "zoo-torch", zoo.__version__] in [line.split() for line in lines]
    assert {line.split()[0] for line in lines[1:]} == {
        "model", "backbone", "neck", "bottleneck", "head", "weights", "format", "keymap", "provider",
    }  # fmt: skip


def test_a_kind_and_a_pattern_narrow_the_list() -> None:
    assert [e["name"] for e in told("list", "models", "vgg1?")] == ["vgg11", "vgg13", "vgg16", "vgg19"]
    assert {e["kind"] for e in told("list", "lenet")} == {"model", "backbone"}
    assert told("list", "necks", "gap") == [
        {
            "kind": "neck",
            "name": "gap",
            "provider": "zoo-torch",
            "version": zoo.__version__,
            "target": "zoo.necks.pool:GlobalAveragePool",
        }
    ]


@pytest.mark.parametrize(("one", "several"), [("head", "heads"), ("weights", "weights"), ("format", "formats")])
def test_a_kind_may_be_one_or_several(one: str, several: str) -> None:
    assert told("list", one) == told("list", several) != []
    assert told("list", one, "*n*") == told("list", several, "*n*") != []


def test_nothing_that_matches_is_an_empty_list() -> None:
    assert told("list", "models", "nothing") == []
    result = run("list", "models", "nothing", fails=1)
    assert (result.stdout, result.stderr) == ("", "Error: nothing matches 'nothing'\n")
    assert "nothing matches 'bakbones'; did you mean backbones?" in run("list", "bakbones", fails=1).stderr


def test_a_misspelt_kind_is_answered_with_the_kinds() -> None:
    assert "expected at most a kind (models, backbones," in run("list", "modls", "x", fails=2).stderr


@pytest.mark.parametrize("format_", ["pt", "safetensors", "onnx"])
def test_inspect_tells_spec_tensors_and_sizes(format_: str, tmp_path: Path) -> None:
    model = zoo.build("lenet", weights="digits")
    file = zoo.save(model, tmp_path / f"x.{format_}")
    found = told("inspect", file)
    assert found["spec"] == model.spec
    assert found["size"] == file.stat().st_size
    assert {t["name"] for t in found["tensors"]} == set(model.state_dict())
    assert {"name": "head.fc.weight", "dtype": "float32", "shape": [10, 84], "bytes": 3360} in found["tensors"]
    text = run("inspect", file).stdout
    assert "10 tensors, 61,706 numbers" in text
    assert "test_accuracy 0.99" in text
    assert re.search(r"head\.fc\.weight +float32  10×84 +3,360", text)


def test_predict_prints_a_row_an_image(tmp_path: Path) -> None:
    test = digits.split()["test"]
    files = []
    for index in range(3):
        files.append(tmp_path / f"{index}.png")
        test.images[index].save(files[-1])
    found = told("predict", "lenet:digits", *files)
    assert [set(p) for p in found] == [{"file", "label", "probability"}] * 3
    assert [p["file"] for p in found] == [str(f) for f in files]
    assert [p["label"] for p in found] == [str(n) for n in test.labels[:3].tolist()]
    assert run("predict", "lenet", *files).stdout.splitlines()[0].split() == ["file", "label", "probability"]


def test_predict_says_when_a_file_knows_no_labels(tmp_path: Path) -> None:
    digits.split()["test"].images[0].save(tmp_path / "x.png")
    file = zoo.save(zoo.build("lenet"), tmp_path / "x.pt")
    assert "says nothing of preprocessing or labels" in run("predict", file, tmp_path / "x.png").stderr


def test_predict_takes_the_spec_of_a_file_that_does_not_say_what_it_holds(tmp_path: Path) -> None:
    image = tmp_path / "x.png"
    digits.split()["test"].images[0].save(image)
    file = tmp_path / "theirs.pth"
    torch.save(zoo.build("lenet", weights="digits").state_dict(), file)
    lost = run("predict", file, image, fails=1).stderr
    assert lost == (
        f"Error: {file}: carries no spec; say what it holds: spec='resnet18', a spec dict or a spec file (--spec); "
        f"zoo identify {file} tells what it can be of\n"
    )
    found = json.loads(run("predict", file, image, "--spec", "lenet", "--json").stdout)
    (expected,) = zoo.predict(zoo.load(file, spec="lenet"), image)
    assert found == [vars(expected)]
    refused = run("predict", "lenet:digits", image, "--spec", "lenet", fails=1).stderr
    assert refused == "Error: found a spec (lenet) for 'lenet:digits', which is no weights file; leave it out\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("describe", "lenett"), "Error: unknown model or component 'lenett' (did you mean lenet?); registered: "),
        (("inspect", "lenet:digits"), "Error: lenet:digits: there is no such file, and 'lenet:digits' is a set of we"),
        (("inspect", "nothing.pt"), "Error: nothing.pt: there is no such file"),
        (("predict", "lenet", "nothing.png"), "Error: nothing.png: there is no such file"),
        (("predict", "vgg16", "nothing.png"), "Error: unknown weights 'vgg16.*'; registered: none"),
    ],
)
def test_an_error_is_a_message_and_an_exit_code(words: tuple[str, ...], message: str) -> None:
    result = run(*words, fails=1)
    assert result.stderr.startswith(message)
    assert "Traceback" not in result.output


def test_the_help_tells_each_command_in_whole_words() -> None:
    commands = run("--help").stdout.partition("Commands:\n")[2].splitlines()
    assert len(commands) == len(main.commands)
    assert all(line.endswith(".") and not line.endswith("...") for line in commands), commands


def test_version() -> None:
    assert run("--version").stdout == f"zoo, version {zoo.__version__}\n"
