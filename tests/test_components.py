"""Every component, named model and format that zoo ships passes the checks that plugin authors run on theirs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from variants import VARIANTS

from zoo import testing

OF_ANY_DIMENSION: dict[str, dict[str, object]] = {
    "neck:adaptive_pool": {"size": 3, "pool": "max", "flatten": True},
    "neck:aspp": {"channels": 4, "rates": [1, 2]},
    "neck:concat": {"channels": 4},
    "neck:flatten": {},
    "neck:fpn": {"channels": 4, "extra": "p6p7"},
    "neck:gap": {},
    "neck:gem": {},
    "neck:gmp": {},
    "neck:identity": {},
    "neck:pan": {"channels": 4},
    "neck:select": {"keep": ["stage1", -1]},
    "bottleneck:conv1x1": {"out_channels": 4},
    "head:deeplab": {"channels": 4, "rates": [1, 2]},
    "head:fcn": {"channels": 4},
}
"""What takes signals and volumes as it takes images, without being told so: it is checked with them too."""


KNOWN: dict[str, str] = {}
"""What is known to fail, each with the reason; it fails as a test once it passes."""


QUICK = {"builds", "features", "strides", "meta-device", "gradients", "hostile-parameters"}
"""The checks of every set of parameters; the others look at the first of each component, unless asked for."""


def cases() -> list:
    """Every check of all that zoo ships, in two dimensions, and of what takes others in those too."""

    def is_long(case: testing.Case) -> bool:
        if case.dims is not None:
            written = case.name not in {"flatten", "gap", "gmp", "identity", "select"}  # these have no weights
            return case.check not in {"features", "strides", "gradients", *(["weights-onnx"] if written else [])}
        return (case.check not in QUICK and case.label not in ("", "-0")) or case.name in ("pth", "ckpt")

    every = testing.cases("zoo-torch", parameters=VARIANTS)
    for key, parameters in OF_ANY_DIMENSION.items():
        for dims in (1, 3):
            every += testing.component_cases(*key.split(":"), parameters=[parameters], dims=dims)
    told = [replace(case, expected_failure=KNOWN.get(str(case), "")) for case in every]
    return [pytest.param(c, id=str(c), marks=[pytest.mark.slow] if is_long(c) else []) for c in told]


@pytest.mark.parametrize("case", cases())
def test_what_zoo_ships_keeps_the_contract(case: testing.Case) -> None:
    case.run()
