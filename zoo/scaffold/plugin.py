"""new_plugin: the files of a package with one component, written where nothing is yet."""

from __future__ import annotations

import keyword
import re
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.resources import files
from os import PathLike
from pathlib import Path
from string import Template

from registry import UnknownNameError, canonical, nearest
from registry.names import canonical_provider
from zoo import kinds
from zoo.errors import ScaffoldError

_COMPONENT = re.compile(r"[A-Za-z][A-Za-z0-9]*([-_][A-Za-z0-9]+)*")
_DISTRIBUTION = re.compile(r"[A-Za-z][A-Za-z0-9]*([-_.]+[A-Za-z0-9]+)*")
_RESERVED = {"registry", "tests", "zoo"}
_EXAMPLES = {
    "backbone": '{{"backbone": "{name}", "neck": "gap", "head": {{"type": "linear", "num_classes": 10}}}}',
    "neck": '{{"backbone": "resnet_lite", "neck": "{name}"}}',
    "bottleneck": '{{"backbone": "resnet_lite", "neck": "gap", "bottleneck": "{name}"}}',
    "head": '{{"backbone": "resnet_lite", "neck": "gap", "head": {{"type": "{name}", "num_classes": 10}}}}',
}


@dataclass(frozen=True)
class _Plugin:
    """The names in a package, all derived from three.

    Attributes:
        kind: of its component.
        name: of its component, in specs.
        dist: what pip calls it.
    """

    kind: str
    name: str
    dist: str

    @property
    def module(self) -> str:
        return canonical(self.name)

    @property
    def class_name(self) -> str:
        return "".join(word[:1].upper() + word[1:] for word in re.split("[-_]", self.name))

    @property
    def dist_form(self) -> str:
        return canonical_provider(self.dist)

    @property
    def package(self) -> str:
        return self.dist_form.replace("-", "_")

    @property
    def files(self) -> dict[str, str]:
        """Path in the package → name of its template."""
        return {
            "pyproject.toml": "pyproject.toml",
            "README.md": "README.md",
            ".gitignore": "gitignore",
            f"src/{self.package}/__init__.py": "init.py",
            f"src/{self.package}/{self.module}.py": f"{self.kind}.py",
            f"tests/test_{self.module}.py": "test.py",
        }


def new_plugin(folder: str | PathLike[str], *, kind: str, name: str, dist: str | None = None) -> tuple[Path, ...]:
    """Write a package with one component that works, to start from.

    Args:
        folder: where; it must not exist, or be empty.
        kind: ``"backbone"``, ``"neck"``, ``"bottleneck"`` or ``"head"``.
        name: of the component, as specs will say it: ``"tiny"``.
        dist: of the package, as pip will say it; ``zoo-`` and the name unless given.

    Returns:
        The files that were written.

    Raises:
        UnknownNameError: there is no such kind.
        ScaffoldError: a name cannot be used, there is something in the folder, or it cannot be written.
    """
    if kind not in kinds.COMPONENTS:
        raise UnknownNameError("kind", kind, tuple(kinds.COMPONENTS), nearest(kind, kinds.COMPONENTS))
    plugin = _Plugin(kind, name, f"zoo-{canonical(name).replace('_', '-')}" if dist is None else dist)
    _check_names(plugin)
    root = Path(folder)
    if root.exists() and not root.is_dir():
        raise ScaffoldError(f"{root} is a file; name a folder that does not exist or is empty")
    try:
        if root.is_dir() and any(root.iterdir()):
            raise ScaffoldError(f"{root} is not empty, and nothing in it is overwritten; name another folder")
        return tuple(_write(root / path, _text(plugin, template)) for path, template in plugin.files.items())
    except OSError as error:
        raise ScaffoldError(f"{root} cannot be written: {error.strerror}; name a folder that can") from error


def _check_names(plugin: _Plugin) -> None:
    if not _COMPONENT.fullmatch(plugin.name):
        raise ScaffoldError(
            f"{plugin.name!r} cannot name a component; use letters and digits, joined by '-' or '_': 'tiny', 'wide-net'"
        )
    if keyword.iskeyword(plugin.module) or keyword.iskeyword(plugin.class_name):
        raise ScaffoldError(f"{plugin.name!r} is a word of Python's own; choose another name")
    registry = kinds.COMPONENTS[plugin.kind]
    if any(canonical(e.name) == plugin.module and e.provider == kinds.DISTRIBUTION for e in registry.entries()):
        raise ScaffoldError(
            f"zoo has a {plugin.kind} {plugin.name!r}, and its names are never shadowed; choose another name"
        )
    if not _DISTRIBUTION.fullmatch(plugin.dist):
        raise ScaffoldError(
            f"{plugin.dist!r} cannot name a distribution; use letters and digits, joined by '-': 'acme-zoo'"
        )
    if _is_installed(plugin.dist) and plugin.dist_form not in _plugins():
        raise ScaffoldError(
            f"{plugin.dist_form} is installed here and is no plugin of zoo; choose another distribution"
        )
    owners = [d for d in packages_distributions().get(plugin.package, ()) if canonical_provider(d) != plugin.dist_form]
    if owners or plugin.package in sys.stdlib_module_names | _RESERVED or keyword.iskeyword(plugin.package):
        whose = f"belongs to {owners[0]}" if owners else "is taken already"
        raise ScaffoldError(
            f"{plugin.dist!r} would have the package {plugin.package!r}, which {whose}; name another one"
        )


def _is_installed(dist: str) -> bool:
    try:
        return bool(version(dist))
    except PackageNotFoundError:
        return False


def _plugins() -> set[str]:
    providers = {canonical_provider(e.provider) for registry in kinds.COMPONENTS.values() for e in registry.entries()}
    return providers - {canonical_provider(kinds.DISTRIBUTION)}


def _text(plugin: _Plugin, template: str) -> str:
    source = files("zoo.scaffold").joinpath("templates", f"{template}.tmpl").read_text(encoding="utf-8")
    return Template(source).substitute(
        kind=plugin.kind,
        name=plugin.name,
        dist=plugin.dist,
        module=plugin.module,
        package=plugin.package,
        class_name=plugin.class_name,
        zoo_version=version(kinds.DISTRIBUTION),
        spec=_EXAMPLES[plugin.kind].format(name=plugin.name),
    )


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
