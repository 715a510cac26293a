"""Evidence from an environment: acting, recording, evaluating (L3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gacf.actor_critic.constructor import Source
from gacf.envs import Box, Environment
from gacf.types import Batch, Key, Metrics, Params, World, require, whole

Policy = Callable[[Params, World, jax.Array, Key], jax.Array]
STARTS = 20161004  # seed of the common start states of every evaluation


def environment(
    env: Environment,
    explore: Policy,
    exploit: Policy,
    to_env: Callable[[jax.Array], jax.Array],
    num_envs: int = 1,
    episodes: int = 100,
) -> Source:
    """A source that acts in `num_envs` copies of an environment, once a step.

    The world's entry `env` holds the environments' states, the observations, the returns so far,
    and the step's transitions, which `sample` yields: a dict of `observation`, `action`, `reward`,
    `terminated` and `next_observation`, [N, …]. A truncated episode is no terminated one: the
    target goes on from the observation that the step really led to.

    Args:
        env: the environment.
        explore: `(params, world, observations [N, O], key) -> actions [N, …]`: how it is explored.
        exploit: the same, for evaluation.
        to_env: one recorded action as the environment wants it.
        num_envs: copies N.
        episodes: how many an evaluation plays, from start states common to all seeds and times.

    Metrics:
        `episode/return`, mean over the copies of the last finished episode's return, NaN until
        one has finished; evaluation: `return`, mean over the episodes, and `return_std`.
    """
    require("num_envs", num_envs, whole, "a whole number >= 1")
    require("episodes", episodes, whole, "a whole number >= 1")
    step = jax.vmap(lambda key, state, action: env.step(key, state, to_env(action)))

    def record(observation: Any, action: Any, timestep: Any) -> Batch:
        return {
            "observation": observation,
            "action": action,
            "reward": timestep.reward,
            "terminated": timestep.terminated,
            "next_observation": timestep.next_observation,
        }

    def init(key: Key) -> World:
        state, observation = jax.vmap(env.reset)(jax.random.split(key, num_envs))
        _, (example, _) = jax.eval_shape(_first, state, observation, key)
        transition = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), example)
        returns = jnp.zeros(num_envs)
        entry = {
            "state": state,
            "observation": observation,
            "transition": transition,
            "running": returns,
            "finished": jnp.full_like(returns, jnp.nan),
        }
        return {"env": entry}

    def _first(state: Any, observation: Any, key: Key) -> Any:
        if isinstance(env.action, Box):
            action = jnp.zeros((num_envs, *env.action.shape))
        else:
            action = jnp.zeros(num_envs, jnp.int32)
        state, timestep = step(jax.random.split(key, num_envs), state, action)
        return state, (record(observation, action, timestep), timestep)

    def observe(params: Params, world: World, key: Key) -> tuple[World, Metrics]:
        act_key, step_key = jax.random.split(key)
        entry = world["env"]
        action = explore(params, world, entry["observation"], act_key)
        state, timestep = step(jax.random.split(step_key, num_envs), entry["state"], action)
        done = timestep.terminated | timestep.truncated
        running = entry["running"] + timestep.reward
        finished = jnp.where(done, running, entry["finished"])
        entry = {
            "state": state,
            "observation": timestep.observation,
            "transition": record(entry["observation"], action, timestep),
            "running": jnp.where(done, 0, running),
            "finished": finished,
        }
        return {**world, "env": entry}, {"episode/return": jnp.nanmean(finished)}

    def sample(world: World, key: Key) -> Batch:
        del key
        return world["env"]["transition"]

    def evaluate(params: Params, world: World, key: Key) -> Metrics:
        del key
        reset_key, step_key, act_key = jax.random.split(jax.random.key(STARTS), 3)
        state, observation = jax.vmap(env.reset)(jax.random.split(reset_key, episodes))

        def once(carry: Any, t: jax.Array) -> tuple[Any, None]:
            state, observation, total, alive = carry
            keys = jax.random.split(jax.random.fold_in(step_key, t), episodes)
            action = exploit(params, world, observation, jax.random.fold_in(act_key, t))
            state, timestep = step(keys, state, action)
            total = total + jnp.where(alive, timestep.reward, 0)
            alive = alive & ~(timestep.terminated | timestep.truncated)
            return (state, timestep.observation, total, alive), None

        first = (state, observation, jnp.zeros(episodes), jnp.ones(episodes, bool))
        (_, _, total, _), _ = jax.lax.scan(once, first, jnp.arange(env.horizon))
        return {"return": jnp.mean(total), "return_std": jnp.std(total)}

    return Source(init, sample, observe, evaluate)
