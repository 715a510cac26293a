"""What an environment is: a name, two pure functions and two spaces (L1)."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gacf.types import Key, PyTree


class Box(NamedTuple):
    """Real arrays between bounds.

    Attributes:
        shape: of one element.
        low: lower bounds [*shape], float32; may be -inf.
        high: upper bounds [*shape], float32; may be inf.
    """

    shape: tuple[int, ...]
    low: jax.Array
    high: jax.Array


class Discrete(NamedTuple):
    """The whole numbers 0 … n-1; its elements are int32 scalars.

    Attributes:
        n: how many.
    """

    n: int


Space = Box | Discrete


def is_space(node: PyTree) -> bool:
    """Whether a node of a pytree of spaces is one of them; for `is_leaf`."""
    return isinstance(node, Box | Discrete)


class Timestep(NamedTuple):
    """What one step of an environment showed.

    Attributes:
        observation: what the actor sees next; after the end of an episode, the next one's first.
        next_observation: what the transition really led to. A target bootstraps from this one,
            also where the episode was truncated.
        reward: float32 scalar.
        terminated: bool scalar: the episode has ended, nothing is worth anything after it.
        truncated: bool scalar: only the time limit ended it.
    """

    observation: PyTree
    next_observation: PyTree
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array


class Environment(NamedTuple):
    """An environment as a tuple of pure functions; `step` starts a new episode by itself.

    Attributes:
        name: for messages and tables.
        reset: `key -> (state, observation)`.
        step: `(key, state, action) -> (state, Timestep)`.
        observation: the space of observations.
        action: the space of actions.
        horizon: steps after which an episode has ended, at the latest.
    """

    name: str
    reset: Callable[[Key], tuple[PyTree, PyTree]]
    step: Callable[[Key, PyTree, jax.Array], tuple[PyTree, Timestep]]
    observation: Space
    action: Space
    horizon: int


def restart(done: jax.Array, fresh: PyTree, state: PyTree) -> PyTree:
    """The fresh state where an episode is done, the state it has reached otherwise.

    Args:
        done: bool scalar.
        fresh: state at a start.
        state: of the same structure, shapes and dtypes.
    """
    return jax.tree.map(lambda first, now: jnp.where(done, first, now), fresh, state)


def check_installed(package: str, name: str) -> None:
    """Raises a ValueError that names the extra to install, unless the package is there."""
    if importlib.util.find_spec(package) is None:
        raise ValueError(
            f"environment: {name!r} needs {package}, which is not installed; "
            f"allowed after: pip install 'gacf[{package}]'"
        )
