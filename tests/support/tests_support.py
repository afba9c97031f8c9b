"""Installing and removing real distributions, from tests and from the processes that they start."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

PLUGINS = Path(__file__).parents[1] / "plugin"
"""The folder of the test distributions."""


def pip_install(target: Path, *projects: Path) -> Path:
    """Install distributions for real, without the network, into a folder; return it."""
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps",
         "--no-build-isolation", "--target", str(target), *map(str, projects)],
        check=True,
    )  # fmt: skip
    return target


def uninstall(target: Path, package: str) -> None:
    """Remove a distribution from such a folder, as pip would: its package and its metadata."""
    shutil.rmtree(target / package)
    for folder in target.glob(f"{package}-*.dist-info"):
        shutil.rmtree(folder)
