"""A plugin registry over setuptools entry points; it knows nothing of torch or of models.

>>> from registry import Registry
>>> scripts = Registry("console_scripts", kind="script", builtin="pip")
>>> "a-name-nobody-took" in scripts
False
"""

from registry.entry import Entry
from registry.errors import (
    AmbiguousNameError,
    BrokenEntryError,
    NameTakenError,
    RegistryError,
    SignatureError,
    UnknownNameError,
    ZooError,
)
from registry.names import canonical, nearest
from registry.problem import Problem
from registry.providers import Contract
from registry.registry import Registry
from registry.renamed import Renamed
from registry.scan import refresh
from registry.signature import Arguments, Parameter, Signature

__all__ = [
    "AmbiguousNameError",
    "Arguments",
    "BrokenEntryError",
    "Contract",
    "Entry",
    "NameTakenError",
    "Parameter",
    "Problem",
    "Registry",
    "RegistryError",
    "Renamed",
    "Signature",
    "SignatureError",
    "UnknownNameError",
    "ZooError",
    "canonical",
    "nearest",
    "refresh",
]
