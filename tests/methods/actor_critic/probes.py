"""Environments so small that every value in them is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gacf.envs import Box, Environment, Timestep


def probe(
    reward: Callable[[jax.Array, jax.Array], Any],
    length: int = 1,
    truncates: bool = False,
    low: float = -1.0,
    high: float = 1.0,
    starts: Callable[[jax.Array], jax.Array] = lambda key: jnp.ones(1),
) -> Environment:
    """Episodes of a fixed length; `reward(t, action)`; what is seen is the start, all along."""

    def reset(key: jax.Array) -> Any:
        start = starts(key)
        return (jnp.zeros((), jnp.int32), start), start

    def step(key: jax.Array, state: Any, action: jax.Array) -> Any:
        t, start = state
        done = t + 1 >= length
        fresh, first = reset(key)
        now = jax.tree.map(lambda a, b: jnp.where(done, a, b), fresh, (t + 1, start))
        return now, Timestep(
            observation=jnp.where(done, first, start),
            next_observation=start,
            reward=jnp.asarray(reward(t, action), jnp.float32).reshape(()),
            terminated=done & (not truncates),
            truncated=done & truncates,
        )

    bounds = jnp.full(1, low), jnp.full(1, high)
    seen = Box((1,), jnp.full(1, -jnp.inf), jnp.full(1, jnp.inf))
    return Environment("probe", reset, step, seen, Box((1,), *bounds), length)


def one_reward(**options: Any) -> Environment:
    """Reward 1 for each step."""
    return probe(lambda t, action: 1.0, **options)
