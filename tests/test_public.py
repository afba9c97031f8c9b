"""The public names, and that importing zoo or registry, or listing, imports no torch."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import zoo

DOCS = Path(__file__).parent.parent / "docs"
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


def test_what_completion_offers_is_the_surface_and_the_modules() -> None:
    offered = dir(zoo)
    assert set(zoo.__all__) <= set(offered)
    assert len(set(offered)) == len(offered)
    assert not {"Any", "TYPE_CHECKING", "import_module", "annotations", "_HOMES"} & set(offered)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'zoo' has no attribute 'biuld'"):
        _ = zoo.biuld


def test_every_public_name_stands_on_a_page() -> None:
    pages = "".join(page.read_text() for page in DOCS.rglob("*.md"))
    lacking = [name for name in zoo.__all__ if not re.search(rf"\bzoo\.{name}\b", pages)]
    assert lacking == []


def test_every_page_can_be_found_from_the_readme_and_from_the_navigation() -> None:
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert len(pages) >= 20
    readme, navigation = ((DOCS.parent / name).read_text() for name in ("README.md", "mkdocs.yml"))
    assert pages == set(re.findall(r"\(docs/([^)#]+\.md)\)", readme))
    assert pages == set(re.findall(r": (\S+\.md)$", navigation, flags=re.MULTILINE))
