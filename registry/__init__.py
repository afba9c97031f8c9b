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
from registry.registry import Registry
from registry.scan import refresh
from registry.signature import Arguments, Parameter, Signature

__all__ = [
    "AmbiguousNameError",
    "Arguments",
    "BrokenEntryError",
    "Entry",
    "NameTakenError",
    "Parameter",
    "Problem",
    "Registry",
    "RegistryError",
    "Signature",
    "SignatureError",
    "UnknownNameError",
    "ZooError",
    "canonical",
    "nearest",
    "refresh",
]
