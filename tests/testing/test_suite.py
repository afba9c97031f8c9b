"""Cases and reports: what fails, what is expected to, and that checking nothing is a failure."""

from __future__ import annotations

import unittest
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import zoo
from zoo import kinds, testing
from zoo.errors import CheckError, FileFormatError, UnknownNameError
from zoo.testing.formats import FORMAT_CHECKS
from zoo.weights.checkpoint import Checkpoint
from zoo.weights.safetensors.format import SAFETENSORS

PASSED = testing.Result("neck gap", "builds", "pass")
FAILED = testing.Result("neck gap", "modes", "fail", "eval() leaves itself in training mode")
SKIPPED = testing.Result("neck gap", "strides", "skip", "vectors have no stride")


@pytest.mark.parametrize("results", [(), (SKIPPED,)])
def test_a_report_of_nothing_is_a_failure(results: tuple[testing.Result, ...]) -> None:
    report = testing.Report(results)
    assert not report.ok
    assert "nothing was checked, which is a failure" in str(report)
    with pytest.raises(CheckError, match="nothing was checked; name a component"):
        report.raise_for_failures()


def test_a_report_lists_each_check_with_its_outcome_and_why() -> None:
    report = testing.Report((PASSED, FAILED, SKIPPED))
    assert str(report).splitlines() == [
        "neck gap",
        "  pass      builds",
        "  FAIL      modes    eval() leaves itself in training mode",
        "  skip      strides  vectors have no stride",
        "1 passed, 1 failed, 1 skipped",
    ]
    assert report.to_json()["results"][1] == {
        "subject": "neck gap", "name": "modes", "outcome": "fail", "why": "eval() leaves itself in training mode",
    }  # fmt: skip
    with pytest.raises(CheckError, match=r"^neck gap: modes: eval\(\) leaves") as raised:
        report.raise_for_failures()
    assert raised.value.failures == (FAILED,)
    testing.Report((PASSED, SKIPPED)).raise_for_failures()


def case(check: str, **options) -> testing.Case:
    return next(c for c in testing.component_cases("neck", "gap", **options) if c.check == check)


def test_an_expected_failure_that_passes_is_a_failure() -> None:
    result = case("modes", expected_failures={"modes": "upstream bug 12"}).result()
    assert result.outcome == "fail"
    assert result.why == "expected to fail (upstream bug 12) but passes; take it off the list"


def test_an_expected_failure_is_told_with_both_reasons_and_does_not_fail_the_report() -> None:
    [result] = [
        c.result()
        for c in testing.component_cases("neck", "no_such", expected_failures={"builds": "not written yet"})
        if c.check == "builds"
    ]
    assert result.outcome == "expected-failure"
    assert result.why.startswith("not written yet (spec.neck.type: unknown neck 'no_such'")
    assert testing.Report((result,)).ok


def test_a_case_is_a_test_that_passes_fails_or_skips() -> None:
    case("modes").run()
    with pytest.raises(unittest.SkipTest, match="vectors have no stride"):
        case("strides").run()
    with pytest.raises(CheckError, match="neck gap: modes: expected to fail"):
        case("modes", expected_failures={"modes": "no"}).run()


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda: testing.cases("zoo-torhc"),
            "distribution with components 'zoo-torhc' .did you mean zoo-torch",
        ),
        (
            lambda: testing.cases("zoo-torch", parameters={"neck:flaten": [{}]}),
            "'neck:flaten' .did you mean neck:flatten",
        ),
        (lambda: testing.check_component("nek", "gap"), "unknown kind 'nek' .did you mean neck"),
        (lambda: case("modes", expected_failures={"mode": ""}), "unknown check 'mode' .did you mean modes"),
        (lambda: testing.check_format("pt", expected_failures={"tie": ""}), "unknown check 'tie' .did you mean ties"),
        (lambda: testing.check("rsnet18"), "distribution 'rsnet18' .did you mean resnet18"),
    ],
    ids=range(6),
)
def test_a_misspelt_name_is_answered_with_the_nearest(ask, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        ask()


def test_several_sets_of_parameters_are_told_apart() -> None:
    found = testing.cases("zoo-torch", parameters={"neck:adaptive-pool": [{}, {"size": 2}]})
    names = [str(c) for c in found if c.name == "adaptive_pool"]
    assert len(names) == len(set(names))
    assert {"neck:adaptive_pool-0-builds", "neck:adaptive_pool-1-builds"} <= set(names)
    assert case("modes", parameters=[{"size": 2}]).result().subject == 'neck gap {"size": 2}'


def test_other_parts_and_sizes_can_be_given() -> None:
    around = {"input": {"channels": 1, "size": [20, 20]}, "backbone": {"type": "mlp", "hidden": [4]}}
    report = testing.check_component("bottleneck", "linear", around=around, sizes=[(20, 20), (10, 30)])
    assert report.ok, report
    refused = testing.check_component("backbone", "lenet", sizes=[(8, 8)])
    assert [f.name for f in refused.failures] == ["builds"]
    assert "spec.backbone (lenet)" in refused.failures[0].why


def test_checking_needs_no_pytest_and_leaves_the_random_numbers_alone(python) -> None:
    done = python("import sys, zoo.testing; print('pytest' in sys.modules)")
    assert done.stdout == "False\n", done.stderr
    before = torch.get_rng_state()
    case("determinism").run()
    assert torch.equal(before, torch.get_rng_state())


def as_if_contiguous(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.as_strided(tensor.shape, torch.empty(tensor.shape).stride())


class Faulty:
    """A safetensors format with one fault, chosen by the class attribute."""

    fault = ""
    written = 0
    kept: Checkpoint

    def write(self, model: zoo.Model | None, checkpoint: Checkpoint, path: Path) -> None:
        tensors, artifact = dict(checkpoint.tensors), checkpoint.artifact
        if self.fault == "round-trip":
            tensors = {n: t.nan_to_num() for n, t in tensors.items()}
        if self.fault == "description":
            artifact = artifact.model_copy(update={"lock": {}})
        if self.fault == "ties":
            tensors = {n: t.clone() for n, t in checkpoint.state_dict().items()}
            artifact = artifact.model_copy(update={"aliases": {}})
        if self.fault == "dtypes":
            tensors = {n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}
        if self.fault == "strided":
            tensors = {n: as_if_contiguous(t) for n, t in tensors.items()}
        if self.fault == "repeatable":
            self.written += 1
            artifact = artifact.model_copy(update={"inputs": (), "zoo": self.written})
        if self.fault == "model-untouched":
            model.eval()
        self.kept = checkpoint
        SAFETENSORS.write(model, Checkpoint(tensors, checkpoint.aliases if artifact.aliases else {}, artifact), path)

    def read(self, path: Path, *, mapped: bool = True) -> Checkpoint:
        try:
            return SAFETENSORS.read(path)
        except FileFormatError:
            if self.fault == "damage":
                return self.kept
            raise


@pytest.fixture
def faulty() -> Iterator[None]:
    kinds.formats.register("faulty", Faulty())
    yield
    kinds.formats.unregister("faulty")


@pytest.mark.usefixtures("faulty")
@pytest.mark.parametrize("check", FORMAT_CHECKS)
def test_every_check_of_a_format_can_fail(check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Faulty, "fault", check)
    report = testing.check_format("faulty")
    assert check in [f.name for f in report.failures], report


@pytest.mark.usefixtures("faulty")
def test_a_format_without_a_fault_passes() -> None:
    assert testing.check_format("faulty").ok
