"""Every error that zoo raises on purpose: one tree below ZooError, each with its facts as attributes."""

from __future__ import annotations

from registry.errors import (
    AmbiguousNameError,
    BrokenEntryError,
    NameTakenError,
    RegistryError,
    SignatureError,
    UnknownNameError,
    ZooError,
)
from zoo.errors.composition import PartError, ShapeError, SizeBudgetError, SpecError, SpecFileError
from zoo.errors.migration import AlignmentError, KeymapError, RuleError, SeveralFitsError, SeveralWeightsError
from zoo.errors.tools import CheckError, ImageError, RecordError, ScaffoldError
from zoo.errors.weights import (
    FileFormatError,
    FingerprintError,
    LossyCastError,
    MissingProviderError,
    MissingSpecError,
    NotInvertibleError,
    PatternError,
    RunawayGraphError,
    StalePairError,
    TensorMismatchError,
    UnsafeFileError,
    WeightsError,
)

__all__ = [
    "AlignmentError",
    "AmbiguousNameError",
    "BrokenEntryError",
    "CheckError",
    "FileFormatError",
    "FingerprintError",
    "ImageError",
    "KeymapError",
    "LossyCastError",
    "MissingProviderError",
    "MissingSpecError",
    "NameTakenError",
    "NotInvertibleError",
    "PartError",
    "PatternError",
    "RecordError",
    "RegistryError",
    "RuleError",
    "RunawayGraphError",
    "ScaffoldError",
    "SeveralFitsError",
    "SeveralWeightsError",
    "ShapeError",
    "SignatureError",
    "SizeBudgetError",
    "SpecError",
    "SpecFileError",
    "StalePairError",
    "TensorMismatchError",
    "UnknownNameError",
    "UnsafeFileError",
    "WeightsError",
    "ZooError",
]

for _name in __all__:
    if globals()[_name].__module__.startswith(__name__):
        globals()[_name].__module__ = __name__  # tracebacks name the place that they are to be imported from
