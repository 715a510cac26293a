"""Passes over one batch, in pieces."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf import rules
from gacf.rules.minibatches import _orders

KEY = jax.random.key(0)
SIZE = 12


def counting():
    """An actor that counts how often each example was seen, in units of the step size."""

    def loss(params, batch, key):
        return -jnp.sum(params["actor"][batch["row"]])

    rows = {"row": jnp.arange(SIZE), "other": jnp.zeros((SIZE, 2))}
    return gacf.from_losses({"actor": jnp.zeros(SIZE)}, {"actor": loss}, lambda key: rows)


def moved(game, rule, key=KEY):
    params, world = game.init(key)

    def update(key):
        return rule.update(game, params, world, rule.init(params), key)

    return jax.jit(update)(key)


@pytest.mark.long
@pytest.mark.parametrize(("epochs", "count"), [(1, 3), (1, 1), (4, 6), (2, SIZE)])
def test_each_example_is_seen_once_a_pass(epochs, count):
    step = rules.player_step("actor", optax.sgd(1.0))
    params, _, outcomes = moved(counting(), rules.minibatches(step, epochs, count))
    np.testing.assert_array_equal(params["actor"], epochs)
    assert list(outcomes) == ["actor"]


@pytest.mark.long
def test_orders_differ_between_passes_and_keys():
    """With a step size that decays, what an example has added tells when it was seen."""

    def when(key, epochs):
        schedule = optax.sgd(lambda step: 10.0 ** -(step.astype(jnp.float32)))
        step = rules.player_step("actor", schedule)
        rule = rules.minibatches(step, epochs, 3)
        return np.asarray(moved(counting(), rule, key)[0]["actor"])

    first, second = when(KEY, 1), when(jax.random.key(1), 1)
    assert sorted(first) == pytest.approx([0.01] * 4 + [0.1] * 4 + [1] * 4)
    assert np.any(first != second)
    both = when(KEY, 2)
    again = both - first
    assert sorted(again) == pytest.approx([1e-5] * 4 + [1e-4] * 4 + [1e-3] * 4, abs=1e-7)
    assert np.any(np.abs(again * 1e3 - first) > 1e-3)


def regression():
    def actor(params, batch, key):
        x, y = batch
        return jnp.mean((x @ params["actor"] - y + 0.1 * params["critic"]) ** 2)

    def critic(params, batch, key):
        _, y = batch
        noise = jax.random.normal(key)
        return jnp.mean((params["critic"] - y) ** 2) + 0.1 * noise * params["critic"]

    def sample(key):
        x = jax.random.normal(key, (SIZE, 2))
        return x, jnp.sin(x[:, 0])

    start = {"actor": jnp.ones(2), "critic": 0.5}
    return gacf.from_losses(start, {"actor": actor, "critic": critic}, sample)


@pytest.mark.long
def test_it_equals_a_loop_by_hand():
    game, epochs, count = regression(), 3, 4
    optimizers = {p: optax.adam(0.1) for p in game.losses}
    rule = rules.minibatches(rules.simultaneous(optimizers), epochs, count)
    found, _, outcomes = moved(game, rule)

    params, world = game.init(KEY)
    states = {p: optimizers[p].init(params[p]) for p in params}
    batch_key, order_key, update_key = jax.random.split(KEY, 3)
    x, y = game.sample(world, batch_key)
    keys = iter(jax.random.split(update_key, epochs * count))
    for order in _orders(order_key, epochs, SIZE):
        for piece in order.reshape(count, -1):
            _, loss_key = jax.random.split(next(keys))
            here = rules.field(game, world, (x[piece], y[piece]), loss_key)
            steps = {p: here.gradient(p, params) for p in params}
            last = {p: float(outcome.metrics["loss"]) for p, (_, outcome) in steps.items()}
            for p, (slope, _) in steps.items():
                change, states[p] = optimizers[p].update(slope, states[p])
                params[p] = optax.apply_updates(params[p], change)
    for p in params:
        np.testing.assert_allclose(found[p], params[p], rtol=1e-5)
        # of the outcomes the last piece's are kept
        assert float(outcomes[p].metrics["loss"]) == pytest.approx(last[p], rel=1e-4)


@pytest.mark.long
def test_it_is_a_rule_like_others():
    game = regression()
    optimizers = {p: optax.sgd(0.1) for p in game.losses}
    inner = rules.alternating(optimizers)
    rule = rules.sequence(
        rules.minibatches(inner, 2, 3), rules.player_step("critic", optax.sgd(0.1))
    )
    state, metrics = gacf.run(gacf.compose(game, rule), KEY, 3, seeds=2, map="vmap")
    assert state.params["actor"].shape == (2, 2)
    assert metrics["actor/loss"].shape == (2, 3)


@pytest.mark.parametrize(
    ("epochs", "count", "message"),
    [
        (0, 1, "minibatches: epochs: 0 was given; allowed: a whole number >= 1"),
        (1, 0, "minibatches: count: 0 was given"),
        (1, 5, "minibatches: count: 5 does not divide the batch of 12"),
    ],
)
def test_numbers_that_do_not_fit(epochs, count, message):
    step = rules.player_step("actor", optax.sgd(1.0))
    with pytest.raises(ValueError, match=message) as error:
        moved(counting(), rules.minibatches(step, epochs, count))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("batch", [(), (jnp.zeros(3), jnp.zeros(4)), jnp.zeros(())])
def test_a_batch_without_one_leading_axis_is_refused(batch):
    game = gacf.from_losses(
        {"actor": 0.0}, {"actor": lambda p, b, k: p["actor"]}, lambda key: batch
    )
    rule = rules.minibatches(rules.player_step("actor", optax.sgd(1.0)), 1, 1)
    with pytest.raises(ValueError, match=r"minibatches: the batch has leading axes .*, not one"):
        moved(game, rule)


@pytest.mark.long
@pytest.mark.parametrize("size", [1, 2, 7, 4_096])
def test_an_order_holds_every_place_once(size):
    orders = np.asarray(_orders(KEY, 3, size))
    np.testing.assert_array_equal(np.sort(orders, axis=1), np.tile(np.arange(size), (3, 1)))


@pytest.mark.long
def test_every_order_is_as_likely():
    """720 orders of 6 places: χ² of their counts within 5 deviations of its mean."""
    n = 72_000
    orders = np.asarray(_orders(KEY, n, 6)) @ 6 ** np.arange(6)
    _, counts = np.unique(orders, return_counts=True)
    assert len(counts) == 720
    chi2 = np.sum((counts - n / 720) ** 2) / (n / 720)
    assert abs(chi2 - 719) < 5 * np.sqrt(2 * 719)


@pytest.mark.parametrize(("size", "rows"), [(2**14, 8), (2**15, 2)])
def test_no_place_keeps_its_order_in_large_batches(size, rows):
    """Of the neighbours in a random order half ascend; the variance of their number is known."""
    orders = np.asarray(jax.jit(lambda: _orders(KEY, rows, size))())
    ascents = (np.diff(orders, axis=1) > 0).sum()
    mean, deviation = rows * (size - 1) / 2, np.sqrt(rows * (size + 1) / 12)
    assert abs(ascents - mean) < 4 * deviation
    # and every place goes everywhere as often: the mean place of the first, middle and last
    expected = (size - 1) / 2
    for column in (0, size // 2, size - 1):
        spread = size / np.sqrt(12 * rows)
        assert abs(orders[:, column].mean() - expected) < 4 * spread


def test_every_pair_of_first_places_is_as_likely():
    """Orders of 300 places, which take two rounds: χ² of where a place and its neighbour go."""
    size, rows, parts = 300, 6_000, 10
    orders = np.asarray(jax.jit(lambda: _orders(KEY, rows, size))())
    where = np.argsort(orders, axis=1)[:, :2] * parts // size
    counts = np.bincount(where @ [parts, 1], minlength=parts**2)
    same = np.eye(parts, dtype=bool).ravel()
    group = size // parts
    expected = np.where(same, group * (group - 1), group**2) / (size * (size - 1)) * rows
    chi2 = np.sum((counts - expected) ** 2 / expected)
    assert abs(chi2 - (parts**2 - 1)) < 5 * np.sqrt(2 * (parts**2 - 1))
