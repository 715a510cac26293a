"""What every environment has to hold, and the play that shows it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gacf import envs

KEY = jax.random.key(0)


def act(env, key):
    if isinstance(env.action, envs.Discrete):
        return jax.random.randint(key, (), 0, env.action.n)
    low, high = (
        jnp.where(jnp.isfinite(bound), bound, sign)
        for bound, sign in ((env.action.low, -1), (env.action.high, 1))
    )
    return jax.random.uniform(key, env.action.shape, minval=low, maxval=high)


def play_all(env, steps, key=KEY, policy=None):
    """The first observation, and actions and timesteps [steps, …], of a random policy, or of
    `policy(observation)`.
    """

    def step(carry, key):
        state, observation = carry
        act_key, step_key = jax.random.split(key)
        action = act(env, act_key) if policy is None else policy(observation)
        state, seen = env.step(step_key, state, action)
        return (state, seen.observation), (action, seen)

    reset_key, play_key = jax.random.split(key)
    state, first = env.reset(reset_key)
    return first, *jax.lax.scan(step, (state, first), jax.random.split(play_key, steps))[1]


def play(env, steps, key=KEY, policy=None):
    """The timesteps alone."""
    return play_all(env, steps, key, policy)[2]


def origins(first: Any, seen: envs.Timestep) -> np.ndarray:
    """What was seen before each step, [steps, …]."""
    return np.concatenate([np.asarray(first)[None], np.asarray(seen.observation)[:-1]])


def check_contract(name, steps: int, **parameters: Any) -> tuple[Any, envs.Timestep]:
    env = envs.make(name, **parameters)
    state, observation = jax.eval_shape(env.reset, KEY)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((state, observation)))
    seen = play(env, steps)  # a scan refuses a state whose dtypes or shapes change
    integer = isinstance(env.observation, envs.Discrete)
    shape = () if isinstance(env.observation, envs.Discrete) else env.observation.shape
    for shown in (seen.observation, seen.next_observation):
        assert shown.shape == (steps, *shape)
        assert shown.dtype == (jnp.int32 if integer else jnp.float32)
        assert np.isfinite(shown).all()
    assert (seen.reward.shape, seen.reward.dtype) == ((steps,), jnp.float32)
    for flag in (seen.terminated, seen.truncated):
        assert (flag.shape, flag.dtype) == ((steps,), jnp.bool_)
    assert not np.any(seen.terminated & seen.truncated)
    done = np.asarray(seen.terminated | seen.truncated)
    lengths = np.diff(np.flatnonzero(np.concatenate([[True], done])))
    assert lengths.max(initial=0) <= env.horizon and (done.any() or steps < env.horizon)
    np.testing.assert_allclose(  # XLA may compute the two apart, with one rounding more or less
        np.asarray(seen.observation)[~done],
        np.asarray(seen.next_observation)[~done],
        rtol=2e-6,
        atol=1e-7,
    )
    return env, seen
