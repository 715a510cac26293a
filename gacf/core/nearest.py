"""The clause of an error message that says what would have been right; it needs no JAX."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, allowed: Iterable[str]) -> str:
    """A clause for an error message: the nearest allowed name and the list of all.

    Example:
        >>> nearest("hinje", ["hinge", "wasserstein"])
        "did you mean 'hinge'? allowed: hinge, wasserstein"
    """
    names = [str(a) for a in allowed]
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.4)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}allowed: {', '.join(names)}"
