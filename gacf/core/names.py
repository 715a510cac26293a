"""The texts that suggest a name in place of an unknown one; this module needs no JAX."""

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
    return f"{did_you_mean(name, names)}allowed: {', '.join(names)}"


def did_you_mean(name: str, allowed: Iterable[str], cutoff: float = 0.4) -> str:
    """The nearest allowed name as a question, with a space after it; empty if none is near.

    Args:
        name: what was given.
        allowed: the names that would have been right.
        cutoff: how alike a name must be, from 0 to 1 (equal).

    Example:
        >>> did_you_mean("hinje", ["hinge", "wasserstein"]), did_you_mean("x", ["hinge"])
        ("did you mean 'hinge'? ", '')
    """
    names = [str(a) for a in allowed]
    same = [n for n in names if n.casefold() == str(name).casefold()]
    close = same or difflib.get_close_matches(str(name), names, n=1, cutoff=cutoff)
    return f"did you mean {close[0]!r}? " if close else ""
