"""Real distributions, installed by pip into a folder of their own and seen from fresh processes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests_support import PLUGINS, pip_install

LIST = "import json, zoo.kinds as k;print(json.dumps({e.qualified_name: e.version for e in k.backbones.entries()}))"


def listed(python, *paths: Path, **environment: str) -> dict[str, str]:
    return json.loads(python(LIST, *paths, **environment).stdout)


def output(done) -> list[str]:
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


# A good plugin.


def test_listing_shows_every_kind_of_thing_and_imports_nothing(python, fleet: Path) -> None:
    code = (
        "import sys, zoo, zoo.plugins\n"
        "own = [(e.kind, e.name) for p in zoo.plugins.plugins() if p.name == 'acme-zoo' for e in p.entries]\n"
        "print(own)\nprint(zoo.list_components('backbone'), zoo.list_models(), zoo.list_weights())\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'acme_zoo', 'broken_zoo', 'twin_one', 'impostor_zoo',"
        "'future_zoo', 'torch', 'pydantic', 'numpy'}))"
    )
    own, names, imported = output(python(code, fleet))
    assert own == str(
        [
            ("model", "acme-net"), ("backbone", "circular"), ("backbone", "little"), ("backbone", "tiny"),
            ("neck", "gmax"), ("bottleneck", "halve"), ("head", "binary"), ("weights", "acme-net.constant"),
            ("format", "npz"), ("keymap", "acme"), ("provider", "acme"),
        ]
    )  # fmt: skip
    assert all(name in names for name in ("'tiny'", "'acme-net'", "'acme-net.constant'"))
    assert imported == "[]"


def test_all_that_the_plugin_offers_can_be_used(python, fleet: Path, tmp_path: Path) -> None:
    code = (
        "import zoo, torch, json\n"
        "m = zoo.build('acme-net', neck='gmax', bottleneck='halve', head={'type': 'binary', 'questions': 3})\n"
        "print(list(m(torch.zeros(2, 1, 32, 32)).shape))\n"
        f"b = zoo.load(zoo.save(m, {str(tmp_path / 'x.npz')!r}))\n"
        "print(all(torch.equal(t, b.state_dict()[n]) for n, t in m.state_dict().items()))\n"
        "print(zoo.build('acme-net', weights='constant').head.fc.weight.unique().tolist())\n"
        "s = zoo.build({'backbone': 'acme:stride-4', 'neck': 'gap'})\n"
        "print(s.spec['backbone'], s.lock, list(s(torch.zeros(1, 3, 8, 8))[0].shape))\n"
        "print(json.dumps(m.lock))"
    )
    shape, same, constant, within, lock = output(python(code, fleet))
    assert (shape, same, constant) == ("[2, 3]", "True", "[0.5]")
    assert within == "{'type': 'acme:stride-4'} {'acme-zoo': '0.3', 'zoo-torch': '0.1.0'} [1, 3]"
    assert json.loads(lock) == {"acme-zoo": "0.3", "zoo-torch": "0.1.0"}


def test_a_keymap_of_the_plugin_translates_a_file_and_back(python, fleet: Path, tmp_path: Path) -> None:
    code = (
        "import torch, zoo\nfrom zoo.kinds import keymaps\n"
        "theirs = {'stem.weight': torch.randn(4, 1, 3, 3), 'stem.bias': torch.randn(4), 'out.bias': torch.randn(10),\n"
        "          'out.kernel': torch.randn(4, 10), 'revision': torch.tensor(2)}\n"
        f"path = {str(tmp_path / 'acme.pth')!r}; torch.save(theirs, path)\n"
        "m = zoo.load(path, spec='acme-net', keymap='acme')\n"
        "print(torch.equal(m.head.fc.weight, theirs['out.kernel'].T), type(m.backbone).__name__)\n"
        "back = keymaps.get('acme-zoo:acme').to_theirs(m)\n"
        "print(back.keys() == theirs.keys(), all(torch.equal(t, back[n]) for n, t in theirs.items()))\n"
        "zoo.load(path, spec='resnet18', keymap='acme')"
    )
    done = python(code, fleet)
    assert done.stdout.splitlines() == ["True Tiny", "True True"], done.stderr
    assert (
        "acme.pth: keymap 'acme': the model is backbone resnet_lite, neck gap, head linear; there are tables for:\n"
        "  backbone acme-zoo:tiny, neck gap, head linear\n"
    ) in done.stderr


def test_an_old_name_leads_to_the_new_one_with_a_warning(python, fleet: Path) -> None:
    done = python("import zoo; print(zoo.build({'backbone': 'little'}).spec['backbone']['type'])", fleet)
    assert output(done) == ["tiny"]
    assert "FutureWarning: backbone 'little' is called 'tiny' since acme-zoo 0.2" in done.stderr


def test_names_that_lead_back_to_themselves_are_broken(python, fleet: Path) -> None:
    done = python("import zoo; zoo.build({'backbone': 'circular'})", fleet)
    assert "is broken: its new names lead back to 'circular'" in done.stderr


def test_refresh_sees_what_was_installed_and_uninstalled_since(python, tmp_path: Path) -> None:
    target = tmp_path / "site"
    target.mkdir()
    code = (
        "import sys, shutil, subprocess, zoo, registry\n"
        "def there(): return 'tiny' in zoo.list_components('backbone')\n"
        f"sys.path.insert(0, {str(target)!r})\n"
        "print(there())\n"
        f"sys.path.append({str(Path(__file__).parents[1] / 'support')!r})\n"
        "from tests_support import PLUGINS, pip_install, uninstall\nfrom pathlib import Path\n"
        f"pip_install(Path({str(target)!r}), PLUGINS / 'acme-zoo')\n"
        "print(there()); registry.refresh(); print(there())\n"
        "print(type(zoo.build({'backbone': 'tiny'}).backbone).__name__)\n"
        f"uninstall(Path({str(target)!r}), 'acme_zoo')\n"
        "registry.refresh(); print(there())"
    )
    assert output(python(code)) == ["False", "False", "True", "Tiny", "False"]


# What is broken.


BROKEN = {
    "import-fails": "importing it raised RuntimeError: the shared library libacme.so is too old",
    "exits": "importing it raised SystemExit: 3",
    "no-module": "importing it raised ModuleNotFoundError: No module named 'broken_zoo.nowhere'",
    "no-such-attribute": "unfit.py has no attribute 'Nothing'",
    "malformed": "its value is not of the form package.module:attribute",
    "swallows": "**kwargs: int is not a plain keyword parameter",
    "untyped": "parameter 'width' has no type hint",
    "unsayable": "parameter 'weight' is of type Tensor | None, which a spec cannot state",
    "typed-type": "it has a parameter 'type', which in a spec is the name of the component",
    "not-callable": "it is 'int', not a class or function",
}


def test_a_broken_entry_harms_only_who_asks_for_it(python, fleet: Path) -> None:
    code = (
        "import zoo\nfrom zoo.errors import BrokenEntryError, SpecError\nfrom zoo.kinds import backbones\n"
        f"for name in {list(BROKEN)!r}:\n"
        "    for _ in range(2):\n"
        "        try:\n            backbones.get(name)\n"
        "        except BrokenEntryError as error:\n            print(error)\n"
        "    try:\n        zoo.build({'backbone': name})\n    except SpecError as error:\n        print(error)\n"
        "print(type(backbones.get('tiny')).__name__, len(zoo.list_components('backbone')))"
    )
    lines = output(python(code, fleet))
    assert lines.pop().startswith("type ")
    assert len(lines) == 3 * len(BROKEN)
    for index, (name, reason) in enumerate(BROKEN.items()):
        first, again, through_spec = lines[3 * index : 3 * index + 3]
        assert first.startswith(f"backbone {name!r} of broken-zoo 2.0 (broken_zoo")
        assert f"is broken: {reason}" in first or reason in first
        assert again == first
        assert through_spec == f"spec.backbone.type: {first}"


NUMBER = "of broken-zoo 2.0 (broken_zoo.unfit:NUMBER) is broken:"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("zoo.build({'backbone': 'featureless'})", "(featureless) of broken-zoo 2.0: what it builds has no 'features'"),
        ("zoo.build({'backbone': 'builds-a-number'})", "(builds-a-number) of broken-zoo 2.0: it built 'int', not"),
        ("zoo.build('no-spec')", f"model 'no-spec' {NUMBER} it is 'int', not a spec: a dict with a 'backbone'"),
        ("zoo.load('x.brk')", f"format 'brk' {NUMBER} it has no method read and no method write"),
        (
            "from zoo.kinds import keymaps; keymaps.get('brk')",
            f"keymap 'brk' {NUMBER} it is 'int', not a Keymap: zoo.weights.keymaps.keymap.Keymap(library, tables)",
        ),
        (
            "from zoo.kinds import keymaps; keymaps.get('contradicts')",
            "keymap 'contradicts' of broken-zoo 2.0 (broken_zoo.contradicts:KEYMAP) is broken: importing it raised "
            "RuleError: Rename a.0 ↔ y: it claims the key 'a.0' of theirs as does Rename a.{i} ↔ x.{i}; a key can have "
            "one rule alone",
        ),
        ("zoo.build('lenet', weights='broken')", f"weights 'lenet.broken' {NUMBER} it lacks model, path or sha256"),
        ("zoo.build({'backbone': 'brk:any'})", f"provider 'brk' {NUMBER} it has no names and no component and no dist"),
    ],
)  # fmt: skip
def test_what_is_not_what_it_is_registered_as_is_named(code: str, message: str, python, fleet: Path) -> None:
    assert message in python(f"import zoo; {code}", fleet).stderr


def test_plugins_are_listed_with_their_states_before_and_after_loading(python, fleet: Path) -> None:
    code = (
        "import json, zoo.plugins\n"
        "for load in (False, True):\n"
        "    found = {p.name: (p.state, {f'{e.kind} {e.name}': e.state for e in p.entries}) "
        "for p in zoo.plugins.plugins(load=load)}\n    print(json.dumps(found))"
    )
    lines = [line for line in output(python(code, fleet, ZOO_PLUGINS="-twin-two")) if line.startswith("{")]
    before, after = (json.loads(line) for line in lines)
    assert before["acme-zoo"][0] == "not loaded"
    assert before["broken-zoo"][1]["backbone malformed"] == "broken"
    assert before["broken-zoo"][1]["backbone exits"] == "not loaded"
    assert before["impostor-zoo"] == ["shadowed", {"model LeNet": "shadowed", "backbone lenet": "shadowed"}]
    assert before["future-zoo"] == ["blocked", {"backbone hologram": "blocked"}]
    assert before["twin-two"][0] == "blocked"
    assert before["twin-one"][0] == "not loaded"
    assert set(after["zoo-torch"][1].values()) == {"ok"}
    assert after["zoo-torch"][0] == after["twin-one"][0] == "ok"
    assert {name for name, state in after["broken-zoo"][1].items() if state == "broken"} >= {
        f"backbone {name}" for name in BROKEN
    }


def test_unreadable_metadata_spoils_only_its_own_distribution(python, tmp_path: Path) -> None:
    target = pip_install(tmp_path / "site", PLUGINS / "acme-zoo", PLUGINS / "twin-one", PLUGINS / "twin-two")
    (target / "twin_one-1.0.dist-info" / "entry_points.txt").write_bytes(b"[zoo.backbones]\n\xff\xfe = twin_one:Twin\n")
    (target / "twin_two-1.0.dist-info" / "METADATA").write_bytes(b"Name: \xff\xff\n")
    code = (
        "import json, zoo, zoo.plugins\n"
        "print(zoo.list_components('backbone'))\n"
        "print(json.dumps({p.name: [p.state, p.reason] for p in zoo.plugins.plugins()}))"
    )
    names, told = output(python(code, target))
    assert "'tiny'" in names
    assert "'lenet'" in names
    states = json.loads(told)
    assert states["twin-one"][0] == "broken"
    assert states["twin-one"][1].startswith("its entry points cannot be read: UnicodeDecodeError")
    assert states["twin-two"][0] == "broken"
    assert states["twin-two"][1].startswith("its metadata cannot be read: ")
    assert states["acme-zoo"] == ["not loaded", ""]


# Whose name it is.


def test_two_plugins_of_one_name_are_ambiguous_until_one_is_picked(python, fleet: Path) -> None:
    code = (
        "import zoo, zoo.plugins\nfrom zoo.errors import AmbiguousNameError\nfrom zoo.kinds import backbones\n"
        "try:\n    backbones.get('twin')\nexcept AmbiguousNameError as error:\n"
        "    print(error); print([e.provider for e in error.candidates])\n"
        "print(zoo.build({'backbone': 'Twin_Two:twin'}).spec['backbone']['type'])\n"
        "print(zoo.build({'backbone': 'twin-one:twin'}).features[0].name)\n"
        "(told,) = zoo.plugins.explain('twin'); print(told.chosen, told.why)"
    )
    message, candidates, two, one, why = output(python(code, fleet))
    assert message == (
        "backbone 'twin' is ambiguous: twin-one 1.0 (twin_one:Twin) and twin-two 1.0 (twin_two:Twin) offer it; ask for "
        "'twin-one:twin' or 'twin-two:twin'"
    )
    assert candidates == "['twin-one', 'twin-two']"
    assert (two, one) == ("twin-two:twin", "twin-one")
    assert why == "None several distributions offer it, and none comes first; ask for twin-one:twin or twin-two:twin"


def test_the_order_does_not_depend_on_the_hash_seed(python, fleet: Path) -> None:
    told = {python(LIST, fleet, PYTHONHASHSEED=seed).stdout for seed in ("0", "1", "7")}
    assert len(told) == 1


def test_a_builtin_is_never_shadowed(python, fleet: Path) -> None:
    code = (
        "import zoo, zoo.plugins; print(zoo.build('lenet').lock, zoo.build('LeNet').spec['backbone']['type'])\n"
        "print([(t.kind, t.chosen, t.why) for t in zoo.plugins.explain('lenet')])"
    )
    built, why = output(python(code, fleet))
    assert built == "{'zoo-torch': '0.1.0'} lenet"
    assert why == str(
        [
            ("model", "zoo-torch:lenet", "zoo's own names are never shadowed"),
            ("backbone", "zoo-torch:lenet", "zoo's own names are never shadowed"),
        ]
    )


def test_a_plugin_of_a_newer_contract_is_blocked_with_the_reason(python, fleet: Path) -> None:
    done = python("import zoo; zoo.build({'backbone': 'hologram'})", fleet)
    assert "unknown backbone 'hologram'; registered: " in done.stderr
    assert (
        "future-zoo 9.0 offers it, but it was written for contract 2, this is contract 1: it needs a newer version of "
        "the application" in done.stderr
    )


def test_the_filter_hides_a_provider_but_never_the_builtins(python, fleet: Path) -> None:
    assert "acme-zoo:tiny" in listed(python, fleet)
    for text in ("none", "-acme-zoo", "other"):
        names = listed(python, fleet, ZOO_PLUGINS=text)
        assert not [name for name in names if name.startswith("acme")]
        assert "zoo-torch:lenet" in names
    done = python("import zoo; zoo.build({'backbone': 'tiny'})", fleet, ZOO_PLUGINS="none")
    assert "acme-zoo 0.3 offers it, but it is blocked by ZOO_PLUGINS=none" in done.stderr


def test_a_stale_copy_of_the_metadata_is_no_conflict(python, tmp_path: Path) -> None:
    target = pip_install(tmp_path / "site", PLUGINS / "acme-zoo")
    shutil.copytree(target / "acme_zoo-0.3.dist-info", stale := tmp_path / "stale" / "acme_zoo-0.2.dist-info")
    metadata = stale / "METADATA"
    metadata.write_text(metadata.read_text().replace("Version: 0.3", "Version: 0.2"))
    names = listed(python, target, tmp_path / "stale")
    assert names["acme-zoo:tiny"] == "0.3"
    code = "from zoo.kinds import backbones; print(backbones.find('tiny').version)"
    assert output(python(code, tmp_path / "stale", target)) == ["0.2"]  # the first on the path, as for imports


# Locks.


@pytest.mark.parametrize("suffix", ["pt", "safetensors", "onnx"])
def test_a_file_that_needs_a_plugin_says_what_to_install(suffix: str, python, fleet: Path, tmp_path: Path) -> None:
    file = tmp_path / f"acme.{suffix}"
    output(python(f"import zoo; zoo.save(zoo.build('acme-net'), {str(file)!r})", fleet))
    done = python(f"import zoo; zoo.load({str(file)!r})")
    assert (
        f"zoo.errors.MissingProviderError: {file}: needs what is not installed here: pip install acme-zoo==0.3 "
        "(backbone 'tiny')"
    ) in done.stderr


def test_another_version_of_a_plugin_is_a_warning(python, tmp_path: Path) -> None:
    target, file = pip_install(tmp_path / "site", PLUGINS / "acme-zoo"), tmp_path / "x.safetensors"
    output(python(f"import zoo; zoo.save(zoo.build('acme-net'), {str(file)!r})", target))
    metadata = target / "acme_zoo-0.3.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("Version: 0.3", "Version: 0.4"))
    done = python(f"import zoo; print(zoo.load({str(file)!r}).lock['acme-zoo'])", target)
    assert output(done) == ["0.4"]
    assert (
        f"LockWarning: {file}: acme-zoo was 0.3, here is 0.4; if it behaves differently: pip install acme-zoo==0.3"
    ) in done.stderr


def test_a_component_registered_by_hand_is_said_to_be_so(python, fleet: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    code = (
        "import zoo; from zoo.kinds import backbones; from twin_one import Twin; backbones.register('mine', Twin);"
        f"m = zoo.build({{'backbone': 'mine'}}); print(m.lock); zoo.save(m, {str(file)!r})"
    )
    assert output(python(code, fleet)) == ["{'local': '', 'zoo-torch': '0.1.0'}"]
    done = python(f"import zoo; zoo.load({str(file)!r})")
    assert "register it here too, as the program that saved the file did (backbone 'mine')" in done.stderr


def test_a_buffer_outside_the_state_dict_is_computed_on_loading(python, fleet: Path, tmp_path: Path) -> None:
    file = tmp_path / "acme.safetensors"
    code = (
        f"import zoo, torch; m = zoo.build('acme-net').eval(); zoo.save(m, {str(file)!r}); n = zoo.load({str(file)!r});"
        "x = torch.randn(2, 1, 32, 32); print(torch.equal(m(x), n(x)), n.backbone.scale.tolist() == "
        "m.backbone.scale.tolist(), n.backbone.scale.device)"
    )
    assert output(python(code, fleet)) == ["True True cpu"]


# Threads.


def test_many_threads_import_a_plugin_once_without_deadlock(python, tmp_path: Path) -> None:
    package = tmp_path / "slow_zoo"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for name, other in (("a", "b"), ("b", "a")):
        (package / f"{name}.py").write_text(
            "import sys, time\nsys.stdout.write('imported\\n')\ntime.sleep(0.3)\n"
            "from zoo.kinds import models\nassert 'lenet' in models\n"
            f"models.get('slow-{other}-plain')\nNET = {{'backbone': {{'type': 'lenet'}}}}\n"
        )
        (package / f"{name}_plain.py").write_text("NET = {'backbone': {'type': 'lenet'}}\n")
    info = tmp_path / "slow_zoo-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-zoo\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[zoo.models]\n"
        + "".join(f"slow-{n} = slow_zoo.{n}:NET\nslow-{n}-plain = slow_zoo.{n}_plain:NET\n" for n in "ab")
    )
    code = (
        "import threading; from zoo.kinds import models\n"
        "barrier = threading.Barrier(24); found = []\n"
        "def ask(name):\n    barrier.wait(); found.append(id(models.get(name)))\n"
        "threads = [threading.Thread(target=ask, args=(f'slow-{\"ab\"[i % 2]}',)) for i in range(24)]\n"
        "for t in threads: t.start()\n"
        "for t in threads: t.join(60)\n"
        "print(len(found), len(set(found)))"
    )
    assert output(python(code, tmp_path)) == ["imported", "imported", "24 2"]
