"""Running statistics against numpy, and when they are renewed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf import envs, rules
from gacf.core.clock import with_clock, without_clock
from gacf.methods.actor_critic import normalize
from gacf.networks import model
from tests.methods.actor_critic.probes import probe

KEY = jax.random.key(0)


@pytest.mark.long
def test_statistics_are_those_of_all_that_was_seen():
    random = np.random.default_rng(0)
    batches = [random.normal(3, 2, size=(n, 2)).astype(np.float32) for n in (1, 5, 40, 200)]
    seen = normalize.start(jnp.zeros(2))
    np.testing.assert_array_equal(normalize.variance(seen), 1)
    for i in range(len(batches)):
        seen = normalize.take_in(seen, jnp.asarray(batches[i]))
        data = np.concatenate(batches[: i + 1]).astype(np.float64)
        np.testing.assert_allclose(seen.mean, data.mean(axis=0), rtol=1e-5)
        # one example says nothing of a variance
        expected = data.var(axis=0) if len(data) > 1 else np.ones(2)
        np.testing.assert_allclose(normalize.variance(seen), expected, rtol=1e-5)
        assert int(seen.count) == len(data)


@pytest.mark.parametrize(("offset", "spread"), [(1e4, 1.0), (-3e5, 2.0), (1e3, 1e-2), (0.0, 1e-3)])
def test_large_means_do_not_cancel(offset, spread):
    data = np.random.default_rng(1).normal(offset, spread, size=(64, 32)).astype(np.float32)
    seen = normalize.start(jnp.zeros(()))
    for batch in data:
        seen = normalize.take_in(seen, jnp.asarray(batch))
    wide = data.astype(np.float64)
    assert float(seen.mean) == pytest.approx(wide.mean(), rel=1e-6, abs=1e-2 * spread)
    assert float(normalize.variance(seen)) == pytest.approx(wide.var(), rel=1e-2)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.uint8, jnp.int32, bool])
def test_statistics_of_narrow_types_are_float32(dtype):
    data = jnp.asarray(np.random.default_rng(2).uniform(0, 255, size=(500, 3))).astype(dtype)
    seen = normalize.take_in(normalize.start(data[0]), data)
    wide = np.asarray(data.astype(jnp.float32), np.float64)
    assert seen.mean.dtype == seen.squares.dtype == jnp.float32
    np.testing.assert_allclose(seen.mean, wide.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(seen.squares, wide.var(axis=0) * 500, rtol=1e-4)


def test_what_never_varies_is_not_blown_up():
    seen = normalize.start(jnp.zeros(2))
    for n in (1, 7, 30):
        seen = normalize.take_in(seen, jnp.full((n, 2), jnp.array([0.1, 1000.1])))
    np.testing.assert_array_equal(normalize.variance(seen), 1)
    np.testing.assert_array_equal(seen.mean, np.float32([0.1, 1000.1]))


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
    return gacf.a2c(env, see, number, log_scale=-20.0, rollout=gacf.Rollout(3, 2, **options))


def steps(game, number):
    algorithm = gacf.compose(game, rules.player_step("critic", optax.sgd(0.0)), still="actor")

    @jax.jit
    def play(key):
        def step(state, _):
            state, metrics = algorithm.step(state)
            return state, (state.world, metrics)

        return jax.lax.scan(step, algorithm.init(key), length=number)[1]

    return play(KEY)


@pytest.mark.long
def test_a_batch_is_judged_by_the_statistics_it_was_collected_with():
    world, _ = steps(tell(normalize_observations=True), 4)
    rows, now, then = (
        world["env"]["transition"], world["observations"]["now"], world["observations"]["next"],
    )  # fmt: skip
    first = (now.count == 0)[:, None]
    deviation = np.sqrt(np.where(first, 1, now.squares / np.maximum(now.count[:, None], 1)) + 1e-8)
    wanted = (rows["observation"] - now.mean[:, None]) / deviation[:, None]
    np.testing.assert_allclose(rows["action"], np.clip(wanted, -10, 10), rtol=1e-4, atol=1e-5)
    # one step's observations are taken in when the next begins
    np.testing.assert_array_equal(now.mean[1:], then.mean[:-1])
    assert np.all(now.mean[1:] != now.mean[:-1]) and now.count.tolist() == [0, 6, 12, 18]


def journey(length=5, offset=2e3, last=1e6):
    """Episodes that end, now and then by a cut, at an observation far from all that is acted on."""

    def reset(key):
        start = offset + jax.random.normal(key, (2,))
        return (jnp.zeros((), jnp.int32), start), start

    def step(key, state, action):
        move_key, reset_key = jax.random.split(key)
        t, now = state
        then = now + jnp.array([1.0, 0.1]) + jax.random.normal(move_key, (2,))
        done = t + 1 >= length
        cut = done & (now[0] > offset)
        fresh, first = reset(reset_key)
        led = jnp.where(done, last, then)
        kept = jax.tree.map(lambda a, b: jnp.where(done, a, b), fresh, (t + 1, then))
        seen = jnp.where(done, first, then)
        return kept, envs.Timestep(seen, led, jnp.float32(1.0), done & ~cut, cut)

    bounds = jnp.full(2, jnp.inf)
    space = envs.Box((2,), -bounds, bounds)
    action = envs.Box((1,), -jnp.ones(1), jnp.ones(1))
    return envs.Environment("journey", reset, step, space, action, length)


@pytest.mark.long
def test_statistics_are_those_of_the_observations_that_are_acted_on():
    """Each once, first ones of episodes among them, ends of episodes not."""
    acted = []

    def watched(p, o):
        jax.debug.callback(lambda o: acted.append(np.asarray(o)), o)
        return 0 * o[:, :1] + p

    see = (lambda key: jnp.zeros(()), watched)
    number = (lambda key: jnp.zeros(()), lambda v, o: v * o[:, 0])
    rollout = gacf.Rollout(num_envs=4, length=7, normalize_observations=True)
    game = gacf.a2c(journey(), see, number, rollout=rollout)

    # by `observe` alone, so that no loss watches too
    @jax.jit
    def play(key):
        params, world = game.init(key)

        def step(world, key):
            world = without_clock(game.observe(params, with_clock(world), key)[0])
            return world, (world["env"]["transition"]["observation"], world["observations"])

        return jax.lax.scan(step, world, jax.random.split(key, 9))[1]

    observations, kept = play(KEY)
    jax.effects_barrier()
    assert len(acted) == 9 * 7
    rows = np.asarray(observations, np.float64)  # [9, 7 · 4, 2]
    assert rows.max() < 1e4  # the ends, at 1e6, are not acted on
    for i in range(9):
        past = rows[: i + 1].reshape(-1, 2)
        then = jax.tree.map(lambda x: x[i], kept["next"])
        assert int(then.count) == len(past)
        np.testing.assert_allclose(then.mean, past.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(normalize.variance(then), past.var(axis=0), rtol=1e-3)
    # and what the policy saw of them is standardised by all before its own batch
    shown = np.stack(acted).reshape(9, 7 * 4, 2)
    past = rows[:8].reshape(-1, 2)
    wanted = (rows[8] - past.mean(axis=0)) / past.std(axis=0)
    np.testing.assert_allclose(shown[8], wanted, atol=2e-3)


@pytest.mark.long
def test_contexts_of_a_bandit_reach_the_policy_standardised():
    offset, spread = 1e3, 0.5
    env = probe(lambda t, a: 1.0, starts=lambda key: offset + spread * jax.random.normal(key, (1,)))
    # what follows is never acted on, nor taken in
    step = lambda *args: (lambda s, seen: (s, seen._replace(next_observation=jnp.zeros(1))))(  # noqa: E731
        *env.step(*args)
    )
    see = (lambda key: jnp.ones(()), lambda k, o: k * o)
    number = (lambda key: jnp.zeros(()), lambda v, o: v * o[:, 0])
    game = gacf.a2c(
        env._replace(step=step), see, number, log_scale=-20.0,
        rollout=gacf.Rollout(num_envs=32, length=4, normalize_observations=True),
    )  # fmt: skip
    world, _ = steps(game, 20)
    seen = np.asarray(world["env"]["transition"]["action"])[4:]
    assert abs(seen.mean()) < 0.1 and abs(seen.std() - 1) < 0.1


@pytest.mark.long
def test_replayed_observations_are_stored_as_they_are_and_standardised_when_read():
    see = (lambda key: jnp.ones(()), lambda k, o: k * o[:, :1])
    number = (lambda key: jnp.zeros(()), lambda v, o, a: v * o[:, 0])
    game = gacf.ddpg(
        journey(), see, number, exploration=0.0, replay=gacf.Replay(100, 4, 6),
        rollout=gacf.Rollout(num_envs=3, normalize_observations=True),
    )  # fmt: skip
    world, _ = steps(game, 5)
    buffer = jax.tree.map(lambda x: x[-1], world["buffer"])
    rows = np.asarray(buffer.items["observation"][: int(buffer.size)], np.float64)
    then = jax.tree.map(lambda x: x[-1], world["observations"]["next"])
    assert len(rows) == int(then.count) == 3 * 11
    np.testing.assert_allclose(then.mean, rows.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(normalize.variance(then), rows.var(axis=0), rtol=1e-3)


@pytest.mark.long
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


@pytest.mark.long
def test_rewards_are_divided_by_the_deviation_of_the_discounted_return():
    discount, num_envs, length = 0.9, 2, 2
    env = probe(lambda t, action: 5.0 + 3.0 * t, length=3)
    still = (lambda key: jnp.zeros(()), lambda p, o: 0 * o)
    number = (lambda key: jnp.zeros(()), lambda v, o: v * o[:, 0])
    rollout = gacf.Rollout(num_envs, length, normalize_rewards=True)
    game = gacf.a2c(env, still, number, discount=discount, rollout=rollout)
    world, metrics = steps(game, 4)
    scaled = np.asarray(world["env"]["transition"]["reward"])
    raw = np.tile([5.0, 8.0, 11.0], 3)[:8].reshape(4, length)
    total, seen = 0.0, []
    for step in range(4):
        for t in range(length):
            time = step * length + t
            total = discount * total + raw[step, t]
            seen += [total] * num_envs
            total = 0.0 if time % 3 == 2 else total
        spread = np.std(seen)
        wanted = np.repeat(raw[step] / spread, num_envs)
        np.testing.assert_allclose(scaled[step], wanted, rtol=1e-4)
    # metrics stay in the environment's units
    np.testing.assert_array_equal(metrics["episode/return"], [np.nan, 24, 24, 24])


@pytest.mark.long
@pytest.mark.parametrize("truncates", [False, True])
def test_the_discounted_return_begins_anew_with_each_episode(truncates):
    """However the last one ended; and equal returns leave rewards as they are."""
    still = (lambda key: jnp.zeros(()), lambda p, o: 0 * o)
    number = (lambda key: jnp.zeros(()), lambda v, o: v * o[:, 0])

    def scaled(env, number_of_steps):
        rollout = gacf.Rollout(num_envs=2, length=3, normalize_rewards=True)
        game = gacf.a2c(env, still, number, discount=0.5, rollout=rollout)
        return np.asarray(steps(game, number_of_steps)[0]["env"]["transition"]["reward"])

    same = scaled(probe(lambda t, action: 7.0, length=1, truncates=truncates), 3)
    np.testing.assert_array_equal(same, 7.0)
    # returns of two steps: 4, then 2 + 4; cut or ended, the third is 4 again
    two = scaled(probe(lambda t, action: 4.0, length=2, truncates=truncates), 4)
    totals = np.tile([4.0, 6.0], 6)
    for step in range(4):
        deviation = totals[: 3 * (step + 1)].std()
        np.testing.assert_allclose(two[step], 4.0 / deviation, rtol=1e-5)
