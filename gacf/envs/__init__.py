"""Environments. To add one, add a line in `ENVIRONMENTS`.

gymnax's environments, the linear-quadratic regulator and the probes need only gacf. brax's need the
extra `brax`. Gymnasium's need the extra `gymnasium`; their names have the form "gymnasium:<id>" and
are not listed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from gacf.core.checks import nearest, shown
from gacf.core.names import did_you_mean
from gacf.envs import brax, gymnasium, gymnax, probes
from gacf.envs.brax import from_brax
from gacf.envs.check import check
from gacf.envs.gymnasium import from_gymnasium
from gacf.envs.gymnax import from_gymnax
from gacf.envs.lqr import lqr
from gacf.envs.types import Box, Discrete, Environment, Space, Timestep, features


def _named(source: Callable[..., Environment], name: str, doc: str) -> Callable[..., Environment]:
    def constructor(**parameters: Any) -> Environment:
        return source(name, **parameters)

    constructor.__doc__ = doc
    return constructor


ENVIRONMENTS: dict[str, Callable[..., Environment]] = {
    **{name: _named(from_gymnax, name, line) for name, line in gymnax.NAMES.items()},
    "LQR": lqr,
    **probes.CONSTRUCTORS,
    **{
        f"brax-{name}": _named(from_brax, name, f"{line[:-1]} (extra: brax).")
        for name, line in brax.NAMES.items()
    },
}


def _alternatives(name: str) -> str:
    """What a user may have meant by an unknown name, and what is allowed."""
    allowed = "allowed: a name that `gacf list environments` prints"
    if not gymnasium.ID.fullmatch(name):
        return did_you_mean(name, ENVIRONMENTS) + allowed
    # Gymnasium has many environments with names of this form: a name of gacf's own has to be close.
    own = did_you_mean(name, filter(gymnasium.ID.fullmatch, ENVIRONMENTS), cutoff=0.75)
    if own:
        return f"{own}{allowed}, or {gymnasium.PREFIX}<id>"
    return f"did you mean {gymnasium.PREFIX + name!r}? {allowed}, or {gymnasium.PREFIX}<id>"


def make(name: str, **parameters: Any) -> Environment:
    """The environment of that name.

    Args:
        name: a key of `ENVIRONMENTS`, or "gymnasium:<id>" for any that Gymnasium knows.
        **parameters: arguments of its constructor.

    Raises:
        ValueError: the name or a parameter is unknown; the message suggests the nearest one.

    Example:
        >>> make("CartPole-v1").action
        Discrete(n=2)
    """
    if isinstance(name, str) and name.startswith(gymnasium.PREFIX):
        return from_gymnasium(name.removeprefix(gymnasium.PREFIX), **parameters)
    constructor = ENVIRONMENTS.get(name) if isinstance(name, str) else None
    if constructor is None:
        raise ValueError(f"environment: {shown(name)} is unknown; {_alternatives(str(name))}")
    known = inspect.signature(constructor).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
        for parameter in parameters:
            if parameter not in known:
                hint = nearest(parameter, known)
                raise ValueError(f"make: {name} has no parameter {parameter!r}; {hint}")
    return constructor(**parameters)


__all__ = [
    "ENVIRONMENTS",
    "Box",
    "Discrete",
    "Environment",
    "Space",
    "Timestep",
    "check",
    "features",
    "from_brax",
    "from_gymnasium",
    "from_gymnax",
    "lqr",
    "make",
    "probes",
]
