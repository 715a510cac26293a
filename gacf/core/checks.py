"""Checks of arguments, and the texts of their error messages."""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import jax
import jax.core
import jax.extend

from gacf.core.names import nearest as nearest


def lookup(argument: str, name: str, table: Mapping[str, Any]) -> Any:
    """`table[name]`, or a ValueError that names the argument, the value and the nearest name."""
    if not isinstance(name, Hashable) or name not in table:
        raise ValueError(f"{argument}: {name!r} is unknown; {nearest(name, table)}")
    return table[name]


def require(argument: str, value: Any, holds: Callable[[Any], Any], allowed: str) -> None:
    """Raises a ValueError unless `holds(value)`; traced hyperparameters pass unchecked.

    A builder may be called with tracers instead of numbers (a sweep in one program), so only
    concrete values can be refused.
    """
    if isinstance(value, jax.core.Tracer):
        return
    try:
        fine = bool(holds(value))
    except (TypeError, ValueError, AttributeError):
        fine = False
    if not fine:
        raise ValueError(f"{argument}: {shown(value)} was given; allowed: {allowed}")


def shown(value: Any) -> str:
    """A value for an error message: numbers and short texts as they are, otherwise the type.

    Example:
        >>> shown(0.5), shown([1, 2]), shown(dict.fromkeys(range(99)))
        ('0.5', '[1, 2]', 'a dict')
    """
    text = repr(value)
    long = len(text) > 80 or "\n" in text or text.startswith("<")
    return f"a {type(value).__name__}" if long or callable(value) else text


def whole(n: Any) -> bool:
    """Whether n is a whole number >= 1 (an index, so neither 2.0 nor True); for `require`."""
    return not isinstance(n, bool) and operator.index(n) >= 1


def at_most(most: int) -> Callable[[Any], bool]:
    """Whether a number is whole, >= 1 and <= `most`; for `require`."""
    return lambda n: whole(n) and operator.index(n) <= most
