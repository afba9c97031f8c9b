"""zoo plugins and zoo explain, before a fleet of installed distributions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def zoo(fleet: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if k != "ZOO_PLUGINS"}
    env = {**inherited, "PYTHONPATH": str(fleet), **environment}
    command = [str(Path(sys.executable).with_name("zoo")), *words]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=300)


def test_plugins_lists_providers_with_version_place_entries_and_state(fleet: Path) -> None:
    done = zoo(fleet, "plugins", "--json")
    told = {p["name"]: p for p in json.loads(done.stdout)}
    assert next(iter(told)) == "zoo-torch"
    assert set(told) == {
        "zoo-torch", "acme-zoo", "broken-zoo", "future-zoo", "impostor-zoo", "twin-one", "twin-two",
    }  # fmt: skip
    assert (told["acme-zoo"]["version"], told["acme-zoo"]["location"]) == ("0.3", str(fleet))
    assert told["twin-one"]["state"] == "ambiguous"
    assert told["twin-one"]["entries"][0]["reason"] == "twin-two offers it too; ask for twin-one:twin"
    assert done.returncode == 1  # broken-zoo has a malformed entry, which shows without loading
    text = zoo(fleet, "plugins").stdout
    assert f"acme-zoo 0.3  {fleet}" in text
    assert "blocked" in text
    assert "it was written for contract 2, this is contract 1" in text


def test_plugins_load_tries_them_all(fleet: Path) -> None:
    assert zoo(fleet, "plugins", "--load", ZOO_PLUGINS="none").returncode == 0
    done = zoo(fleet, "plugins", "--load", ZOO_PLUGINS="broken-zoo")
    assert done.returncode == 1
    assert "importing it raised SystemExit: 3" in done.stdout


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("lenet", "backbone lenet: zoo-torch:lenet, for zoo's own names are never shadowed"),
        ("twin", "backbone twin: no single one, for several distributions offer it, and none comes first; ask for"),
        ("twin-two:twin", "backbone twin-two:twin: twin-two:twin, for the name says whose it is"),
        ("tiny", "backbone tiny: acme-zoo:tiny, for it is the only one"),
        ("hologram", "backbone hologram: no single one, for every candidate is blocked or of another provider"),
    ],
)
def test_explain_tells_the_candidates_and_the_rule(name: str, told: str, fleet: Path) -> None:
    assert told in zoo(fleet, "explain", name).stdout
    assert json.loads(zoo(fleet, "explain", name, "--json").stdout)[-1]["kind"] == "backbone"


def test_a_name_that_says_whose_it_is_leaves_out_the_others(fleet: Path) -> None:
    found = json.loads(zoo(fleet, "explain", "timm:resnet18", "--json").stdout)
    assert [(each["kind"], each["chosen"]) for each in found] == [("backbone", "timm:resnet18")]
    (nobody,) = json.loads(zoo(fleet, "explain", "acme-zoo:resnet18", "--json").stdout)
    assert (nobody["kind"], nobody["chosen"]) == ("model", None)
    assert nobody["why"] == "every candidate is blocked or of another provider"


def test_explaining_what_nobody_offers_is_an_error(fleet: Path) -> None:
    done = zoo(fleet, "explain", "lenett")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: unknown name 'lenett' (did you mean lenet?)")
