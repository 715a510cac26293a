"""Heads against what they should encode, decode and converge to."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gacf.methods.actor_critic import heads
from gacf.methods.actor_critic.divergence import squared_error

LOW, HIGH, BINS = -2.0, 4.0, 25
WIDTH = {"two_hot": (HIGH - LOW) / (BINS - 1), "hl_gauss": (HIGH - LOW) / BINS}
ENCODERS = {
    "two_hot": heads.two_hot(LOW, HIGH, BINS),
    "hl_gauss": heads.hl_gauss(LOW, HIGH, BINS, width=0.75),
}
INSIDE = np.linspace(-1.1, 3.1, 23).astype(np.float32)  # where a Gaussian is not cut off


def encoded(head, target):
    """p of the cross-entropy's target: the gradient at equal logits is 1/K − p."""
    target = jnp.asarray(target)
    zeros = jnp.zeros((len(target), *head.shape))
    gradient = jax.jit(jax.grad(lambda logits: jnp.sum(head.divergence(logits, target))))(zeros)
    return np.asarray(1 / head.shape[0] - gradient, np.float64)


def centres(head):
    return np.asarray(head.value(1e4 * jnp.eye(BINS)), np.float64)


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoding_is_a_distribution_whose_mean_is_the_target(name):
    head = ENCODERS[name]
    p = encoded(head, INSIDE)
    assert p.shape == (23, BINS) and p.min() > -1e-6
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(p @ centres(head), INSIDE, atol=1e-3 * WIDTH[name])


@pytest.mark.parametrize("name", ENCODERS)
def test_the_minimiser_of_the_cross_entropy_decodes_to_the_target(name):
    head = ENCODERS[name]
    logits = jnp.log(jnp.maximum(encoded(head, INSIDE), 1e-12)).astype(jnp.float32)
    np.testing.assert_allclose(head.value(logits), INSIDE, atol=2e-3 * WIDTH[name])

    @jax.jit
    def loss(logits):
        return jnp.sum(head.divergence(logits, jnp.asarray(INSIDE)))

    # the cross-entropy is convex in the logits: where its gradient is 0 is its minimum
    np.testing.assert_allclose(jax.grad(loss)(logits), 0, atol=2e-6)
    assert float(loss(logits)) < float(loss(logits + 0.1 * jnp.sin(jnp.arange(BINS))[None]))


def test_two_hot_shares_a_target_between_its_neighbours():
    head = heads.two_hot(0.0, 1.0, 5)
    p = encoded(head, [0.3, 0.5, -7.0, 9.0])
    wanted = [[0, 0.8, 0.2, 0, 0], [0, 0, 1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1]]
    np.testing.assert_allclose(p, wanted, atol=1e-6)


def test_hl_gauss_spreads_a_target_like_a_normal_distribution():
    head = ENCODERS["hl_gauss"]
    p, at, step = encoded(head, INSIDE), centres(head), WIDTH["hl_gauss"]
    np.testing.assert_allclose(at, LOW + step * (np.arange(BINS) + 0.5), rtol=1e-5)
    variance = p @ at**2 - (p @ at) ** 2
    # Sheppard: grouping into bins adds Δ²/12
    np.testing.assert_allclose(variance, (0.75 * step) ** 2 + step**2 / 12, rtol=1e-2)
    edges = LOW + step * np.arange(BINS + 1)
    mass = np.diff(stats.norm.cdf(edges[None], INSIDE[:, None], 0.75 * step), axis=1)
    np.testing.assert_allclose(p, mass, atol=1e-5)


def test_quantile_loss_in_numbers():
    # τ = ¼, ¾; errors 1 and −1, whose Huber losses are ½
    head = heads.quantile(2)
    output = jnp.array([[0.0, 2.0]])
    wrong = jax.jit(lambda target: head.divergence(output, target)[0])
    alone = [float(wrong(jnp.array([y]))) for y in (1.0, 4.0)]
    assert alone[0] == pytest.approx(0.25)
    # of a distribution: the mean over its quantiles
    assert float(wrong(jnp.array([[1.0, 1.0]]))) == pytest.approx(0.25)
    assert float(wrong(jnp.array([[1.0, 4.0]]))) == pytest.approx(np.mean(alone))
    assert head.backup(output).tolist() == output.tolist()


def test_quantiles_of_a_known_distribution_are_the_fixed_point():
    levels = (np.arange(5) + 0.5) / 5
    returns = stats.expon.ppf((np.arange(4000) + 0.5) / 4000).astype(np.float32)
    head = heads.quantile(5, threshold=1e-3)  # nearly the absolute error

    @jax.jit
    def fitted(start):
        def loss(output):
            return jnp.mean(head.divergence(jnp.tile(output[None], (4000, 1)), returns))

        rates = 2.0 / (1 + jnp.arange(400.0) / 20)
        descend = lambda q, rate: (q - rate * jax.grad(loss)(q), None)  # noqa: E731
        return jax.lax.scan(descend, start, rates)[0]

    found = fitted(jnp.zeros(5))
    np.testing.assert_allclose(found, stats.expon.ppf(levels), atol=0.01)
    assert float(head.value(found[None])[0]) == pytest.approx(float(found.mean()), rel=1e-6)


OUTPUT = jnp.array([[3.0, 1.0, 2.0], [0.0, 4.0, -1.0]])


def test_an_ensemble_is_read_by_its_reductions():
    single = heads.scalar(squared_error)
    wanted = {"min": [1, -1], "mean": [2, 1], "max": [3, 4], "first": [3, 0]}
    for name, numbers in wanted.items():
        head = heads.several(single, 3, value=name, backup="min")
        assert head.shape == (3,)
        np.testing.assert_allclose(head.value(OUTPUT), numbers)
        np.testing.assert_allclose(head.backup(OUTPUT), [1, -1])
    assert heads.several(single, 1) is single
    of_quantiles = heads.several(heads.quantile(2), 2, value="mean")
    output = jnp.array([[[0.0, 2.0], [1.0, 4.0]]])
    assert of_quantiles.shape == (2, 2)
    assert of_quantiles.value(output).tolist() == [1.75]
    assert of_quantiles.backup(output).tolist() == [[0, 2]]


@pytest.mark.parametrize("name", ["scalar", "two_hot", "quantile"])
def test_each_member_learns_alone(name):
    single = {
        "scalar": heads.scalar(squared_error),
        "two_hot": heads.two_hot(-1.0, 1.0, 4),
        "quantile": heads.quantile(4),
    }[name]
    head = heads.several(single, 3)
    output = jax.random.normal(jax.random.key(0), (5, *head.shape))
    target = jnp.linspace(-0.8, 0.9, 5)
    slope = jax.jit(jax.grad(lambda x: jnp.sum(head.divergence(x, target))))
    lone = jax.jit(jax.grad(lambda x: jnp.sum(single.divergence(x, target))))
    together = slope(output)
    for i in range(3):
        alone = lone(output[:, i])
        np.testing.assert_allclose(together[:, i], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: heads.two_hot(0, 1, 1), "bins: 1 was given; allowed: a whole number >= 2"),
        (lambda: heads.two_hot(1, 1), "high: 1 was given; allowed: a number > low, 1"),
        (lambda: heads.hl_gauss(0, 1, width=0), "width: 0 was given"),
        (lambda: heads.quantile(0), "quantiles: 0 was given"),
        (lambda: heads.quantile(2, 0.0), "threshold: 0.0 was given"),
        (
            lambda: heads.several(heads.quantile(2), 2, value="minn"),
            "value: 'minn' is unknown; did you mean 'min'",
        ),
        (lambda: heads.several(heads.quantile(2), 0), "members: 0 was given"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_bounds_may_be_traced():
    def value(low, high):
        return heads.two_hot(low, high, 3).value(jnp.zeros((1, 3)))[0]

    assert float(jax.jit(value)(1.0, 4.0)) == pytest.approx(2.5)
