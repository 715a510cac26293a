from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf import Outcome, envs, rules
from gacf.runner import Program
from gacf.stabilizers import mixed, replay, target_networks
from tests.stabilizers.test_buffer import whole_copies

KEY = jax.random.key(0)
N = 3


def counting_game():
    """N environments; each fresh item holds the clock and which environment it came from."""

    def loss(own, params, world, batch, key):
        return own * batch["clock"].mean(), Outcome({"batch": batch["clock"]}, {})

    def observe(params, world, key):
        fresh = {
            "clock": jnp.full(N, world["step"], jnp.float32),
            "update": jnp.full(N, world["update"], jnp.float32),
            "place": jnp.arange(N),
            "count": jnp.full(N, world["env"]),
            "actor": jnp.full(N, params["actor"]),
        }
        return {**world, "env": world["env"] + 1, "fresh": fresh}, {"count": world["env"]}

    def init(key):
        zero = jnp.zeros(N)
        fresh = {
            "clock": zero,
            "update": zero,
            "place": jnp.arange(N),
            "count": jnp.zeros(N, jnp.int32),
            "actor": zero,
        }
        return {"actor": jnp.array(2.0)}, {"env": jnp.zeros((), jnp.int32), "fresh": fresh}

    return gacf.Game(
        losses={"actor": loss},
        init=init,
        observe=observe,
        sample=lambda world, key: world["fresh"],
    )


def algorithm_of(game, updates=1):
    return gacf.compose(game, rules.player_step("actor", optax.sgd(0.0)), updates)


def test_warmup_runs_before_the_first_step_with_a_negative_clock():
    _, world = replay(counting_game(), 100, 4, warmup=5).init(KEY)
    held = jax.tree.map(lambda leaf: leaf[:15], world["buffer"].items)
    assert int(world["buffer"].size) == 15 and int(world["env"]) == 5
    np.testing.assert_array_equal(held["clock"], np.repeat([-5, -4, -3, -2, -1], N))
    np.testing.assert_array_equal(held["update"], held["clock"])
    np.testing.assert_array_equal(held["place"], np.tile([0, 1, 2], 5))
    assert set(world) == {"env", "fresh", "buffer"}  # the clock is taken out again


@pytest.mark.long
def test_steps_add_what_they_observed_and_batches_come_from_the_buffer():
    algorithm = algorithm_of(replay(counting_game(), 18, 500, warmup=2), updates=2)
    state, metrics = gacf.run(algorithm, KEY, 6)
    held = state.world["buffer"].items["clock"][0]
    np.testing.assert_array_equal(np.sort(held), np.repeat([0, 1, 2, 3, 4, 5], N))
    np.testing.assert_array_equal(metrics["count"][0], np.arange(2, 8))  # one observation a step
    for step, batch in enumerate(np.asarray(metrics["actor/batch"][0])):
        assert batch.shape == (500,)
        newest = np.arange(max(-2, step - 5), step + 1)  # the present step's own experience too
        assert set(batch) == set(newest)


@pytest.mark.long
def test_without_warmup_the_first_batch_is_the_first_experience():
    _, metrics = gacf.run(algorithm_of(replay(counting_game(), 9, 50)), KEY, 1)
    assert set(np.unique(metrics["actor/batch"])) == {0.0}


@pytest.mark.long
def test_record_stores_something_else_and_join_puts_batches_together():
    def record(params, world, batch, key):
        noise = jax.random.uniform(key, (N,))
        return {"made": params["actor"] * batch["place"] + 100 * world["step"] + 0 * noise}

    def join(fresh, stored):
        return {"clock": jnp.concatenate([fresh["clock"], stored["made"]])}

    game = replay(counting_game(), 12, 40, warmup=1, record=record, join=join)
    state, metrics = gacf.run(algorithm_of(game), KEY, 2)
    made = [-100.0, -98, -96, 0, 2, 4, 100, 102, 104]
    np.testing.assert_array_equal(state.world["buffer"].items["made"][0, :9], made)
    batch = np.asarray(metrics["actor/batch"][0, 1])
    assert batch.shape == (N + 40,)
    np.testing.assert_array_equal(batch[:N], 1.0)
    assert set(batch[N:]) == set(made)


@pytest.mark.long
def test_ages_are_uniform_over_what_the_buffer_holds():
    """18 items, 3 a step: ages 0 … 5, each with probability 1/6, whatever the step."""
    algorithm = algorithm_of(replay(counting_game(), 18, 3000, warmup=6))
    _, metrics = gacf.run(algorithm, KEY, 9)
    for step, batch in enumerate(np.asarray(metrics["actor/batch"][0])):
        ages, counts = np.unique(step - batch, return_counts=True)
        np.testing.assert_array_equal(ages, np.arange(6))
        assert np.abs(counts - 500).max() < 5 * np.sqrt(3000 / 6 * 5 / 6)


@pytest.mark.long
def test_a_share_of_the_batch_is_old_and_none_is_the_plain_game_to_the_bit():
    """Fresh items of step t tell t; with nothing stored, keys and batches are the game's own."""

    def noisy_game():
        game = counting_game()

        def observe(params, world, key):
            world, metrics = game.observe(params, world, key)
            drift = jax.random.normal(key)
            fresh = {**world["fresh"], "clock": world["fresh"]["clock"] + drift}
            return {**world, "fresh": fresh}, {**metrics, "drift": drift}

        return game._replace(observe=observe)

    def play(game):
        return gacf.run(algorithm_of(game), KEY, 4)[1]

    plain = play(noisy_game())
    off = play(replay(noisy_game(), 9, N, join=mixed(0.0)))
    for name in ("drift", "actor/batch"):
        np.testing.assert_array_equal(plain[name], off[name])
    old = play(replay(counting_game(), 9, N, join=mixed(1 / 3)))["actor/batch"][0]
    np.testing.assert_array_equal(old[:, 1:], np.tile(np.arange(4.0)[:, None], 2))
    assert set(np.unique(old[:, 0])) <= {0.0, 1.0, 2.0, 3.0}
    one = [play(replay(counting_game(), 9, N, join=mixed(s)))["actor/batch"] for s in (1.0, 0.0)]
    assert np.any(one[0] != one[1])


@pytest.mark.long
def test_a_gans_critic_remembers_past_generators():
    """A generator that makes what its parameter says, which grows by 1 a step."""
    generator = (lambda key: jnp.zeros(()), lambda theta, z: theta + 0 * z)
    seen = (lambda key: jnp.zeros(()), lambda own, x: own * x)
    game = gacf.gan(generator, seen, jnp.zeros(4), batch_size=4, noise=lambda key, n: jnp.ones(n))

    def record(params, world, batch, key):
        return {"action": generator[1](params["actor"], batch["noise"])}

    game = replay(game, 12, 4, record=record, join=lambda fresh, stored: {**fresh, **stored})
    shown = game.losses["critic"]

    def critic(own, params, world, batch, key):
        value, told = shown(own, params, world, batch, key)
        return value, told._replace(metrics={**told.metrics, "shown": batch["action"]})

    def actor(own, params, world, batch, key):
        return -own, Outcome({}, {})

    game = game._replace(losses={"actor": actor, "critic": critic})
    rule = rules.simultaneous({"actor": optax.sgd(1.0), "critic": optax.sgd(0.0)})
    shown = np.asarray(gacf.run(gacf.compose(game, rule), KEY, 12)[1]["critic/shown"][0])
    for step, batch in enumerate(shown):
        assert set(batch) <= set(range(max(0, step - 2), step + 1))
    assert len({step - age for step, batch in enumerate(shown) for age in batch}) == 3


@pytest.mark.long
@pytest.mark.parametrize("order", ["inside", "outside"])
def test_together_with_target_networks(order):
    def read(game):
        return target_networks(game, rate=0.5, reads={"actor": ("actor",)})

    base = counting_game()
    game = read(replay(base, 9, 4, warmup=2)) if order == "inside" else replay(read(base), 9, 4, 2)
    state, _ = gacf.run(algorithm_of(game), KEY, 2, seeds=2)
    assert state.world["buffer"].items["clock"].shape == (2, 9)
    np.testing.assert_array_equal(state.world["slow"]["actor"], 2.0)


@pytest.mark.long
def test_seeds_batched_equal_seeds_alone():
    algorithm = algorithm_of(replay(counting_game(), 9, 4, warmup=2))
    both, _ = gacf.run(algorithm, KEY, 3, seeds=2, map="vmap")
    for i in range(2):
        alone = algorithm.init(jax.random.fold_in(KEY, i))
        for _ in range(3):
            alone, _ = algorithm.step(alone)
        jax.tree.map(np.testing.assert_array_equal, gacf.take_seed(both, i).world, alone.world)


def pendulum_game():
    """A critic of single transitions under random torques."""
    env = envs.make("Pendulum-v1")

    def fresh(before, action, seen):
        item = {
            "observation": before,
            "action": action,
            "reward": seen.reward,
            "next_observation": seen.next_observation,
        }
        return jax.tree.map(lambda leaf: leaf[None], item)

    def init(key):
        state, observation = env.reset(key)
        seen = env.step(key, state, jnp.zeros(1))[1]
        world = {"env": (state, observation), "fresh": fresh(observation, jnp.zeros(1), seen)}
        return {"critic": jnp.zeros((3, 1))}, world

    def observe(params, world, key):
        act_key, step_key = jax.random.split(key)
        state, observation = world["env"]
        action = jax.random.uniform(act_key, (1,), minval=-2.0, maxval=2.0)
        state, seen = env.step(step_key, state, action)
        item = fresh(observation, action, seen)
        return {**world, "env": (state, seen.observation), "fresh": item}, {}

    def loss(own, params, world, batch, key):
        target = batch["reward"] + 0.9 * (batch["next_observation"] @ params["critic"])[:, 0]
        return jnp.mean(((batch["observation"] @ own)[:, 0] - target) ** 2), Outcome({}, {})

    return gacf.Game(
        losses={"critic": loss},
        init=init,
        observe=observe,
        sample=lambda world, key: world["fresh"],
    )


@pytest.mark.long
@pytest.mark.parametrize("over", ["loop", "vmap"])
def test_the_runner_copies_no_buffer_within_a_window(over):
    capacity = 10_007
    game = replay(pendulum_game(), capacity, 16, warmup=1)
    rule = rules.player_step("critic", optax.adam(1e-3))
    program = Program(gacf.compose(game, rule), seeds=2, map=over)
    compiled: Any = program.compile(program.init(KEY), 3)
    assert whole_copies(compiled.as_text(), capacity) == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: replay(counting_game(), 0, 1), "capacity: 0 was given"),
        (lambda: mixed(1.5), "share: 1.5 was given"),
        (lambda: replay(counting_game(), 9, 0), "batch_size: 0 was given"),
        (lambda: replay(counting_game(), 9, 1, warmup=-1), "warmup: -1 was given"),
        (lambda: replay(replay(counting_game(), 9, 1), 9, 1).init(KEY), "is taken"),
        (lambda: replay(counting_game(), 2, 1, warmup=1).init(KEY), "at most the capacity, 2"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
