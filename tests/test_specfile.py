"""Spec files: JSON, TOML and YAML mean the same, and no file can hang or surprise whoever reads it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

import zoo
from zoo import kinds
from zoo.errors import ShapeError, SpecError, SpecFileError, UnknownNameError
from zoo.specfile import SIZE_LIMIT, read

SPEC = {
    "input": {"channels": 1, "size": [28, 28]},
    "backbone": {"type": "vgg_lite", "layers": [1, 1], "channels": [8, 16]},
    "neck": "gap",
    "head": {"type": "linear", "num_classes": 3, "dropout": 0.5},
}
TOML = """
"$schema" = "zoo.schema.json"
neck = "gap"
[input]
channels = 1
size = [28, 28]
[backbone]
type = "vgg_lite"
layers = [1, 1]
channels = [8, 16]
[head]
type = "linear"
num_classes = 3
dropout = 0.5
"""
YAML = """
# yaml-language-server: $schema=zoo.schema.json
$schema: zoo.schema.json
input: {channels: 1, size: [28, 28]}
backbone: {type: vgg_lite, layers: [1, 1], channels: [8, 16]}
neck: gap
head:
  type: linear
  num_classes: 3
  dropout: 0.5
"""
WRITTEN = {
    "x.json": json.dumps({"$schema": "zoo.schema.json", **SPEC}), "x.toml": TOML, "x.yaml": YAML, "x.yml": YAML,
    "x.JSON": "\N{ZERO WIDTH NO-BREAK SPACE}" + json.dumps(SPEC),
}  # fmt: skip


@pytest.fixture
def write(tmp_path: Path):
    def put(name: str, content: str | bytes) -> Path:
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    return put


def refusal(file: str | Path) -> str:
    """Return why a file is refused, which has to be soon."""
    start = time.perf_counter()
    with pytest.raises(SpecFileError) as caught:
        zoo.normalise(file)
    assert time.perf_counter() - start < 20  # some take 1 s on an idle machine; what this refuses took for ever
    assert str(caught.value) == f"{file}: {caught.value.reason}"
    assert caught.value.path == str(file)
    return caught.value.reason


@pytest.mark.parametrize("name", WRITTEN)
def test_every_language_says_the_same(name: str, write) -> None:
    file = write(name, WRITTEN[name])
    assert read(file) == SPEC
    assert zoo.normalise(file) == zoo.normalise(str(file)) == zoo.normalise(SPEC)


def test_build_takes_files_and_changes_to_them(write) -> None:
    file = write("x.toml", TOML)
    assert zoo.build(file).spec == zoo.build(str(file)).spec == zoo.normalise(SPEC)
    assert zoo.build(file, num_classes=7, bottleneck={"type": "linear", "out_features": 5}).head.fc.in_features == 5


def test_load_takes_a_file_for_what_another_file_holds(write, tmp_path: Path) -> None:
    file = write("x.yaml", YAML)
    model = zoo.build(file)
    weights = zoo.save(model, tmp_path / "x.safetensors")
    assert zoo.load(weights, spec=file).spec == zoo.build(file, weights=weights).spec == model.spec
    file.write_text("backbone: {type: vgg_lite, wide: 3}")
    with pytest.raises(SpecError, match=r"x\.yaml: spec\.backbone\.wide: unknown parameter"):
        zoo.load(weights, spec=file)


def test_a_name_that_a_model_has_stays_that_of_the_model(write, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write("small.json", json.dumps(SPEC))
    monkeypatch.chdir(file.parent)
    assert zoo.normalise("small.json")["backbone"]["type"] == "vgg_lite"
    kinds.models.register("small.json", {"backbone": {"type": "mlp"}})
    try:
        assert zoo.normalise("small.json")["backbone"]["type"] == "mlp"
        assert zoo.normalise(Path("small.json"))["backbone"]["type"] == "vgg_lite"
    finally:
        kinds.models.unregister("small.json")
    with pytest.raises(UnknownNameError, match="unknown model 'small'"):
        zoo.build("small")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.json", '{"backbone": {"type": "lenet", "chanels": [6]}, "neck": 3}'),
        ("x.toml", 'neck = 3\n[backbone]\ntype = "lenet"\nchanels = [6]'),
        ("x.yaml", "neck: 3\nbackbone: {type: lenet, chanels: [6]}"),
    ],
)
def test_problems_read_as_those_of_a_dict_and_name_the_file(name: str, content: str, write) -> None:
    file = write(name, content)
    with pytest.raises(SpecError) as of_dict:
        zoo.normalise(read(file))
    for ask in (zoo.normalise, zoo.build):
        with pytest.raises(SpecError) as caught:
            ask(file)
        assert caught.value.problems == of_dict.value.problems
        assert str(caught.value) == f"{file}: {of_dict.value}"
        assert (caught.value.file, of_dict.value.file) == (str(file), None)


def test_the_cause_of_a_problem_is_kept(write) -> None:
    with pytest.raises(SpecError) as caught:
        zoo.build(write("x.yaml", "backbone: lent"))
    assert isinstance(caught.value.__cause__, UnknownNameError)


def test_parts_that_do_not_fit_name_the_file(write) -> None:
    file = write("x.yaml", "{input: {size: [32, 32]}, backbone: resnet_lite, head: {type: linear, num_classes: 2}}")
    with pytest.raises(ShapeError) as caught:
        zoo.build(file)
    assert caught.value.where == f"{file}: spec.head (linear) after backbone resnet_lite"


def test_a_problem_of_a_dict_names_no_file() -> None:
    with pytest.raises(SpecError) as caught:
        zoo.build({"backbone": 3})
    assert str(caught.value).startswith("spec.backbone: found 3")


def test_what_yaml_repeats_by_alias_may_be_repeated_a_little(write) -> None:
    text = "backbone: {type: vgg_lite, norm: &n {type: group, groups: 8}}\nbottleneck: {type: conv1x1, norm: *n}"
    assert read(write("x.yaml", text))["bottleneck"]["norm"] == {"type": "group", "groups": 8}
    text = "backbone: &b {type: mlp, hidden: [3], dropout: 0.5}\nbottleneck: {<<: *b, hidden: [4]}"
    assert read(write("x.yaml", text))["bottleneck"] == {"type": "mlp", "hidden": [4], "dropout": 0.5}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.json", "", "is not JSON: Expecting value"),
        ("x.json", "{'a': 1}", "is not JSON: Expecting property name"),
        ("x.json", "[]", "holds a list; expected a mapping with a 'backbone'"),
        ("x.json", '"lenet"', "holds a str; expected a mapping"),
        ("x.json", '{"backbone": {"type": "mlp", "type": "lenet"}}', "states the key 'type' twice"),
        ("x.json", '{"backbone": NaN}', "is not JSON: it has no NaN"),
        ("x.json", "9" * 5000, "is not JSON: Exceeds the limit"),
        ("x.toml", "backbone = ", "is not TOML: Invalid value"),
        ("x.toml", "a = 1\na = 2", "is not TOML: Cannot overwrite a value"),
        ("x.toml", "a = 0x" + "f" * 5000, "has a number of 20,000 bits"),
        ("x.yaml", "", "holds nothing; expected a mapping"),
        ("x.yaml", "backbone: [", "is not YAML: "),
        ("x.yaml", "a: b: c", "is not YAML: mapping values are not allowed here (line 1 column 5)"),
        ("x.yaml", "a: 1\n---\nb: 2", "is not YAML: but found another document"),
        ("x.yaml", "a: \x01", "is not YAML: unacceptable character #x0001"),
        ("x.yaml", "a:\n  b: 1\n  b: 2", "states the key 'b' twice in one mapping, again in line 3"),
        ("x.yaml", "1: a", "has a key that is not a text, in line 1"),
        ("x.yaml", "{a: 1}: a", "has a key that is not a text, in line 1"),
        ("x.yaml", "a: !!python/object/apply:os.system [ls]", "is not YAML: could not determine a constructor"),
        ("x.yaml", "a: !!bool maybe", "is not YAML: a value does not fit its tag: KeyError('maybe')"),
        ("x.yaml", "a: 2001-99-99", "is not YAML: month must be in 1..12"),
        ("x.yaml", "<<: 3", "is not YAML: expected a mapping or list of mappings"),
        ("x.txt", "", "suffix '.txt' names no kind of spec file; expected one of .json, .toml, .yaml, .yml"),
        ("x", "", "no suffix names no kind of spec file"),
        *((f"x.{kind}", b'{"a": "\xff"}', "is not UTF-8: invalid start byte 0xff at byte 7")
          for kind in ("json", "toml", "yaml")),
    ],
)  # fmt: skip
def test_what_is_no_spec_file_is_refused_with_the_reason(name: str, content: str, reason: str, write) -> None:
    assert refusal(write(name, content)).startswith(reason)


def test_a_file_that_is_not_there_or_is_none_is_refused(tmp_path: Path) -> None:
    assert refusal(str(tmp_path / "no.json")) == "there is no such file"
    folder = tmp_path / "folder.json"
    folder.mkdir()
    assert refusal(folder) == "is a folder, not a file"
    assert refusal("a\0.json")
    assert refusal(tmp_path / ("long" * 100 + ".json")) == "cannot be read: File name too long"
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.yaml")
        assert refusal(tmp_path / "pipe.yaml") == "is not a plain file"


def laughs(first: str, line: str) -> str:
    """Return YAML in which each line repeats the one before ten times: a billion values on ten lines."""
    return f"a0: &a0 {first}\n" + "".join(
        f"a{i}: &a{i} {line.format(', '.join([f'*a{i - 1}'] * 10))}\n" for i in range(1, 12)
    )


BOMBS = {
    "aliases.yaml": laughs("[x]", "[{}]"),
    "merges.yaml": laughs("{k: 1}", "{{<<: [{}]}}"),
    "cycle.yaml": "a: &a [*a]",
    "cycle_of_keys.yaml": "a: &a {<<: *a}",
    "flow.yaml": "[" * 400_000,
    "block.yaml": "- " * 400_000,
    "keys.yaml": "? " * 400_000,
    "objects.yaml": "{a: " * 200_000,
    "many.yaml": f"[{'1,' * 400_000}]",
    "text.yaml": f"a: {'x' * 900_000}",
    "base_60.yaml": f"a: {'1:' * 400_000}1",
    "lists.json": "[" * 900_000,
    "objects.json": '{"a":' * 150_000,
    "closed.json": '{"backbone":' + "[" * 40 + "]" * 40 + "}",
    "many.json": f'{{"backbone": [{"1," * 400_000}1]}}',
    "text.json": f'{{"backbone": "{"x" * 900_000}"}}',
    "twins.json": "{" + ",".join(f'"{i}":1' for i in range(90_000)) + ',"89999":1}',
    "lists.toml": "a=" + "[" * 900_000,
    "tables.toml": "a=" + "{a=" * 200_000,
    "dots.toml": "a." * 400_000 + "a=1",
    "quoted.toml": '"=".' * 200_000 + "a=1",
    "headers.toml": "".join(f"[{'a.' * 250}b{i}]\n" for i in range(1_900)),
    "many.toml": "[[a]]\n" * 160_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_would_hang_or_fill_the_memory_is_refused(name: str, write) -> None:
    assert len(BOMBS[name]) <= SIZE_LIMIT
    reason = refusal(write(name, BOMBS[name]))
    assert any(word in reason for word in ("more than", "too long", "twice")), reason


@pytest.mark.parametrize("suffix", ["json", "toml", "yaml"])
def test_a_file_of_more_than_a_megabyte_is_not_read(suffix: str, write) -> None:
    assert refusal(write(f"x.{suffix}", " " * (SIZE_LIMIT + 1))) == "has more than 1,000,000 bytes, too many for a spec"


def test_reading_spec_files_needs_no_torch(python, write) -> None:
    file = write("x.yaml", YAML)
    done = python(f"import sys, zoo.specfile; zoo.specfile.read({str(file)!r}); print('torch' in sys.modules)")
    assert done.stdout == "False\n", done.stderr
