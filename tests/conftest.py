"""What several tests need: random weights and a fresh interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import exactness
import pytest
import torch
from tests_support import PLUGINS, pip_install
from torch import nn

from zoo import kinds


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def randomise() -> Callable[[nn.Module], nn.Module]:
    """Fill every parameter and buffer, BatchNorm statistics included, with random numbers of a sane size."""

    return exactness.randomise


def run_python(code: str, *paths: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter, with folders put before what is installed."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "ZOO_PLUGINS")}
    env = {**inherited, "PYTHONPATH": os.pathsep.join(map(str, paths)), **environment}
    return subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, env=env, timeout=300, check=False
    )


@pytest.fixture
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    return run_python


@pytest.fixture
def install() -> Callable[..., Path]:
    """Install distributions for real, without the network: ``install(target, *projects)``."""
    return pip_install


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip installed every test distribution."""
    target = tmp_path_factory.mktemp("fleet")
    return pip_install(target, *(PLUGINS / name for name in sorted(p.name for p in PLUGINS.iterdir())))


@pytest.fixture
def backbone() -> Iterator[Callable[[str, type[nn.Module]], None]]:
    """Register a backbone for the time of a test: ``backbone(name, component)``."""
    names = []

    def register(name: str, component: type[nn.Module]) -> None:
        kinds.backbones.register(name, component)
        names.append(name)

    yield register
    for name in names:
        kinds.backbones.unregister(name)
