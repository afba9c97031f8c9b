"""Names: how two of them compare, and which ones look alike."""

from __future__ import annotations

import re
from collections.abc import Iterable


def canonical(name: str) -> str:
    """Fold a name to the form in which names compare: lower case, ``-`` and ``_`` equal.

    >>> canonical("ResNet-Lite") == canonical("resnet_lite")
    True
    """
    return name.lower().replace("-", "_")


def canonical_provider(name: str) -> str:
    """Fold the name of a distribution (PEP 503, section "Normalized Names").

    >>> canonical_provider("Acme.Zoo") == canonical_provider("acme-zoo")
    True
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def nearest(name: str, known: Iterable[str], most: int = 3) -> tuple[str, ...]:
    """Return the known names that look like ``name``, the best first.

    >>> nearest("resnet_lit", ["lenet", "resnet_lite", "vgg_lite"])
    ('resnet_lite',)
    """
    import difflib  # 10 ms that only a misspelt name has to pay

    by_form = {canonical(k): k for k in known}
    return tuple(by_form[form] for form in difflib.get_close_matches(canonical(name), by_form, n=most, cutoff=0.7))


def matches(name: str, pattern: str) -> bool:
    """Tell whether a name fits a shell pattern, by the rules by which names compare.

    >>> matches("resnet-lite", "ResNet_*")
    True
    """
    import fnmatch

    return fnmatch.fnmatchcase(canonical(name), canonical(pattern))
