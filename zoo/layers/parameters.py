"""The parameter types that components share; pydantic checks them, strictly."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Lt, MinLen
from pydantic import PositiveInt

Widths = Annotated[tuple[PositiveInt, ...], MinLen(1)]
"""One positive number for each stage or layer, at least one of them."""

Probability = Annotated[float, Ge(0), Lt(1)]
"""A share that is dropped: 0 keeps everything."""
