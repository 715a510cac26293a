"""Noise on actions: its stationary law, and that it begins anew with each episode."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf import rules
from gacf.methods.actor_critic import gaussian_noise, ornstein_uhlenbeck
from tests.methods.actor_critic.probes import one_reward

KEY = jax.random.key(0)


def path(exploration, shape, steps):
    def step(memory, key):
        noise, memory = exploration.noise(memory, shape, key)
        return memory, noise

    keys = jax.random.split(KEY, steps)
    return np.asarray(jax.lax.scan(step, exploration.init(shape), keys)[1], np.float64)


@pytest.mark.parametrize("interval", [1.0, 0.25])
def test_ornstein_uhlenbeck_has_its_stationary_variance_and_memory(interval):
    deviation, pull, copies, steps = 0.3, 0.4, 200, 400
    seen = path(ornstein_uhlenbeck(deviation, pull, interval), (copies, 2), steps)
    keep = 1 - pull * interval
    variance = deviation**2 * interval / (1 - keep**2)
    np.testing.assert_allclose(seen[0].std(), deviation * interval**0.5, rtol=0.15)
    settled = seen[50:]
    assert settled.var() == pytest.approx(variance, rel=0.05)
    lagged = np.mean(settled[1:] * settled[:-1])
    assert lagged == pytest.approx(keep * variance, rel=0.05)
    assert abs(np.mean(seen[..., 0] * seen[..., 1])) < 0.05 * variance


def test_gaussian_noise_has_no_memory():
    seen = path(gaussian_noise(0.5), (200, 2), 100)
    assert seen.std() == pytest.approx(0.5, rel=0.02)
    assert abs(np.mean(seen[1:] * seen[:-1])) < 0.005


@pytest.mark.long
def test_memory_is_that_of_the_episode():
    still = (lambda key: jnp.zeros(1), lambda p, o: jnp.zeros((len(o), 1)) + p[None])
    number = (lambda key: jnp.zeros(()), lambda w, o, a: jnp.zeros(len(o)) + w)
    game = gacf.ddpg(
        one_reward(length=3), still, number, exploration=ornstein_uhlenbeck(0.05),
        rollout=gacf.Rollout(num_envs=2), replay=gacf.Replay(8, 1, warmup=0),
    )  # fmt: skip
    algorithm = gacf.compose(game, rules.player_step("critic", optax.sgd(0.1)), still="actor")

    @jax.jit
    def play(key):
        def step(state, _):
            state, _ = algorithm.step(state)
            env = state.world["env"]
            return state, (env["memory"], env["transition"]["action"])

        return jax.lax.scan(step, algorithm.init(key), length=7)[1]

    memory, action = play(KEY)
    ends = np.array([False, False, True, False, False, True, False])
    np.testing.assert_array_equal(memory[ends], 0)
    np.testing.assert_allclose(memory[~ends], action[~ends], rtol=1e-6)
    # the second action of an episode remembers the first
    kick = action[1] - 0.85 * action[0]
    assert np.all(action != 0) and np.all(np.abs(kick) < 0.25)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ornstein_uhlenbeck(-1.0), "deviation: -1.0 was given; allowed: a number >= 0"),
        (lambda: ornstein_uhlenbeck(pull=-0.1), "pull: -0.1 was given"),
        (lambda: ornstein_uhlenbeck(interval=0), "interval: 0 was given"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
