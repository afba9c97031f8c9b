"""hostile-parameters: whatever a spec from a stranger says, it builds or is refused with reason."""

from __future__ import annotations

from zoo import kinds
from zoo.builder import compose
from zoo.errors import PartError, ZooError
from zoo.testing.report import fail
from zoo.testing.subject import Subject

VALUES: tuple[object, ...] = (None, True, -1, 0, 1e999, "3", "", "../x", [], [[]], [0], {}, {"a": 1}, {"type": 1})
"""Values that no parameter expects; a parameter may take some of them, and refuses the others with a ZooError."""


def hostile_parameters(subject: Subject) -> None:
    """Values of every wrong type and size, for each parameter, give a ZooError or a model."""
    part = subject.spec[subject.kind]
    component = kinds.COMPONENTS[subject.kind].get(subject.name)
    for parameter in kinds.signature_of(component).parameters:
        for value in VALUES:
            try:
                compose({**subject.spec, subject.kind: {**part, parameter.name: value}}, "meta")
            except PartError as error:  # the builder wraps whatever a component raises, for want of anything better
                cause = error.__cause__
                if cause is None:
                    continue
                fail(
                    f"{parameter.name}={value!r} raises {type(cause).__name__}: {cause}; narrow its type hint "
                    "(pydantic.PositiveInt, Literal …) or raise zoo.errors.ShapeError"
                )
            except ZooError:
                continue
