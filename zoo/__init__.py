"""A PyTorch model zoo that other people can extend without asking.

>>> import zoo
>>> model = zoo.build("lenet")
>>> zoo.list_models("resnet1*")
['resnet101', 'resnet152', 'resnet18', 'resnet18_1d']

The names below are imported when they are first used: ``import zoo`` alone imports no torch.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.anatomy.plan import plan as plan
    from zoo.building import build as build
    from zoo.catalogue import describe as describe
    from zoo.catalogue import list_components as list_components
    from zoo.catalogue import list_models as list_models
    from zoo.catalogue import list_weights as list_weights
    from zoo.errors import ZooError as ZooError
    from zoo.extraction import extract as extract
    from zoo.features import Feature as Feature
    from zoo.model import Model as Model
    from zoo.prediction import predict as predict
    from zoo.record import Preprocessing as Preprocessing
    from zoo.record import Record as Record
    from zoo.spec import normalise as normalise
    from zoo.specschema import schema as schema
    from zoo.weights.conversion.convert import convert as convert
    from zoo.weights.files import load as load
    from zoo.weights.files import save as save
    from zoo.weights.inspection import inspect as inspect
    from zoo.weights.into import load_into as load_into
    from zoo.weights.into import plan_load as plan_load
    from zoo.weights.migration.identify import identify as identify
    from zoo.weights.reading import fingerprint as fingerprint
    from zoo.weights.verification.verify import verify as verify

_HOMES = {
    "Feature": "zoo.features",
    "Model": "zoo.model",
    "Preprocessing": "zoo.record",
    "Record": "zoo.record",
    "ZooError": "zoo.errors",
    "build": "zoo.building",
    "convert": "zoo.weights.conversion.convert",
    "describe": "zoo.catalogue",
    "extract": "zoo.extraction",
    "fingerprint": "zoo.weights.reading",
    "identify": "zoo.weights.migration.identify",
    "inspect": "zoo.weights.inspection",
    "list_components": "zoo.catalogue",
    "list_models": "zoo.catalogue",
    "list_weights": "zoo.catalogue",
    "load": "zoo.weights.files",
    "load_into": "zoo.weights.into",
    "normalise": "zoo.spec",
    "plan": "zoo.anatomy.plan",
    "plan_load": "zoo.weights.into",
    "predict": "zoo.prediction",
    "save": "zoo.weights.files",
    "schema": "zoo.specschema",
    "verify": "zoo.weights.verification.verify",
}

__all__ = ["__version__", *sorted(_HOMES)]  # noqa: PLE0604 - the table above is the one list of public names


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("zoo-torch")
    if name not in _HOMES:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name, value in globals().items() if isinstance(value, ModuleType))})
