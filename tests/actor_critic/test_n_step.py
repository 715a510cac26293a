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
from gacf.actor_critic import Source
from gacf.actor_critic.n_step import n_step

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


@pytest.mark.parametrize("n", [2, 3])
def test_joined_transitions_are_those_of_a_loop(n):
    rows = recorded()

    @jax.jit
    def play(discount):
        source: Any = n_step(played_back(rows), n, discount)

        def step(world, _):
            world, _ = source.observe({}, world, KEY)
            return world, source.sample(world, KEY)

        return jax.lax.scan(step, source.init(KEY), length=T)[1]

    found = play(GAMMA)
    over = rows["terminated"] | rows["truncated"]
    spans = set()
    for t in range(T):
        for i in range(N):
            first = max(0, t - n + 1)
            last = next((k for k in range(first, t) if over[k, i]), t)
            reward = sum(
                GAMMA ** (k - first) * rows["reward"][k, i] for k in range(first, last + 1)
            )
            spans.add((last - first + 1, bool(rows["terminated"][last, i]), bool(over[last, i])))
            assert float(found["reward"][t, i]) == pytest.approx(reward, rel=1e-5, abs=1e-6)
            assert int(found["span"][t, i]) == last - first + 1
            for name, at in (
                *((name, first) for name in ("observation", "action")),
                *((name, last) for name in ("next_observation", "terminated", "truncated")),
            ):
                np.testing.assert_array_equal(found[name][t, i], rows[name][at, i])
    # shorter ones that ended either way, and whole ones that did not, have been seen
    assert {(n, False, False), (n - 1, True, True), (n - 1, False, True)} <= spans


def test_one_step_is_the_source_itself():
    source = played_back(recorded())
    assert n_step(source, 1, GAMMA) is source
    with pytest.raises(ValueError, match="n_step: 0 was given; allowed: a whole number >= 1"):
        n_step(source, 0, GAMMA)


def test_values_do_not_depend_on_n():
    """On the delayed probe, seen two steps at a time: γ² merit(a) at the start, then γ and 1."""
    # still at 0.5, so that all that is seen belongs to the policy
    actor = (lambda key: jnp.zeros(()), lambda p, o: jnp.full((len(o), 1), np.arctanh(0.5)) + p)
    critic = (lambda key: jnp.zeros(3), lambda q, o, a: q[(o[:, 0] + 1).astype(int)])
    game = gacf.ddpg(
        envs.make("probe-delayed"), actor, critic, discount=GAMMA, n_step=2, exploration=0.0,
        warmup=0, batch_size=32, capacity=64, target_rate=1.0,
    )  # fmt: skip
    algorithm = gacf.compose(game, rules.player_step("critic", optax.sgd(1.0)), still="actor")

    @jax.jit
    def values(key):
        step = lambda state, _: (algorithm.step(state)[0], None)  # noqa: E731
        return jax.lax.scan(step, algorithm.init(key), length=200)[0].params["critic"]

    np.testing.assert_allclose(values(KEY), [GAMMA**2, GAMMA, 1], rtol=1e-4)
