"""What an environment is: a name, two pure functions and two spaces."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gacf.core.distribution import install
from gacf.core.types import Key, PyTree


class Box(NamedTuple):
    """Real arrays between bounds.

    Attributes:
        shape: the shape of one element.
        low: lower bounds [*shape], float32; may be -inf.
        high: upper bounds [*shape], float32; may be inf.
    """

    shape: tuple[int, ...]
    low: jax.Array
    high: jax.Array


class Discrete(NamedTuple):
    """The whole numbers 0 … n-1; its elements are int32 scalars.

    Attributes:
        n: the number of elements.
    """

    n: int


Space = Box | Discrete


def is_space(node: PyTree) -> bool:
    """Whether a node of a pytree of spaces is a space; for `is_leaf`."""
    return isinstance(node, Box | Discrete)


def features(spaces: PyTree) -> Callable[[PyTree], jax.Array]:
    """How the default networks read observations: real numbers as they are, discrete ones one-hot.

    A whole number of a `Discrete` space is a name and not a size: multiplying it by one weight
    would impose an order on values that have none. The arrays of a single box are left as they are;
    the parts of a pytree are flattened and joined. A network of your own gets observations as they
    are, including whole numbers, unless it is wrapped:
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
    """The result of one step of an environment.

    Attributes:
        observation: what the actor sees next; after the end of an episode, the first observation of
            the next episode.
        next_observation: the observation to which the transition really led. A target bootstraps
            from it, also if the episode was truncated.
        reward: float32 scalar.
        terminated: bool scalar: the episode has ended, and all values after it are zero.
        truncated: bool scalar: only the time limit ended the episode.
    """

    observation: PyTree
    next_observation: PyTree
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array


class Environment(NamedTuple):
    """An environment as a tuple of pure functions; `step` starts a new episode by itself.

    Attributes:
        name: the name for messages and tables.
        reset: `key -> (state, observation)`.
        step: `(key, state, action) -> (state, Timestep)`.
        observation: the space of observations; a dict, a tuple or another pytree of spaces if
            observations are such a pytree of arrays.
        action: the space of actions.
        horizon: the number of steps after which every episode has ended; may be traced.
        release: `state -> 0.0`, called for a state that will not be stepped again, so that what it
            holds on the host is freed. None if a state consists only of arrays.
        render: `state -> picture [H, W, 3]`, numbers in [0, 1], for films; None: there is none.
    """

    name: str
    reset: Callable[[Key], tuple[PyTree, PyTree]]
    step: Callable[[Key, PyTree, jax.Array], tuple[PyTree, Timestep]]
    observation: PyTree
    action: Space
    horizon: int | jax.Array
    release: Callable[[PyTree], jax.Array] | None = None
    render: Callable[[PyTree], jax.Array] | None = None


def restart(done: jax.Array, fresh: PyTree, state: PyTree) -> PyTree:
    """The fresh state if an episode is done, and otherwise the state that it has reached.

    Args:
        done: bool scalar.
        fresh: a state at the start of an episode.
        state: a state of the same structure, shapes and dtypes.
    """
    return jax.tree.map(lambda first, now: jnp.where(done, first, now), fresh, state)


def check_installed(package: str, name: str) -> None:
    """Raises a ValueError that names the extra to install, unless the package is installed."""
    if importlib.util.find_spec(package) is None:
        raise ValueError(
            f"environment: {name!r} needs {package}, which is not installed; "
            f"allowed after: {install(package)}"
        )
