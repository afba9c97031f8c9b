"""hostile-parameters: whatever a spec from a stranger says, it builds or is refused with an error of ours."""

from __future__ import annotations

from zoo import kinds
from zoo.builder import compose
from zoo.errors import ZooError
from zoo.testing.report import fail
from zoo.testing.subject import Subject

VALUES: tuple[object, ...] = (None, True, -1, 0, 1e999, "3", "", "../x", [], [[]], [0], {}, {"a": 1}, {"type": 1})
"""Values that no parameter expects; a parameter may take some of them, and refuses the others with a ZooError."""


def hostile_parameters(subject: Subject) -> None:
    """Values of every wrong type and size, for each parameter, give a ZooError or a model; so does an unknown name."""
    part = subject.spec[subject.kind]
    component = kinds.COMPONENTS[subject.kind].get(subject.name)
    for parameter in kinds.signature_of(component).parameters:
        for value in VALUES:
            try:
                compose({**subject.spec, subject.kind: {**part, parameter.name: value}}, "meta")
            except ZooError:
                continue
            except Exception as error:  # noqa: BLE001, RUF100 - any other kind of error is what this looks for
                fail(
                    f"{parameter.name}={value!r} raises {type(error).__name__}: {error}; narrow its type hint "
                    "(pydantic.PositiveInt, Literal …) or raise zoo.errors.ShapeError"
                )
