"""Errors about weights files and the tensors in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike, fspath

from registry.errors import ZooError
from zoo.messages import printable, some


class WeightsError(ZooError):
    """Root of the errors about weights files.

    Attributes:
        path: the file; empty for tensors that come from none.
    """

    def __init__(self, path: str | PathLike[str], message: str) -> None:
        self.path = fspath(path)
        shown = printable(message)
        super().__init__(f"{self.path}: {shown}" if self.path else shown)


class FileFormatError(WeightsError):
    """A file is not what its name says, is damaged, or ends too early.

    Attributes:
        reason: what was found and what was expected.
    """

    def __init__(self, path: str | PathLike[str], reason: str) -> None:
        self.reason = reason
        super().__init__(path, reason)


class FingerprintError(WeightsError):
    """The tensors in a file are not those that its fingerprint, or yours, was made of.

    Attributes:
        expected: the fingerprint that they should have; None if there is none to check.
        found: the fingerprint that they have.
    """

    def __init__(self, path: str | PathLike[str], expected: str | None, found: str) -> None:
        self.expected = expected
        self.found = found
        if expected is None:
            super().__init__(path, f"carries no fingerprint to verify; if you trust it as it is: verify={found!r}")
        else:
            super().__init__(path, f"its tensors were changed: their fingerprint is {found}; expected {expected}")


class UnsafeFileError(WeightsError):
    """A pickle holds more than tensors; nothing of it was run.

    Attributes:
        reason: what it asked for.
    """

    def __init__(self, path: str | PathLike[str], reason: str) -> None:
        self.reason = reason
        super().__init__(path, f"refused, and nothing in it was run: {reason}")


class RunawayGraphError(WeightsError):
    """An ONNX file made onnxruntime crash, or take far more than its model can need; a process of its own was ended.

    Attributes:
        reason: what onnxruntime did.
        by: what ran it, if that was not onnxruntime.
    """

    def __init__(self, path: str | PathLike[str], reason: str, by: str = "onnxruntime") -> None:
        self.reason = reason
        self.by = by
        super().__init__(
            path,
            f"{by} {reason}; it ran in a process of its own, and nothing else was harmed. Unless you know who "
            "wrote this file, run it nowhere else; its tensors can be read without it: zoo.load, zoo convert",
        )


class StalePairError(WeightsError):
    """A graph and the safetensors file that holds its weights were not written together.

    Attributes:
        weights: the safetensors file.
        expected: the fingerprint of the tensors that the graph was written for.
        found: the fingerprint that the safetensors file says it has.
    """

    def __init__(self, path: str | PathLike[str], weights: str | PathLike[str], expected: str, found: str) -> None:
        self.weights = fspath(weights)
        self.expected = expected
        self.found = found
        super().__init__(
            path,
            f"is older than its weights: {self.weights} was replaced and this graph was not (it holds {found}; the "
            f"graph was written for {expected}). Save both again, zoo.save(model, {fspath(path)!r}, "
            f"weights={self.weights!r}), or put the former weights back; the new ones alone are in "
            f"zoo.load({self.weights!r})",
        )


class NotInvertibleError(WeightsError):
    """An ONNX file holds a graph that was folded for inference: its numbers are no longer those of a model."""

    def __init__(self, path: str | PathLike[str]) -> None:
        super().__init__(
            path, "is an inference graph, folded; no model comes back from it; load the file it was made from"
        )


class MissingSpecError(WeightsError):
    """A file holds tensors but does not say of which model."""

    def __init__(self, path: str | PathLike[str], reason: str = "carries no spec") -> None:
        remedy = "say what it holds: spec='resnet18', a spec dict or a spec file (--spec)"
        super().__init__(path, f"{reason}; {remedy}; zoo identify {path} tells what it can be of")


class MissingProviderError(WeightsError):
    """An artifact needs a component whose distribution is not installed here.

    Attributes:
        requirements: what to install, ``("acme-zoo==0.3",)``; empty if the component was registered by hand.
        reason: the names that could not be found.
    """

    def __init__(self, path: str | PathLike[str], requirements: Sequence[str], reason: str) -> None:
        self.requirements = tuple(requirements)
        self.reason = reason
        install = f"pip install {' '.join(self.requirements)}"
        remedy = install if requirements else "register it here too, as the program that saved the file did"
        super().__init__(path, f"needs what is not installed here: {remedy} ({reason})")


class TensorMismatchError(WeightsError):
    """The tensors of a file and of a model do not correspond; the model was not touched.

    Attributes:
        missing: names that the model has and the file lacks.
        unexpected: names that the file has and the model lacks.
        different: names whose shapes differ, with both, as text.
        remedy: what to do, or empty.
        fresh: the parts without which they would; empty if there are no such.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        missing: Sequence[str],
        unexpected: Sequence[str],
        different: Sequence[str],
        remedy: str = "",
        fresh: Sequence[str] = (),
    ) -> None:
        self.missing = tuple(missing)
        self.unexpected = tuple(unexpected)
        self.different = tuple(different)
        self.remedy = remedy
        self.fresh = tuple(fresh)
        named = (("missing", self.missing), ("unexpected", self.unexpected), ("different", self.different))
        facts = [f"{len(names)} {what} ({some(names)})" for what, names in named if names]
        facts += [remedy] if remedy else []
        super().__init__(path, f"its tensors do not fit the model: {'; '.join(facts)}")

    def advising(self, remedy: str, fresh: Sequence[str] = ()) -> TensorMismatchError:
        """Return the same error with another remedy."""
        fresh = fresh or self.fresh
        return TensorMismatchError(self.path, self.missing, self.unexpected, self.different, remedy, fresh)


class PatternError(WeightsError):
    """A pattern that was to allow something fits nothing.

    Attributes:
        parameter: which parameter it was given for, ``"allow_missing"``.
        pattern: the pattern.
        nearest: names that look like it, the best first.
    """

    def __init__(
        self, path: str | PathLike[str], parameter: str, pattern: str, among: str, nearest: Sequence[str]
    ) -> None:
        self.parameter = parameter
        self.pattern = pattern
        self.nearest = tuple(nearest)
        guess = f" (did you mean {' or '.join(self.nearest)}?)" if self.nearest else ""
        super().__init__(path, f"{parameter}: the pattern {pattern!r} fits no {among}{guess}")


class LossyCastError(WeightsError):
    """Another dtype would lose values that matter.

    Attributes:
        dtype: the dtype that was asked for, ``"float16"``; of several, all of them.
        overflow: for each tensor that has some, how many values are too large for it.
        underflow: for each tensor where they are too many, how many values that are not zero become zero.
    """

    def __init__(
        self, path: str | PathLike[str], dtype: str, overflow: Mapping[str, int], underflow: Mapping[str, int]
    ) -> None:
        self.dtype = dtype
        self.overflow = dict(overflow)
        self.underflow = dict(underflow)
        kinds = (("are too large for it", self.overflow), ("become zero", self.underflow))
        facts = [
            f"{sum(counts.values()):,} values {what} ({some([f'{name} {n:,}' for name, n in counts.items()])})"
            for what, counts in kinds
            if counts
        ]
        super().__init__(
            path,
            f"casting to {dtype} loses values: {'; '.join(facts)}; choose a dtype of wider range, or allow_lossy=True",
        )
