"""What an environment is: a name, two pure functions and two spaces."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gacf.core.types import Key, PyTree


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


def features(spaces: PyTree) -> Callable[[PyTree], jax.Array]:
    """How the default networks read observations: as numbers, and names as one-hot vectors.

    A whole number of a `Discrete` space is a name, and no size: one weight times it would order
    what has no order. The arrays of a single box are left as they are; the parts of a pytree are
    flattened and joined. A network of a user's own gets observations as they are, whole numbers
    among them, unless it is wrapped:
    `gacf.networks.encoded(gacf.envs.features(env.observation), network)`.

    Args:
        spaces: a space, or a pytree of them.

    Returns:
        `observations, leaves [B, …] -> [B, F]`; of a single box [B, *shape].

    Example:
        >>> import jax.numpy as jnp
        >>> features(Discrete(3))(jnp.array([2, 0])).tolist()
        [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """

    def numbers(space: Space, x: jax.Array) -> jax.Array:
        if isinstance(space, Discrete):
            return jax.nn.one_hot(x, space.n)
        return x.reshape(x.shape[0], -1)

    def read(observation: PyTree) -> jax.Array:
        if isinstance(spaces, Box):
            return observation
        parts = jax.tree.map(numbers, spaces, observation, is_leaf=is_space)
        return jnp.concatenate(jax.tree.leaves(parts), axis=-1)

    return read


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
        observation: the space of observations; a dict, a tuple or another pytree of spaces where
            observations are one of arrays.
        action: the space of actions.
        horizon: steps after which an episode has ended, at the latest; may be traced.
        release: `state -> 0.0`, where a state holds something on the host: it will not be stepped
            again. None where a state is nothing but arrays.
    """

    name: str
    reset: Callable[[Key], tuple[PyTree, PyTree]]
    step: Callable[[Key, PyTree, jax.Array], tuple[PyTree, Timestep]]
    observation: PyTree
    action: Space
    horizon: int | jax.Array
    release: Callable[[PyTree], jax.Array] | None = None


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
