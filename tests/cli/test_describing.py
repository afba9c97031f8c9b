"""zoo describe: facts about a name, and of a model what it is like inside."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import zoo
from zoo.cli import main


def run(*words: str | Path, fails: int = 0):
    result = CliRunner().invoke(main, ["describe", *(str(word) for word in words)])
    assert result.exit_code == fails, result.output
    return result


def told(*words: str | Path):
    return json.loads(run(*words, "--json").stdout)


def test_a_component_is_told_with_provider_target_signature_doc_and_features() -> None:
    text = run("vgg_lite").stdout
    for fact in ("zoo-torch", "zoo.backbones.vgg:VGG", "layers: tuple", "stage5: 512×7×7, stride 32", "Simonyan"):
        assert fact in text
    backbone = next(d for d in told("vgg_lite") if d["kind"] == "backbone")
    assert set(backbone) == {
        "kind", "name", "provider", "version", "target", "signature", "doc", "features", "spec", "plan",
    }  # fmt: skip
    last = backbone["features"][-1]
    assert {key: last[key] for key in ("name", "channels", "stride", "size")} == {
        "name": "stage5", "channels": 512, "stride": 32, "size": [7, 7],
    }  # fmt: skip
    assert backbone["plan"] is None


def test_a_vector_is_told_without_a_stride() -> None:
    text = run("mlp").stdout
    assert text.count("  features   hidden: 128\n") == 2  # of the model and of the backbone
    assert ", stride" not in text


def test_a_model_is_told_with_its_facts_then_its_modules_features_and_totals() -> None:
    text = run("resnet18").stdout
    places = [text.index(fact) for fact in (
        "provider   zoo-torch", "zoo.models.resnet:RESNET18", '"backbone": {', "input 3×224×224, batch 1, float32",
        "├─ backbone  resnet_lite", "│  └─ layer4  Sequential", "└─ head  linear", "part      feature", "inference ",
    )]  # fmt: skip
    assert places == sorted(places)
    assert re.search(r"layer4  Sequential +512×7×7 +435 +8\.39M +411M", text)
    assert re.search(r"stage4 +512×7×7 +32 +435 +-217", text)
    assert re.search(r"parameters +11,689,512; 46\.8 MB with buffers", text)
    assert not any(line != line.rstrip() for line in text.splitlines())
    assert "\x1b" not in text


def test_depth_says_how_many_levels_are_shown() -> None:
    assert "backbone" in run("resnet18", "--depth", 1).stdout
    assert "conv1" not in run("resnet18", "--depth", 1).stdout
    assert "layer1" in run("resnet18").stdout
    assert "downsample" not in run("resnet18").stdout
    assert "│  │  │  ├─ conv2  Conv2d" in run("resnet18", "--depth", 4).stdout


def test_json_has_every_level_of_the_plan() -> None:
    plan = next(d for d in told("lenet", "--batch", 2) if d["kind"] == "model")["plan"]
    expected = zoo.plan("lenet", batch=2)
    assert plan == json.loads(json.dumps(expected.to_json()))
    assert plan["inference"] == {"multiply_adds": 833040, "peak_bytes": expected.inference.peak_bytes}
    backbone = plan["tree"]["children"][0]
    assert backbone["outputs"][1]["field"][0] == {"extent": "part", "size": 16, "jump": 4, "offset": 0}


def test_another_input_and_dtype() -> None:
    text = run("resnet-lite", "--size", "3x320x240", "--batch", 4, "--dtype", "bfloat16").stdout
    assert "input 3×320×240, batch 4, bfloat16" in text
    assert "16×320×240" in text


@pytest.mark.parametrize("size", ["320", "x320", "3x", "3x320xx320", "0x320x320", "3x320x-1", "3,320,320", "3x1x1x1x1"])
def test_a_malformed_size_is_a_usage_error(size: str) -> None:
    error = run("lenet", f"--size={size}", fails=2).stderr
    assert f"Invalid value for '--size': found {size!r}; expected channels and size, such as 3x320x320" in error


def test_a_size_that_does_not_fit_is_told() -> None:
    assert "expected at least 8×8" in run("vgg-lite", "--size", "1x4x4", fails=1).stderr
    assert "--size is for models; 'gap' is a neck" in run("gap", "--size", "3x4x4", fails=2).stderr


def test_of_a_model_for_any_size_the_facts_are_told_and_how_to_have_the_rest() -> None:
    result = run("fcn_resnet50")
    assert "model fcn_resnet50" in result.stdout
    assert "it takes inputs of any size: zoo describe fcn_resnet50 --size CxHxW" in result.stderr
    assert told("tiny-seg")[0]["plan"] is None
    assert "├─ backbone" in run("tiny-seg", "--size", "1x64x64").stdout


def test_a_spec_file_is_told_as_a_model_is(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('backbone = "resnet_lite"\nneck = "gap"\n[input]\nsize = [64, 64]\n')
    assert run(file).stdout.startswith("input 3×64×64")
    assert told(file)["parameters"] == zoo.plan(file).parameters
    file.write_text('backbone = "resnet_lit"\n')
    assert "mine.toml: spec.backbone.type: unknown backbone 'resnet_lit'" in run(file, fails=1).stderr


def test_on_a_narrow_terminal_names_give_way_and_figures_do_not() -> None:
    from io import StringIO

    from rich.console import Console

    from zoo.anatomy.rendering import rendered

    written = StringIO()
    Console(file=written, width=64, force_terminal=True, color_system=None).print(rendered(zoo.plan("resnet50")))
    lines = written.getvalue().splitlines()
    assert max(map(len, lines)) <= 64
    assert re.search(r"layer4.*… +2048×7×7 +427 +15\.0M +809M +4\.7\d MB", written.getvalue())
