"""The checks that zoo's own components and formats pass, for authors to run on theirs; nothing here needs pytest.

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
    "component_cases",
]
