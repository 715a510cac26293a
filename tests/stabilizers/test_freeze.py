from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf import Outcome, rules
from gacf.stabilizers import freeze

OPTIMIZERS = {
    "adam": optax.adam(0.1),
    "adamw": optax.adamw(0.1, weight_decay=0.1),
    "momentum": optax.sgd(0.1, momentum=0.9),
    "schedule": optax.sgd(optax.exponential_decay(0.1, 1, 0.5)),
}
PARAMS = {"w": jnp.array([1.5, -0.0, 0.0, -2.0]), "b": jnp.array(3.0)}
GRADIENT = {"w": jnp.array([0.5, 1.0, -1.0, 2.0]), "b": jnp.array(-1.0)}


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def walk(optimizer, steps: int, **of_step) -> Any:
    """Parameters and states after each of `steps` updates."""

    def step(carry, i):
        params, state = carry
        change, state = optimizer.update(
            GRADIENT, state, params, step=i, metrics={"accuracy": i / 10}, **of_step
        )
        carry = optax.apply_updates(params, change), state
        return carry, carry

    return jax.lax.scan(step, (PARAMS, optimizer.init(PARAMS)), jnp.arange(steps))[1]


@pytest.mark.long
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_frozen_is_bit_identical_and_then_goes_on_as_if_nothing_had_been(name):
    plain = optax.with_extra_args_support(OPTIMIZERS[name])
    rests = freeze(plain, lambda step, metrics: (step >= 2) & (step < 5))
    free, gated = walk(plain, 4), walk(rests, 7)
    at = lambda tree, i: bits(jax.tree.map(lambda leaf: leaf[i], tree))  # noqa: E731
    for i in (2, 3, 4):
        assert at(gated, i) == at(gated, 1)
    for free_step, gated_step in ((0, 0), (1, 1), (2, 5), (3, 6)):
        assert at(free, free_step) == at(gated, gated_step)
    assert at(gated, 5) != at(gated, 4)


def test_always_frozen_keeps_every_bit_of_the_start():
    rests = freeze(OPTIMIZERS["adamw"], lambda step, metrics: True)
    params, _ = walk(rests, 1)
    assert bits(jax.tree.map(lambda leaf: leaf[0], params)) == bits(PARAMS)


def test_metrics_decide_and_reach_a_chain():
    rests = optax.chain(
        optax.clip(10.0), freeze(optax.sgd(1.0), lambda step, metrics: metrics["accuracy"] > 0.25)
    )
    params, _ = walk(rests, 6)
    np.testing.assert_allclose(params["b"], [4, 5, 6, 6, 6, 6])


@pytest.mark.long
def test_rules_hand_over_step_and_metrics_seed_by_seed():
    def loss(own, params, world, batch, key):
        return own, Outcome({"accuracy": jnp.abs(own)}, {})

    game = gacf.Game(
        losses={"actor": loss},
        init=lambda key: ({"actor": jax.random.uniform(key, minval=0.0, maxval=3.0)}, {}),
    )

    def play(when, steps):
        rule = rules.player_step("actor", freeze(optax.sgd(0.25), when))
        return gacf.run(gacf.compose(game, rule), jax.random.key(0), steps, seeds=4)[0]

    start = play(lambda step, metrics: True, 1).params["actor"]
    by_step = play(lambda step, metrics: step >= 3, 5).params["actor"]
    np.testing.assert_allclose(by_step, start - 0.75, rtol=1e-6)
    by_metric = play(lambda step, metrics: metrics["accuracy"] < 1.0, 30).params["actor"]
    expected = np.where(start < 1, start, start - 0.25 * np.ceil((start - 1) / 0.25 + 1e-6))
    np.testing.assert_allclose(by_metric, expected, atol=1e-5)
    assert len(np.unique(np.asarray(start) < 1)) == 2  # some rested from the start, some did not


def test_errors():
    state = optax.sgd(0.1).init(PARAMS)
    with pytest.raises(ValueError, match="step: nothing was given"):
        freeze(optax.sgd(0.1), lambda step, metrics: True).update(GRADIENT, state, PARAMS)
    vector = freeze(optax.sgd(0.1), lambda step, metrics: jnp.array([True, False]))
    with pytest.raises(ValueError, match=r"when: a result of shape \(2,\)"):
        vector.update(GRADIENT, state, PARAMS, step=0, metrics={})
    unheard = freeze(optax.sgd(0.1), lambda step, metrics: metrics["acuracy"] > 0.9)
    with pytest.raises(
        ValueError, match="when: metric 'acuracy' is not reported; did you mean 'ac"
    ):
        unheard.update(GRADIENT, state, PARAMS, step=0, metrics={"accuracy": jnp.array(1.0)})
