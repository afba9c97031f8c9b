"""The public names, and that importing zoo or registry, or listing, imports no torch."""

from __future__ import annotations

import pytest

import zoo

HEAVY = ("torch", "torchvision", "timm", "onnx", "onnxruntime", "safetensors", "numpy", "PIL", "pydantic", "rich")


def heavy_imports(python, code: str) -> set[str]:
    """Run code in a fresh interpreter and return which heavy packages it imported."""
    done = python(f"import sys\n{code}\nprint('imported', *[m for m in {HEAVY!r} if m in sys.modules])")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize(
    "code",
    [
        "import zoo",
        "import registry",
        "import zoo; zoo.list_models('res*'); zoo.list_components('head'); zoo.list_weights(); dir(zoo)",
        "from zoo.cli import main; main(['list'], standalone_mode=False)",
        "from zoo.cli import main; main(['list', 'models', 'res*', '--json'], standalone_mode=False)",
        "from zoo.cli import main; main(['--help'], standalone_mode=False)",
        "from zoo.cli import main; main(['predict', '--help'], standalone_mode=False)",
    ],
)
def test_importing_and_listing_import_nothing_heavy(python, code: str) -> None:
    assert heavy_imports(python, code) == set()


def test_the_test_above_can_fail(python) -> None:
    assert "torch" in heavy_imports(python, "import zoo; zoo.build")


def test_the_public_surface_is_this_list() -> None:
    assert zoo.__all__ == [
        "__version__", "Feature", "Model", "Preprocessing", "Record", "ZooError", "build", "convert", "describe",
        "extract", "fingerprint", "identify", "inspect", "list_components", "list_models", "list_weights", "load",
        "load_into", "normalise", "plan", "plan_load", "predict", "save", "schema", "verify",
    ]  # fmt: skip
    assert all(getattr(zoo, name) is not None for name in zoo.__all__)
    assert set(zoo.__all__) <= set(dir(zoo))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'zoo' has no attribute 'biuld'"):
        _ = zoo.biuld
