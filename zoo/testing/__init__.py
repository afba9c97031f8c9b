"""The checks that zoo's own components, formats and keymaps pass, for authors to run on theirs; no pytest needed.

>>> from zoo import testing
>>> print(testing.cases("zoo-torch")[0])
backbone:lenet-builds
"""

from zoo.testing.report import Report, Result
from zoo.testing.suite import (
    Case,
    cases,
    check,
    check_component,
    check_distribution,
    check_format,
    check_keymap,
    component_cases,
)

__all__ = [
    "Case",
    "Report",
    "Result",
    "cases",
    "check",
    "check_component",
    "check_distribution",
    "check_format",
    "check_keymap",
    "component_cases",
]
