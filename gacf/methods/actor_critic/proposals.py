"""What a policy proposes once it is trained: actions as the environment wants them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp

from gacf.core.tracing import in_chunks
from gacf.core.types import Key, Params, PyTree, World
from gacf.envs import Environment
from gacf.envs.types import Box, Space, is_space
from gacf.methods.actor_critic.acting import Exploit


@dataclasses.dataclass(frozen=True, eq=False)
class ProposedActions:
    """`(params, world, observations, key) -> actions` of an actor that exploits what it knows.

    Attributes:
        env: the environment; its observations have leaves [B, …].
        exploit: `(params, world, observations, key) -> actions`.
        to_env: one action as the environment wants it.
    """

    env: Environment
    exploit: Exploit
    to_env: Callable[[jax.Array], jax.Array]

    def __call__(self, params: Params, world: World, seen: PyTree, key: Key) -> jax.Array:
        def act(observations: PyTree, key: Key) -> jax.Array:
            return jax.vmap(self.to_env)(self.exploit(params, world, observations, key))

        return in_chunks(act, _observations(self.env, seen), key)


def _observations(env: Environment, seen: PyTree) -> PyTree:
    """The observations as arrays [B, …] of the environment's space, all with the same B."""

    def part(space: Space, given: Any) -> jax.Array:
        x = jnp.asarray(given)
        shape = space.shape if isinstance(space, Box) else ()
        if x.ndim != len(shape) + 1 or x.shape[1:] != shape or not x.shape[0]:
            _refuse(env, f"shape {list(x.shape)}")
        if not isinstance(space, Box) and not jnp.issubdtype(x.dtype, jnp.integer):
            _refuse(env, f"{x.dtype}")
        return x

    try:
        observations = jax.tree.map(part, env.observation, seen, is_leaf=is_space)
    except (TypeError, ValueError) as error:
        if str(error).startswith("seen: "):
            raise
        _refuse(env, f"a {type(seen).__name__}")
    if len({x.shape[0] for x in jax.tree.leaves(observations)}) != 1:
        _refuse(env, "observations of different numbers")
    return observations


def _refuse(env: Environment, given: str) -> NoReturn:
    def allowed(space: Space) -> str:
        if isinstance(space, Box):
            return f"[{', '.join(['B', *map(str, space.shape)])}]"
        return f"[B], whole numbers 0 … {space.n - 1}"

    if is_space(env.observation):
        shapes = allowed(env.observation)
    else:
        shapes = str(jax.tree.map(allowed, env.observation, is_leaf=is_space))
    raise ValueError(f"seen: {given} was given; allowed are observations of {env.name!r}: {shapes}")
