"""How a policy is evaluated: on the same start states for all seeds and at all times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gacf.core.types import Key, Metrics, Params, World
from gacf.envs import Environment
from gacf.methods.actor_critic.acting import Exploit

STARTS = 20161004  # seed of the common start states of every evaluation


def evaluation(
    env: Environment, exploit: Exploit, to_env: Callable[[jax.Array], jax.Array], episodes: int
) -> Callable[[Params, World, Key], Metrics]:
    """The return of a policy that does not explore, for `Source.evaluate`.

    Metrics: `return`, the mean over the episodes, and `return_std`, their standard deviation. Both
    are NaN if an episode has not ended after `env.horizon` steps.

    Args:
        env: the environment.
        exploit: `(params, world, observations, key) -> actions`.
        to_env: converts one action to what the environment expects.
        episodes: the number of episodes that are played.
    """
    step = jax.vmap(lambda key, state, action: env.step(key, state, to_env(action)))

    def evaluate(params: Params, world: World, key: Key) -> Metrics:
        del key
        reset_key, step_key, act_key = jax.random.split(jax.random.key(STARTS), 3)
        state, observation = jax.vmap(env.reset)(jax.random.split(reset_key, episodes))

        def play(t: jax.Array, carry: Any) -> Any:
            state, observation, total, alive = carry
            keys = jax.random.split(jax.random.fold_in(step_key, t), episodes)
            action = exploit(params, world, observation, jax.random.fold_in(act_key, t))
            state, timestep = step(keys, state, action)
            total = total + jnp.where(alive, timestep.reward, 0)
            alive = alive & ~(timestep.terminated | timestep.truncated)
            return state, timestep.observation, total, alive

        first = (state, observation, jnp.zeros(episodes), jnp.ones(episodes, bool))
        state, _, total, alive = jax.lax.fori_loop(0, env.horizon, play, first)
        if env.release is not None:
            total = total + jax.vmap(env.release)(state)
        # An episode that is longer than `horizon` contradicts it, and its return is not known.
        total = jnp.where(alive.any(), jnp.nan, total)
        return {"return": jnp.mean(total), "return_std": jnp.std(total)}

    return evaluate
