"""Suite: one case for each check of each thing to be checked, and the reports of running them."""

from __future__ import annotations

import unittest
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from registry import AmbiguousNameError, Entry, RegistryError, Renamed, UnknownNameError, canonical, nearest
from registry.names import canonical_provider
from zoo import kinds
from zoo.errors import CheckError, ZooError
from zoo.spec import Source, Spec
from zoo.testing.checks import COMPONENT_CHECKS
from zoo.testing.formats import FORMAT_CHECKS
from zoo.testing.isolation import undisturbed
from zoo.testing.keymaps import KEYMAP_CHECKS, KeymapSubject
from zoo.testing.models import MODEL_CHECKS
from zoo.testing.report import Fault, Report, Result, Skip, error_text
from zoo.testing.subject import place, subject_text

CHECKED = {**kinds.COMPONENTS, "model": kinds.models, "format": kinds.formats, "keymap": kinds.keymaps}
"""The registry of each kind that there are checks for."""

_CHECKS: Mapping[str, Mapping[str, Any]] = {
    **dict.fromkeys(kinds.COMPONENTS, COMPONENT_CHECKS),
    "model": MODEL_CHECKS,
    "format": FORMAT_CHECKS,
    "keymap": KEYMAP_CHECKS,
}


@dataclass(frozen=True)
class Case:
    """One check of one component, named model, format or keymap.

    Attributes:
        kind: ``"backbone"``, ``"neck"``, ``"bottleneck"``, ``"head"``, ``"model"``, ``"format"`` or ``"keymap"``.
        name: its name in the registry.
        check: the name of the check.
        parameters: what the spec states of a component; of a keymap the ``spec`` to check it on.
        expected_failure: why the check is expected to fail; empty if it is not.
        around: the other parts of the spec, where none of ours would do.
        sizes: the input sizes to try, where none of ours would do.
        dims: spatial axes of the input, 1 to 3; None for the first of 2, 1 and 3 with which the component fits.
        label: what tells several sets of parameters apart in :meth:`__str__`.
        theirs: of a keymap, the tensors of the other library's model.
    """

    kind: str
    name: str
    check: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    expected_failure: str = ""
    around: Spec | None = None
    sizes: Sequence[Sequence[int]] | None = None
    dims: int | None = None
    label: str = ""
    theirs: Mapping[str, Tensor] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}{self.label}-{self.check}"

    def result(self) -> Result:
        """Run the check; the caller's random numbers, defaults and modes of torch are as before."""
        subject = subject_text(self.kind, self.name, self.parameters)
        with undisturbed():
            try:
                self._look()
            except Skip as found:
                return Result(subject, self.check, "skip", str(found))
            except Fault as found:
                why = str(found)
            except Exception as error:  # noqa: BLE001, RUF100 - what is checked may raise anything at all
                why = str(error) if isinstance(error, ZooError) else f"it raises {error_text(error)}"
            else:
                why = ""
        if why and self.expected_failure:
            return Result(subject, self.check, "expected-failure", f"{self.expected_failure} ({why})")
        if self.expected_failure:
            why = f"expected to fail ({self.expected_failure}) but passes; take it off the list"
        return Result(subject, self.check, "fail" if why else "pass", why)

    def run(self) -> None:
        """Run the check as a test.

        Raises:
            CheckError: it fails.
            unittest.SkipTest: it does not apply, which pytest counts as skipped, or it fails as expected.
        """
        result = self.result()
        if result.outcome == "fail":
            raise CheckError([result])
        if result.outcome != "pass":
            raise unittest.SkipTest(f"{result.outcome}: {result.why}")

    def _look(self) -> None:
        check = _CHECKS[self.kind][self.check]
        new_name = _new_name(self.kind, self.name)
        if new_name:
            raise Skip(f"it is an old name of {new_name!r}")
        if self.kind == "keymap":
            check(KeymapSubject(self.name, self.parameters.get("spec"), self.theirs))
            return
        if self.kind not in kinds.COMPONENTS:
            check(self.name)
            return
        try:
            subject = place(self.kind, self.name, self.parameters, self.around, self.sizes, self.dims)
        except Exception:
            if self.check != "builds":
                raise Skip("it does not build") from None
            raise
        check(subject)


def component_cases(
    kind: str,
    name: str,
    *,
    parameters: Iterable[Mapping[str, Any]] = ({},),
    expected_failures: Mapping[str, str] | None = None,
    around: Spec | None = None,
    sizes: Sequence[Sequence[int]] | None = None,
    dims: int | None = None,
) -> list[Case]:
    """Return the cases of one component; the arguments are those of :func:`check_component`."""
    _require_kind(kind, kinds.COMPONENTS)
    expected = _known(expected_failures or {}, COMPONENT_CHECKS)
    variants = list(parameters)
    axes = "" if dims is None else f"-{dims}d"
    labels = [axes + (f"-{number}" if len(variants) > 1 else "") for number in range(len(variants))]
    return [
        Case(kind, name, check, variant, expected.get(check, ""), around, sizes, dims, label)
        for variant, label in zip(variants, labels, strict=True)
        for check in COMPONENT_CHECKS
    ]


def cases(
    dist: str,
    *,
    parameters: Mapping[str, Iterable[Mapping[str, Any]]] | None = None,
    expected_failures: Mapping[str, Mapping[str, str]] | None = None,
) -> list[Case]:
    """Return one case for each check of each thing that a distribution offers, to parametrise a test over.

    Args:
        dist: the distribution, ``"acme-zoo"``.
        parameters: for ``"backbone:tiny"`` the sets of parameters to check it with; one set of defaults unless given.
            For ``"keymap:acme"`` sets of a ``spec`` each, where named models do not do.
        expected_failures: for ``"backbone:tiny"`` the checks that it is known to fail, each with the reason.

    Raises:
        UnknownNameError: the distribution offers nothing that could be checked, or a key names nothing that it offers.

    A test module of a plugin::

        @pytest.mark.parametrize("case", zoo.testing.cases("acme-zoo"), ids=str)
        def test_it_keeps_the_contract(case):
            case.run()
    """
    wanted = canonical_provider(dist)
    offered = [
        e for registry in CHECKED.values() for e in registry.entries() if canonical_provider(e.provider) == wanted
    ]
    if not offered:
        providers = sorted({e.provider for registry in CHECKED.values() for e in registry.entries()})
        raise UnknownNameError("distribution with components", dist, providers, nearest(dist, providers))
    keys = {f"{e.kind}:{canonical(e.name)}" for e in offered}
    variants, expected = (_by_key(given or {}, keys) for given in (parameters, expected_failures))
    found = []
    for entry in offered:
        key = f"{entry.kind}:{canonical(entry.name)}"
        # A name of ours hides a plugin's, which is then asked for by its distribution.
        name = entry.name if _stands_for(entry) else entry.qualified_name
        found += _cases(entry.kind, name, variants.get(key, ({},)), expected.get(key, {}))
    return found


def check_component(
    kind: str,
    name: str,
    *,
    parameters: Iterable[Mapping[str, Any]] = ({},),
    expected_failures: Mapping[str, str] | None = None,
    around: Spec | None = None,
    sizes: Sequence[Sequence[int]] | None = None,
    dims: int | None = None,
) -> Report:
    """Run every check of a component.

    Args:
        kind: ``"backbone"``, ``"neck"``, ``"bottleneck"`` or ``"head"``.
        name: its name in the registry: ``"tiny"``, ``"acme-zoo:tiny"``, ``"timm:resnet18"``.
        parameters: the sets of parameters to check it with; a ``num_classes`` that it needs is filled in.
        expected_failures: the checks that it is known to fail, each with the reason; one that passes is a failure.
        around: the other parts of the spec, for a component that fits into none of the small models tried here.
        sizes: the input sizes to check it at, for a component that takes none of those tried here.
        dims: spatial axes of the input: 1 for signals, 2 for images, 3 for volumes and video; None for the first of 2,
            1 and 3 with which it fits.

    Raises:
        UnknownNameError: there is no such kind or check.

    >>> report = check_component("neck", "gap", dims=3)
    >>> report.ok, report.ran
    (True, 18)
    """
    found = component_cases(
        kind, name, parameters=parameters, expected_failures=expected_failures, around=around, sizes=sizes, dims=dims
    )
    return Report.of(case.result() for case in found)


def check_format(name: str, *, expected_failures: Mapping[str, str] | None = None) -> Report:
    """Run every check of a weights format on small models.

    Args:
        name: its file suffix without the dot.
        expected_failures: the checks that it is known to fail, each with the reason; one that passes is a failure.

    Raises:
        UnknownNameError: there is no such check.
    """
    return Report.of(case.result() for case in _cases("format", name, ({},), expected_failures or {}))


def check_keymap(
    name: str,
    spec: Source | None = None,
    theirs: nn.Module | Mapping[str, Tensor] | None = None,
    *,
    expected_failures: Mapping[str, str] | None = None,
) -> Report:
    """Run every check of a keymap.

    Args:
        name: its name in the registry.
        spec: the model of ours to check it on: a name, a spec, or a spec file. Unless given, every table is checked on
            the models that zoo and the keymap's own distribution have names for.
        theirs: the model of the other library that ``spec`` stands for, or its state dict; on the meta device will do.
            Only with it can it be found that their names are other ones than the keymap says.
        expected_failures: the checks that it is known to fail, each with the reason; one that passes is a failure.

    Raises:
        UnknownNameError: there is no such check.
        ZooError: there is a model of theirs, but no spec.

    >>> print(check_keymap("torchvision", "resnet18").summary)
    5 passed
    """
    if theirs is not None and spec is None:
        raise ZooError("theirs is given without a spec; say which model of ours it is to become: spec='resnet18'")
    state = theirs.state_dict() if isinstance(theirs, nn.Module) else theirs
    variant = {} if spec is None else {"spec": spec}
    found = _cases("keymap", name, (variant,), expected_failures or {})
    return Report.of(replace(case, theirs=state).result() for case in found)


def check_distribution(
    dist: str,
    *,
    parameters: Mapping[str, Iterable[Mapping[str, Any]]] | None = None,
    expected_failures: Mapping[str, Mapping[str, str]] | None = None,
) -> Report:
    """Run every check of every component, named model, format and keymap that a distribution offers.

    The arguments are those of :func:`cases`.

    Raises:
        UnknownNameError: the distribution offers nothing that could be checked.
    """
    found = cases(dist, parameters=parameters, expected_failures=expected_failures)
    return Report.of(case.result() for case in found)


def check(name: str) -> Report:
    """Run every check of all that is called ``name``, or of all that the distribution ``name`` offers.

    Raises:
        UnknownNameError: nothing has this name.
    """
    found = [case for kind, registry in CHECKED.items() if name in registry for case in _cases(kind, name, ({},), {})]
    if found:
        return Report.of(case.result() for case in found)
    try:
        return check_distribution(name)
    except UnknownNameError as error:
        known = sorted({entry.name for registry in CHECKED.values() for entry in registry.entries()})
        every = (*known, *error.known)
        raise UnknownNameError(
            "component, model, format, keymap or distribution", name, every, nearest(name, every)
        ) from None


def _cases(
    kind: str, name: str, parameters: Iterable[Mapping[str, Any]], expected_failures: Mapping[str, str]
) -> list[Case]:
    if kind in kinds.COMPONENTS:
        return component_cases(kind, name, parameters=parameters, expected_failures=expected_failures)
    checks = _CHECKS[kind]
    expected = _known(expected_failures, checks)
    variants = list(parameters) if kind == "keymap" else [{}]
    return [
        Case(kind, name, check, variant, expected.get(check, ""), label=f"-{number}" if len(variants) > 1 else "")
        for number, variant in enumerate(variants)
        for check in checks
    ]


def _stands_for(entry: Entry) -> bool:
    try:
        return CHECKED[entry.kind].find(entry.name) == entry
    except AmbiguousNameError:
        return False


def _new_name(kind: str, name: str) -> str:
    try:
        loaded = CHECKED[kind].load(CHECKED[kind].find(name))
    except RegistryError:
        return ""  # that it is unknown or broken is for the checks to find
    return loaded.to if isinstance(loaded, Renamed) else ""


def _require_kind(kind: str, known: Mapping[str, Any]) -> None:
    if kind not in known:
        raise UnknownNameError("kind", kind, tuple(known), nearest(kind, known))


def _known(expected: Mapping[str, str], checks: Mapping[str, Any]) -> Mapping[str, str]:
    for name in expected:
        if name not in checks:
            raise UnknownNameError("check", name, tuple(checks), nearest(name, checks))
    return expected


def _by_key(given: Mapping[str, Any], keys: set[str]) -> dict[str, Any]:
    for key in given:
        if canonical(key) not in keys:
            raise UnknownNameError("entry of this distribution", key, sorted(keys), nearest(key, keys))
    return {canonical(key): value for key, value in given.items()}
