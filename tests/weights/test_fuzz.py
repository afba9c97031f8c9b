"""Files damaged at random: each is refused, or read with the fingerprint that it has; nothing else ever happens."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fuzz
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

QUICK, LONG = 1500, 30_000
"""How many files of each format are read by default, and in the slow run."""


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[bytes]]:
    folder = tmp_path_factory.mktemp("seeds")
    return {target: fuzz.seeds(target, folder) for target in fuzz.TARGETS}


@contextmanager
def bounded(seconds: int) -> Iterator[None]:
    """End the process if something hangs: an exception could be caught by what hangs."""
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


@pytest.mark.filterwarnings("ignore::zoo.lock.LockWarning")  # damage may well change a version in the lock
@pytest.mark.filterwarnings("ignore:.*TypedStorage is deprecated")  # of torch.load, which is asked what it finds
@pytest.mark.parametrize("examples", [QUICK, pytest.param(LONG, marks=pytest.mark.slow)])
@pytest.mark.parametrize("format_", fuzz.TARGETS)
def test_a_damaged_file_is_refused_or_read_as_it_is(
    format_: str, examples: int, originals: dict[str, list[bytes]], tmp_path: Path
) -> None:
    own = originals[format_]
    others = [data for each in originals.values() for data in each]
    file, reads = fuzz.target(format_, tmp_path)
    outcomes: set[bool] = set()

    @settings(
        max_examples=examples // (5 if format_ == "graph" else 1),  # each is laid beside two models
        deadline=None,
        database=None,
        derandomize=examples == QUICK,  # the default run gives the same answer each time; the long one looks for more
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, len(own) - 1), st.integers(0, 1 << 64))
    def read(number: int, seed: int) -> None:
        file.write_bytes(fuzz.mutate(random.Random(seed), own[number], others))
        with bounded(fuzz.SECONDS):
            outcomes.add(reads(file))

    read()
    assert outcomes == {True, False}, "some of the damage should do no harm, some should"


@pytest.mark.parametrize("format_", fuzz.TARGETS)
def test_the_files_are_fine_before_they_are_damaged(
    format_: str, originals: dict[str, list[bytes]], tmp_path: Path
) -> None:
    file, reads = fuzz.target(format_, tmp_path)
    for data in originals[format_]:
        file.write_bytes(data)
        assert reads(file)


@pytest.mark.parametrize("format_", fuzz.FORMATS)
def test_a_file_that_ends_early_is_refused(format_: str, originals: dict[str, list[bytes]], tmp_path: Path) -> None:
    for data in originals[format_]:
        for end in range(0, len(data), max(1, len(data) // 100)):
            (tmp_path / f"x.{format_}").write_bytes(data[:end])
            assert not fuzz.check(tmp_path / f"x.{format_}"), f"the first {end} bytes of {len(data)} were read"


def test_a_broken_promise_is_found(originals: dict[str, list[bytes]], tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "x.pt").write_bytes(originals["pt"][1])
    monkeypatch.setattr(
        "zoo.weights.regions._private", lambda file, region, path: torch.zeros(region.shape, dtype=region.dtype)
    )
    with pytest.raises(fuzz.BrokenPromiseError, match=r"mapped it is sha256:[0-9a-f]{64}, read sha256:"):
        fuzz.check(tmp_path / "x.pt")
    monkeypatch.setattr("zoo.weights.pt.format.read_regions", None)
    with pytest.raises(fuzz.BrokenPromiseError, match="nobody foresaw cannot be read: TypeError"):
        fuzz.check(tmp_path / "x.pt")
