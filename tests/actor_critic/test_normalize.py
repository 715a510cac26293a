"""Running statistics against numpy, and when they are renewed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf import envs, rules
from gacf.actor_critic import normalize
from gacf.networks import model
from tests.actor_critic.probes import probe

KEY = jax.random.key(0)


def test_statistics_are_those_of_all_that_was_seen():
    random = np.random.default_rng(0)
    batches = [random.normal(3, 2, size=(n, 2)).astype(np.float32) for n in (1, 5, 40, 200)]
    seen = normalize.start(jnp.zeros(2))
    np.testing.assert_array_equal(normalize.variance(seen), 1)
    for i in range(len(batches)):
        seen = normalize.take_in(seen, jnp.asarray(batches[i]))
        # as if there had been one example at 0 before, of variance 1
        data = np.concatenate([np.zeros((1, 2)), *batches[: i + 1]])
        squares = 1 + np.sum((data - data.mean(axis=0)) ** 2, axis=0)
        np.testing.assert_allclose(seen.mean, data.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(normalize.variance(seen), squares / len(data), rtol=1e-5)
        assert int(seen.count) == len(data)


def test_large_means_do_not_cancel():
    data = 1e4 + np.random.default_rng(1).normal(size=(64, 32)).astype(np.float32)
    seen = normalize.start(jnp.zeros(()))
    seen = normalize.Running(jnp.ones(()), jnp.array(1e4), jnp.ones(()))
    for batch in data:
        seen = normalize.take_in(seen, jnp.asarray(batch))
    assert float(normalize.variance(seen)) == pytest.approx(data.var(), rel=1e-2)


def test_the_first_input_is_standardised_and_clipped_and_others_left_alone():
    network = (lambda key: jnp.zeros(()), lambda p, o, a: jnp.concatenate([o, a], axis=1))
    seer = normalize.standardised(model("critic", network), clip=2.0)
    running = normalize.Running(jnp.array(4.0), jnp.array([1.0, 0.0]), jnp.array([16.0, 4.0]))
    world = {"observations": {"now": running, "next": None}}
    o, a = jnp.array([[3.0, 5.0]]), jnp.array([[7.0]])
    np.testing.assert_allclose(seer.apply(0.0, world, o, a)[0], [[1, 2, 7]], rtol=1e-6)
    np.testing.assert_array_equal(seer.apply(0.0, {}, o, a)[0], [[3, 5, 7]])


def tell(**options):
    """A policy whose action is the observation as it sees it, to float accuracy."""
    see = (lambda key: jnp.ones(()), lambda k, o: k * o)
    number = (lambda key: jnp.zeros(()), lambda v, o: v * o[:, 0])
    env = envs.make("LQR", spread=3.0, horizon=5)
    return gacf.a2c(env, see, number, log_scale=-20.0, num_envs=3, length=2, **options)


def steps(game, number):
    algorithm = gacf.compose(game, rules.player_step("critic", optax.sgd(0.0)), still="actor")

    @jax.jit
    def play(key):
        def step(state, _):
            state, metrics = algorithm.step(state)
            return state, (state.world, metrics)

        return jax.lax.scan(step, algorithm.init(key), length=number)[1]

    return play(KEY)


def test_a_batch_is_judged_by_the_statistics_it_was_collected_with():
    world, _ = steps(tell(normalize_observations=True), 4)
    rows, now, then = (
        world["env"]["transition"], world["observations"]["now"], world["observations"]["next"],
    )  # fmt: skip
    deviation = np.sqrt(now.squares / now.count[:, None] + 1e-8)
    wanted = (rows["observation"] - now.mean[:, None]) / deviation[:, None]
    np.testing.assert_allclose(rows["action"], np.clip(wanted, -10, 10), rtol=1e-4, atol=1e-5)
    # one step's observations are taken in when the next begins
    np.testing.assert_array_equal(now.mean[1:], then.mean[:-1])
    assert np.all(now.mean[1:] != now.mean[:-1]) and now.count.tolist() == [1, 7, 13, 19]
    seen = normalize.take_in(normalize.start(jnp.zeros(1)), rows["next_observation"][0])
    np.testing.assert_allclose(then.mean[0], seen.mean, rtol=1e-6)


def test_evaluation_sees_by_the_statistics_too():
    game = tell(normalize_observations=True, episodes=4)

    @jax.jit
    def found(key, mean):
        params, world = game.init(key)
        now = world["observations"]["now"]
        now = now._replace(mean=jnp.full_like(now.mean, mean))
        world = {**world, "observations": {"now": now, "next": now}}
        return game.evaluate(params, world, key)["return"]

    assert float(found(KEY, 0.0)) != float(found(KEY, 1.0))


def test_rewards_are_divided_by_the_deviation_of_the_discounted_return():
    discount, num_envs, length = 0.9, 2, 2
    env = probe(lambda t, action: 5.0 + 3.0 * t, length=3)
    still = (lambda key: jnp.zeros(()), lambda p, o: 0 * o)
    number = (lambda key: jnp.zeros(()), lambda v, o: v * o[:, 0])
    game = gacf.a2c(
        env, still, number, discount, num_envs=num_envs, length=length, normalize_rewards=True
    )
    world, metrics = steps(game, 4)
    scaled = np.asarray(world["env"]["transition"]["reward"])
    raw = np.tile([5.0, 8.0, 11.0], 3)[:8].reshape(4, length)
    total, seen = 0.0, [0.0]
    for step in range(4):
        for t in range(length):
            time = step * length + t
            total = discount * total + raw[step, t]
            seen += [total] * num_envs
            total = 0.0 if time % 3 == 2 else total
        spread = np.sqrt((1 + np.sum((np.array(seen) - np.mean(seen)) ** 2)) / len(seen))
        wanted = np.repeat(raw[step] / spread, num_envs)
        np.testing.assert_allclose(scaled[step], wanted, rtol=1e-4)
    # metrics stay in the environment's units
    np.testing.assert_array_equal(metrics["episode/return"], [np.nan, 24, 24, 24])
