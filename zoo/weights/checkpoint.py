"""Checkpoint: the tensors of a model and what a file says about them, whatever the format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from annotated_types import Len
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from zoo.errors import FileFormatError, ZooError
from zoo.features import AXES
from zoo.record import Record
from zoo.weights.fingerprint import fingerprint_of
from zoo.weights.migration.report import Unwrapping
from zoo.weights.strictjson import strict_json

if TYPE_CHECKING:
    from os import PathLike

    from zoo.model import Model

METADATA_KEY = "zoo"
"""Where each format keeps the JSON of an :class:`Artifact`."""


# What pip could be told to install goes into messages: nothing else may stand there.
_ProjectName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", max_length=200)]
_Version = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.!+_-]*$", max_length=100)]

_MAX_LOCK = 100  # looking for what is installed takes time for each
_MAX_SPEC = 10_000
_MAX_DEPTH = 50


class Port(BaseModel):
    """One input or output of a model: its name and shape, with names for the axes that may vary."""

    model_config = ConfigDict(frozen=True)

    name: str
    shape: tuple[int | str, ...]


class CastRecord(BaseModel):
    """One change of precision that weights went through.

    Attributes:
        source: the dtype before, ``"float32"``.
        target: the dtype after.
        tensors: how many tensors it changed.
        overflowed: how many of their values were too large for it.
        underflowed: how many of their values that were not zero became zero.
        fingerprint: of all tensors as they were before.
    """

    model_config = ConfigDict(frozen=True)

    source: str
    target: str
    tensors: int
    overflowed: int
    underflowed: int
    fingerprint: str


class Artifact(BaseModel):
    """What a file says about its tensors, so that it can rebuild the model alone.

    Attributes:
        zoo: version of this record itself.
        spec: the normalised spec.
        lock: the version of each distribution that provided a part.
        aliases: for each name of a tied tensor but the first, the first.
        inputs: what the model takes.
        outputs: what it returns.
        record: what the weights were trained on, if it is known.
        fingerprint: of all tensors, as :func:`zoo.fingerprint` gives it.
        casts: each change of precision since the model was trained, the oldest first, as far as it is known.
    """

    model_config = ConfigDict(frozen=True)

    zoo: Literal[1] = 1
    spec: dict[str, Any]
    lock: Annotated[dict[_ProjectName, _Version], Len(max_length=_MAX_LOCK)]
    aliases: dict[str, str] = {}
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    record: Record | None = None
    fingerprint: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9:._-]+$", max_length=200)] | None = None
    casts: tuple[CastRecord, ...] = ()

    def dump(self) -> str:
        """Return the JSON of this record; the same record gives the same text."""
        return self.model_dump_json(exclude_none=False)

    @classmethod
    def parse(cls, text: Any, path: str | PathLike[str]) -> Artifact:
        """Read the JSON of a record.

        Args:
            text: the JSON, as text or as its bytes; anything else is an error of the file.
            path: how the file is called in errors.

        Raises:
            FileFormatError: it is not one; ``path`` is named.
        """
        if not isinstance(text, str | bytes):
            raise FileFormatError(path, f"its description is damaged: it is {type(text).__name__}, not text")
        try:
            # pydantic's own parser takes a key twice, NaN and any amount of memory
            told = strict_json(text if isinstance(text, bytes) else text.encode())
            _refuse_huge_spec(told)
            return cls.model_validate(told)
        except UnicodeEncodeError:
            raise FileFormatError(path, "its description is damaged: JSON: it is not Unicode text") from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise FileFormatError(path, f"its description is damaged: {where or 'JSON'}: {first['msg']}") from error
        except ValueError as error:
            raise FileFormatError(path, f"its description is damaged: JSON: {error}") from None


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a model and what a file says about them.

    Attributes:
        tensors: every tensor of ``state_dict()`` by name, those tied to another left out.
        aliases: for each name left out, the name under which the tensor is.
        artifact: what the file says; None for a file from elsewhere.
        order: all names in the order of ``state_dict()``, where it is known; a file may have another one.
        unwrapping: where in the file the tensors were, if it holds more.
    """

    tensors: Mapping[str, torch.Tensor]
    aliases: Mapping[str, str] = field(default_factory=dict)
    artifact: Artifact | None = None
    order: Sequence[str] = ()
    unwrapping: Unwrapping | None = None

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return all tensors by name; tied ones are the same object."""
        names = self.order or (*self.tensors, *self.aliases)
        held = dict(self.tensors)  # each asked for once: a mapping may make a tensor only then
        return {name: held[self.aliases.get(name, name)] for name in names}

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the tensors as they are; every byte is read."""
        return fingerprint_of(self.tensors, self.aliases)

    def sealed(self) -> Checkpoint:
        """Return the same checkpoint, its artifact with the fingerprint of the tensors."""
        if self.artifact is None:
            return self
        return replace(self, artifact=self.artifact.model_copy(update={"fingerprint": self.fingerprint}))

    @classmethod
    def of(cls, model: Model) -> Checkpoint:
        """Return the checkpoint of a model: its tensors, detached, and its description.

        Raises:
            ZooError: ``state_dict()`` holds something that is no tensor, or a tensor on the meta device.
        """
        state = model.state_dict(keep_vars=True)
        for name, tensor in state.items():
            if not isinstance(tensor, torch.Tensor):
                raise ZooError(
                    f"state_dict() has {name!r} of type {type(tensor).__name__!r}; only tensors can be saved"
                )
            if tensor.is_meta:
                raise ZooError(
                    f"{name!r} is on the meta device and has no values to save; build the model on a real device"
                )
        aliases = tied(state)
        tensors = {name: tensor.detach() for name, tensor in state.items() if name not in aliases}
        artifact = Artifact(
            spec=model.spec,
            lock=model.lock,
            aliases=aliases,
            inputs=(input_port(model),),
            outputs=output_ports(model),
            record=model.record,
        )
        return cls(tensors, aliases, artifact, order=tuple(state))


def input_port(model: Model) -> Port:
    """Describe what a model takes."""
    source = model.spec["input"]
    return Port(
        name="image", shape=("batch", source["channels"], *(source["size"] or AXES[getattr(model.backbone, "dims", 2)]))
    )


def output_ports(model: Model) -> tuple[Port, ...]:
    """Describe what a model returns: what its head says or, without one, its features."""
    source = model.spec["input"]
    head = model.spec["head"]
    if head is not None:
        told = getattr(model.head, "outputs", None)
        if told is None:
            told = {"logits": (head["num_classes"],) if "num_classes" in head else ()}
        size = source["size"] or ()
        sizes = dict(zip(AXES.get(len(size), ()), size, strict=False))
        return tuple(
            Port(name=name or "logits", shape=("batch", *(sizes.get(n, n) for n in shape)))
            for name, shape in told.items()
        )
    return tuple(
        Port(name=f.name, shape=("batch", f.channels, *(AXES[f.dims] if f.size is None else f.size)))
        for f in model.features
    )


def tied(state: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Return, for each name of a tensor that has an earlier name, the first one.

    Args:
        state: tensors as they are in the model: ``state_dict(keep_vars=True)``; detached copies have lost their
            identity.
    """
    firsts: dict[int, str] = {}
    return {name: firsts[id(t)] for name, t in state.items() if firsts.setdefault(id(t), name) != name}


def _refuse_huge_spec(told: Any) -> None:
    """Refuse a spec that no model needs before anything walks through it by recursion or compares its names.

    Raises:
        ValueError: it holds too many values or is nested too deeply.
    """
    level = [told.get("spec")] if isinstance(told, dict) else []
    count = 0
    for _ in range(_MAX_DEPTH):
        count += len(level)
        if not level:
            return
        if count > _MAX_SPEC:
            raise ValueError(f"its spec holds more than {_MAX_SPEC} values, which no model needs")
        level = [
            part
            for each in level
            if isinstance(each, dict | list)
            for part in (each.values() if isinstance(each, dict) else each)
        ]
    raise ValueError(f"its spec is nested more than {_MAX_DEPTH} deep, which no model needs")
