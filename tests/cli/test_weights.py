"""zoo convert and zoo verify: text, JSON, exit codes, and the script that is the same."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import zoo
from zoo.cli import main

ROOT = Path(__file__).parents[2]


def run(*words: str | Path, fails: int = 0):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == fails, result.output
    assert "Traceback" not in result.output
    return result


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return zoo.save(zoo.build("lenet", weights="digits"), tmp_path / "lenet.pt")


def test_convert_tells_what_it_did(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "lenet.safetensors"
    result = run("convert", source, target)
    mark = zoo.fingerprint(source)[:19]
    assert result.stdout == f"{source} → {target}: 10 tensors, 246,824 bytes, verified, {mark}…\n"
    assert result.stderr == ""
    told = json.loads(run("convert", source, target, "--force", "--no-verify", "--json").stdout)
    assert told.pop("seconds") > 0
    assert told == {
        "source": str(source), "target": str(target), "source_format": "pt", "target_format": "safetensors",
        "tensors": 10, "bytes": 246_824, "fingerprint": zoo.fingerprint(source), "casts": None, "verified": False,
        "keymap": None, "migration": None, "left_out": [],
    }  # fmt: skip


def test_convert_takes_a_spec_and_a_shard_size(tmp_path: Path) -> None:
    torch.save(zoo.build("lenet").state_dict(), tmp_path / "plain.pt")
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(zoo.normalise("lenet")))
    run("convert", tmp_path / "plain.pt", tmp_path / "x.safetensors", "--spec", spec, "--shard-size", "100KB")
    index = tmp_path / "x.safetensors.index.json"
    assert zoo.load(index).spec == zoo.normalise("lenet")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["lenet.pt"], 2, "expected SRC and DST, found 1 files; for many files say --to FORMAT"),
        (["lenet.pt", "a.pt", "b.pt"], 2, "found 3 files"),
        (["lenet.pt", "a.pt", "-o", "out"], 2, "say which format they become: --to safetensors"),
        ([], 2, "Missing argument"),
        (["lenet.pt", "-"], 1, "Error: -: files only: found '-' as the target; expected the path of a file"),
        (["lenet.pt", "lenet.pt"], 1, "is the source itself"),
        (["lenet.pt", "plain.pt"], 1, "exists already; to replace it: force=True (zoo convert --force)"),
        (["lenet.pt", "no/x.pt"], 1, "there is no folder no; make it first"),
        (["lenet.pt", "x.bin"], 1, "suffix '.bin' names no format"),
        (["plain.pt", "x.onnx"], 1, "carries no spec, and .onnx needs the model"),
        (["plain.pt", "x.pt", "--spec", "lent"], 1, "did you mean lenet?"),
        (["lenet.pt", "plain.pt", "--to", "safetensor"], 1, "unknown format 'safetensor'"),
    ],
)
def test_what_is_wrong_is_told_with_an_exit_code(
    words: list[str], code: int, message: str, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source.parent)
    torch.save({"a": torch.ones(1)}, "plain.pt")
    result = run("convert", *words, fails=code)
    assert message in result.stderr
    assert result.stdout == ""
    assert sorted(f.name for f in source.parent.iterdir()) == ["lenet.pt", "plain.pt"]


def test_many_files_end_in_a_table(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(source.parent)
    Path("out").mkdir()
    Path("bad.pt").write_bytes(b"bad")
    result = run("convert", "lenet.pt", "bad.pt", "--to", "safetensors", "-o", "out", fails=1)
    assert result.stdout.splitlines() == [
        "file                 to, or why not",
        "lenet.pt  converted  out/lenet.safetensors",
        "bad.pt    failed     not a whole PyTorch file: it is neither a zip nor a pickle",
        "1 converted, 0 skipped, 1 failed",
    ]
    again = run("convert", "lenet.pt", "--to", "safetensors", "-o", "out")
    assert again.stdout.splitlines()[1:] == [
        "lenet.pt  skipped  out/lenet.safetensors",
        "0 converted, 1 skipped, 0 failed",
    ]
    told = json.loads(run("convert", "lenet.pt", "bad.pt", "--to", "pt", "-o", "out", "--json", fails=1).stdout)
    assert told["ok"] is False
    assert [f["state"] for f in told["files"]] == ["converted", "failed"]
    assert told["files"][0]["report"]["fingerprint"] == zoo.fingerprint("lenet.pt")


def test_verify_prints_a_table_and_answers_with_its_exit_code(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(source.parent)
    run("convert", "lenet.pt", "lenet.onnx")
    lines = run("verify", "lenet.pt", "lenet.onnx").stdout.splitlines()
    assert lines[0] == f"lenet.pt is as it was saved, {zoo.fingerprint('lenet.pt')}"
    assert lines[2] == "tensors: 10 of 10 are the same bit for bit"
    assert lines[4].split() == ["output", "inputs", "computed", "by", "error", "may", "be"]
    assert [line.split()[:5] for line in lines[5:8]] == [
        ["logits", "random", "lenet.pt", "in", "torch"],
        ["logits", "random", "lenet.onnx", "in", "torch"],
        ["logits", "random", "lenet.onnx", "in", "onnxruntime"],
    ]
    assert lines[-1] == "lenet.pt and lenet.onnx are the same"
    other = zoo.save(zoo.build("lenet"), "other.pt")
    assert run("verify", "lenet.pt", other, fails=1).stdout.endswith("lenet.pt and other.pt are NOT the same\n")
    told = json.loads(run("verify", "lenet.pt", "other.pt", "--json", fails=1).stdout)
    assert (told["ok"], told["tensors"]["equal"], len(told["tensors"]["differences"])) == (False, 0, 10)


def test_verify_of_one_file_checks_its_fingerprint(source: Path) -> None:
    assert "is as it was saved" in run("verify", source).stdout
    torch.save({"a": torch.ones(1)}, source)
    assert "carries no fingerprint" in run("verify", source, fails=1).stdout
    assert "there is no such file" in run("verify", source.parent / "no.pt", fails=1).stderr
    run("verify", fails=2)


def test_the_examples_in_the_docs_are_true(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(source.parent)
    Path("out").mkdir()
    section = (ROOT / "docs/how-to/weights.md").read_text().partition("```console\n")[2].partition("```")[0]
    examples = [each.partition("\n") for each in section.split("$ zoo ")[1:]]
    assert len(examples) == 4
    for command, _, expected in examples:
        found = CliRunner().invoke(main, command.split()).output
        pattern = ".*".join(re.escape(part) for part in expected.split("…"))
        assert re.fullmatch(pattern, found), f"{command}: {found}"


def test_convert_casts(source: Path) -> None:
    target = source.parent / "half.safetensors"
    told = json.loads(run("convert", source, target, "--dtype", "float16", "--json").stdout)
    assert told["casts"]["dtype"] == "float16"
    assert zoo.load(target).head.fc.weight.dtype == torch.float16
    assert "did you mean float16 or" in run("convert", source, target, "--dtype", "flot16", "--force", fails=1).stderr


def test_the_script_is_the_command(source: Path) -> None:
    script = [sys.executable, str(ROOT / "scripts" / "convert_weights.py")]
    done = subprocess.run(
        [*script, source, source.parent / "x.safetensors"], capture_output=True, text=True, check=True
    )
    assert "10 tensors, 246,824 bytes, verified" in done.stdout
    failed = subprocess.run([*script, source, source], capture_output=True, text=True, check=False)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("Error: ")
    told = subprocess.run([*script, "--help"], capture_output=True, text=True, check=True).stdout
    assert told.startswith("Usage: convert_weights.py [OPTIONS] SRC DST | SRC... --to FORMAT")
    ours = run("convert", "--help").stdout
    assert told.split("Options:")[1].split() == ours.split("Options:")[1].split()  # lines break as the terminal has it


def test_on_a_terminal_a_bar_is_shown_on_stderr_and_stdout_stays_clean(source: Path) -> None:
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "zoo.cli.command", "convert", source, source.parent / "x.safetensors"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=follower, text=True, env=environment) as child:
        os.close(follower)
        shown = b""
        with contextlib.suppress(OSError):  # what reading the end of a terminal raises
            while part := os.read(leader, 65536):
                shown += part
        stdout = child.stdout.read()
    os.close(leader)
    assert child.returncode == 0
    assert "lenet.pt" in shown.decode(errors="replace")
    assert stdout.count("\n") == 1
    assert "verified" in stdout


def test_identify_writes_the_spec_that_convert_takes(tmp_path: Path) -> None:
    plain, spec = tmp_path / "plain.pth", tmp_path / "spec.json"
    torch.save({"model": zoo.build("lenet", num_classes=62).state_dict(), "epoch": 1}, plain)
    assert "num_classes=62" in run("identify", plain, "-o", spec).stdout
    assert json.loads(spec.read_text()) == zoo.build("lenet", num_classes=62).spec
    run("convert", plain, tmp_path / "x.safetensors", "--spec", spec)
    assert zoo.load(tmp_path / "x.safetensors").spec["head"]["num_classes"] == 62
    torch.save({"a": torch.zeros(1)}, tmp_path / "none.pth")
    run("identify", tmp_path / "none.pth", "-o", tmp_path / "none.json", fails=1)
    assert not (tmp_path / "none.json").exists()


def test_a_batch_tells_what_is_wrong_and_what_to_do_in_a_line_and_all_of_it_in_json(tmp_path: Path) -> None:
    from torchvision.models import resnet18

    with torch.device("meta"):
        names = resnet18(num_classes=7).state_dict()
    plain = tmp_path / "plain.pth"
    torch.save({name: torch.zeros(tensor.shape, dtype=tensor.dtype) for name, tensor in names.items()}, plain)
    words = ("convert", plain, "--to", "safetensors", "--spec", "resnet18")
    row = run(*words, fails=1).stdout.splitlines()[1]
    assert "is the spec theirs? it fits with head.num_classes=7 in the spec: zoo.build(…, " in row
    (told,) = json.loads(run(*words, "--json", fails=1).stdout)["files"]
    assert (
        "the shapes disagree of 2: head.fc.weight: fc.weight makes (7, 512); the model has (1000, 512)" in told["error"]
    )
    row = run("convert", tmp_path, "--to", "safetensors", fails=1).stdout.splitlines()[1]
    assert row.endswith(f"is a folder; name the files in it: {tmp_path}/*")
