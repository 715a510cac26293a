"""Environments (L1). To add one: a line in `ENVIRONMENTS`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from gacf.envs.gymnax import NAMES, from_gymnax
from gacf.envs.types import Box, Discrete, Environment, Space, Timestep
from gacf.types import lookup

ENVIRONMENTS: dict[str, Callable[..., Environment]] = {
    name: functools.partial(from_gymnax, name) for name in NAMES
}


def make(name: str, **parameters: Any) -> Environment:
    """The environment of that name.

    Args:
        name: a key of `ENVIRONMENTS`.
        **parameters: handed to its constructor.

    Raises:
        ValueError: an unknown name or parameter; the message tells the nearest one.

    Example:
        >>> make("CartPole-v1").action
        Discrete(n=2)
    """
    return lookup("environment", name, ENVIRONMENTS)(**parameters)


__all__ = [
    "ENVIRONMENTS",
    "Box",
    "Discrete",
    "Environment",
    "Space",
    "Timestep",
    "from_gymnax",
    "make",
]
