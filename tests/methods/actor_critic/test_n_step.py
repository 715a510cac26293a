"""Transitions over several steps against a loop over what was recorded."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf import envs, rules
from gacf.methods.actor_critic import Source
from gacf.methods.actor_critic.n_step import n_step

KEY = jax.random.key(0)
T, N, GAMMA = 20, 4, 0.8


def recorded():
    random = np.random.default_rng(0)
    terminated = random.random((T, N)) < 0.2
    truncated = ~terminated & (random.random((T, N)) < 0.2)
    assert terminated[1:-2].any() and truncated[1:-2].any()
    return {
        "observation": random.normal(size=(T, N, 2)).astype(np.float32),
        "action": random.normal(size=(T, N, 1)).astype(np.float32),
        "reward": random.normal(size=(T, N)).astype(np.float32),
        "terminated": terminated,
        "truncated": truncated,
        "next_observation": random.normal(size=(T, N, 2)).astype(np.float32),
    }


def played_back(rows) -> Any:
    """A source that shows the rows one after the other."""
    held = {name: jnp.asarray(x) for name, x in rows.items()}

    def sample(world, key):
        return {name: x[world["time"]] for name, x in held.items()}

    def observe(params, world, key):
        return {**world, "time": world["time"] + 1}, {}

    return Source(lambda key: {"time": jnp.array(-1)}, sample, observe)


def joined(rows, n, t, i):
    """What a transition of n steps from row t is, by a loop: first and last row, return."""
    total, k = 0.0, t
    while True:
        total += GAMMA ** (k - t) * rows["reward"][k, i]
        if rows["terminated"][k, i] or rows["truncated"][k, i] or k == t + n - 1:
            return k, total
        k += 1


@pytest.mark.long
@pytest.mark.parametrize("n", [2, 3, 5])
def test_joined_transitions_are_those_of_a_loop_each_once(n):
    rows = recorded()

    @jax.jit
    def play(discount):
        source: Any = n_step(played_back(rows), n, discount)

        def step(world, _):
            world, _ = source.observe({}, world, KEY)
            return world, source.sample(world, KEY)

        world = source.start({}, source.init(KEY), KEY)
        return jax.lax.scan(step, world, length=T - n + 1)[1]

    found = play(GAMMA)
    spans = set()
    for t in range(T - n + 1):
        for i in range(N):
            last, reward = joined(rows, n, t, i)
            ended = bool(rows["terminated"][last, i]), bool(rows["truncated"][last, i])
            spans.add((last - t + 1, *ended))
            assert float(found["reward"][t, i]) == pytest.approx(reward, rel=1e-5, abs=1e-6)
            assert int(found["span"][t, i]) == last - t + 1
            for name, at in (
                *((name, t) for name in ("observation", "action")),
                *((name, last) for name in ("next_observation", "terminated", "truncated")),
            ):
                np.testing.assert_array_equal(found[name][t, i], rows[name][at, i])
    # shorter ones that ended either way, and whole ones that did not, have been seen
    assert {(n, False, False), (n - 1, True, False), (n - 1, False, True)} <= spans


LONG = 64
RANDOM = np.random.default_rng(3)
PAID = RANDOM.normal(size=LONG).astype(np.float32)
ENDS = RANDOM.choice(3, size=LONG, p=[0.6, 0.2, 0.2])  # 1 terminates, 2 truncates


def counted():
    """Each copy has a name of its own and counts its steps; what a step does, tables say."""

    def show(name, count):
        return jnp.stack([name, count.astype(jnp.float32)])

    def reset(key):
        name = jax.random.uniform(key)
        state = name, jnp.zeros((), jnp.int32)
        return state, show(*state)

    def step(key, state, action):
        name, count = state
        end = jnp.asarray(ENDS)[count]
        # what is seen next after an end is not where the step led to
        led = show(name, count + 1) + jnp.where(end > 0, 0.5, 0)
        timestep = envs.Timestep(
            show(name, count + 1), led, jnp.asarray(PAID)[count], end == 1, end == 2
        )
        return (name, count + 1), timestep

    space = envs.Box((2,), jnp.full(2, -jnp.inf), jnp.full(2, jnp.inf))
    return envs.Environment(
        "counted", reset, step, space, envs.Box((1,), -jnp.ones(1), jnp.ones(1)), LONG
    )


@pytest.mark.long
@pytest.mark.parametrize(("n", "warmup"), [(1, 3), (2, 0), (5, 3)])
def test_a_buffer_holds_each_transition_once(n, warmup):
    actor = (lambda key: jnp.zeros(()), lambda p, o: o[:, :1] * 0 + p)
    critic = (lambda key: jnp.zeros(()), lambda q, o, a: o[:, 0] * 0 + q)
    game = gacf.ddpg(
        counted(), actor, critic, discount=GAMMA, rollout=gacf.Rollout(num_envs=3),
        replay=gacf.Replay(200, 2, warmup, n_step=n),
    )  # fmt: skip
    algorithm = gacf.compose(game, rules.player_step("critic", optax.sgd(0.0)), still="actor")
    steps = 20

    @jax.jit
    def play(key):
        step = lambda state, _: (algorithm.step(state)[0], None)  # noqa: E731
        return jax.lax.scan(step, algorithm.init(key), length=steps)[0].world["buffer"]

    buffer = play(KEY)
    size = int(buffer.size)
    items = jax.tree.map(lambda leaf: np.asarray(leaf)[:size], buffer.items)
    names = np.unique(items["observation"][:, 0])
    assert len(names) == 3 and size == 3 * (warmup + steps)
    table = {
        "reward": PAID[:, None],
        "terminated": ENDS[:, None] == 1,
        "truncated": ENDS[:, None] == 2,
    }
    held = sorted(map(tuple, items["observation"].tolist()))
    assert held == sorted((name, t) for name in names.tolist() for t in range(warmup + steps))
    for k in range(size):
        name, t = items["observation"][k]
        last, reward = joined(table, n, int(t), 0)
        assert items["reward"][k] == pytest.approx(reward, rel=1e-5, abs=1e-6)
        assert items["terminated"][k] == (ENDS[last] == 1)
        led = last + 1 + 0.5 * (ENDS[last] > 0)
        np.testing.assert_allclose(items["next_observation"][k], [name + led % 1, led], rtol=1e-6)
        if n > 1:
            assert items["span"][k] == last - t + 1


def test_one_step_is_the_source_itself():
    source = played_back(recorded())
    assert n_step(source, 1, GAMMA) is source
    with pytest.raises(ValueError, match="n_step: 0 was given; allowed: a whole number >= 1"):
        n_step(source, 0, GAMMA)


@pytest.mark.long
def test_values_do_not_depend_on_n():
    """On the delayed probe, seen two steps at a time: γ² merit(a) at the start, then γ and 1."""
    # still at 0.5, so that all that is seen belongs to the policy
    actor = (lambda key: jnp.zeros(()), lambda p, o: jnp.full((len(o), 1), np.arctanh(0.5)) + p)
    critic = (lambda key: jnp.zeros(3), lambda q, o, a: q[(o[:, 0] + 1).astype(int)])
    game = gacf.ddpg(
        envs.make("probe-delayed"), actor, critic, discount=GAMMA, exploration=0.0,
        target_rate=1.0, replay=gacf.Replay(64, 32, warmup=0, n_step=2),
    )  # fmt: skip
    algorithm = gacf.compose(game, rules.player_step("critic", optax.sgd(1.0)), still="actor")

    @jax.jit
    def values(key):
        step = lambda state, _: (algorithm.step(state)[0], None)  # noqa: E731
        return jax.lax.scan(step, algorithm.init(key), length=200)[0].params["critic"]

    np.testing.assert_allclose(values(KEY), [GAMMA**2, GAMMA, 1], rtol=1e-4)
