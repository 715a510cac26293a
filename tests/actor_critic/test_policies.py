"""Policies against scipy, and against numerical densities."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gacf.actor_critic import policies
from gacf.actor_critic.policies import categorical, gaussian, shared_scale, squashed_gaussian
from gacf.networks import model

KEY = jax.random.key(0)
MEAN, LOG_SCALE = np.array([[0.3, -1.0], [2.0, 0.1]]), np.array([[-0.5, 0.4], [0.0, -1.5]])
OUTPUT = np.concatenate([MEAN, LOG_SCALE], axis=1)
SCALE = np.exp(LOG_SCALE)


@pytest.mark.usefixtures("x64")
def test_gaussian_agrees_with_scipy():
    policy: Any = gaussian(2)
    output, noise = jnp.asarray(OUTPUT), policy.noise(KEY, 2)
    action, log_prob = policy.sample(output, noise)
    np.testing.assert_allclose(action, MEAN + SCALE * noise, rtol=1e-12)
    wanted = stats.norm.logpdf(np.asarray(action), MEAN, SCALE).sum(axis=1)
    np.testing.assert_allclose(log_prob, wanted, rtol=1e-12)
    np.testing.assert_allclose(policy.log_prob(output, action), wanted, rtol=1e-12)
    np.testing.assert_allclose(policy.entropy(output), stats.norm.entropy(MEAN, SCALE).sum(axis=1))
    np.testing.assert_array_equal(policy.mode(output), MEAN)
    np.testing.assert_allclose(policy.infer(output, action), noise, rtol=1e-12)
    assert policy.width == 4


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("mean", [0.0, 0.8])
def test_squashed_gaussian_is_a_density_and_the_right_one(mean, scale):
    policy: Any = squashed_gaussian(1)
    # equal steps before squashing, so that the ends are seen
    raw = np.linspace(mean - 9 * scale, mean + 9 * scale, 4001)
    action = np.tanh(raw)
    output = jnp.tile(jnp.array([[mean, np.log(scale)]]), (len(raw), 1))
    density = np.exp(np.asarray(policy.log_prob(output, jnp.asarray(action)[:, None])))
    inside = np.abs(action) < 1 - 1e-12  # the others differ from 1 by rounding alone
    assert np.trapezoid(density[inside], action[inside]) == pytest.approx(1, abs=1e-4)
    probability = stats.norm.cdf(raw, mean, scale)
    slope = np.gradient(probability, action)
    middle = np.abs(action) < 0.99
    np.testing.assert_allclose(density[middle], slope[middle], rtol=2e-2, atol=1e-4)


@pytest.mark.usefixtures("x64")
def test_squashed_gaussian_tells_of_its_samples_what_it_tells_of_actions():
    policy: Any = squashed_gaussian(2)
    output, noise = jnp.asarray(OUTPUT), policy.noise(KEY, 2)
    action, log_prob = policy.sample(output, noise)
    np.testing.assert_allclose(action, np.tanh(MEAN + SCALE * noise), rtol=1e-12)
    np.testing.assert_allclose(policy.log_prob(output, action), log_prob, rtol=1e-8)
    np.testing.assert_allclose(policy.infer(output, action), noise, rtol=1e-8)
    np.testing.assert_allclose(policy.mode(output), np.tanh(MEAN), rtol=1e-12)
    assert policy.entropy is None


def test_squashed_gaussian_far_out_is_finite():
    policy: Any = squashed_gaussian(1)
    output, noise = jnp.array([[40.0, 1.0], [-40.0, -30.0], [0.0, 9.0]]), jnp.ones((3, 1))

    @jax.jit
    def tell(output):
        action, log_prob = policy.sample(output, noise)
        slope = jax.grad(lambda x: jnp.sum(policy.sample(x, noise)[1]))(output)
        return action, (log_prob, policy.log_prob(output, action), slope)

    action, others = tell(output)
    assert np.all(np.abs(action) <= 1) and all(np.all(np.isfinite(x)) for x in others)
    # log σ is bounded
    low, high = policies.LOG_SCALES
    plain: Any = gaussian(1)
    bounded = plain.entropy(output) - float(stats.norm.entropy())
    np.testing.assert_allclose(bounded, [1, low, high], rtol=1e-5)


def test_categorical_frequencies():
    policy: Any = categorical(4)
    logits = jnp.array([[0.0, 1.0, -1.0, 2.0]])
    p = np.exp(np.asarray(logits[0], np.float64))
    p /= p.sum()
    n = 20_000
    action, log_prob = policy.sample(jnp.tile(logits, (n, 1)), policy.noise(KEY, n))
    counts = np.bincount(action, minlength=4)
    assert action.dtype == jnp.int32 and stats.chisquare(counts, n * p).pvalue > 1e-3
    np.testing.assert_allclose(log_prob, np.log(p)[np.asarray(action)], rtol=1e-5)
    assert float(policy.entropy(logits)[0]) == pytest.approx(stats.entropy(p), rel=1e-5)
    assert policy.mode(logits).tolist() == [3]
    assert policy.infer is None and policy.width == 4


def test_a_shared_scale_is_a_parameter_of_its_own():
    mean = model("actor", (lambda key: jnp.ones(()), lambda k, o: k * o))
    actor = shared_scale(mean, 2, initial=-0.5)
    seen = jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    params, _ = actor.init(KEY, seen)
    params["log_scale"] = jnp.array([0.1, 0.2])
    output, _ = actor.apply(params, {}, seen)
    np.testing.assert_allclose(output[:, :2], seen)
    np.testing.assert_allclose(output[:, 2:], [[0.1, 0.2]] * 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gaussian(0), "size: 0 was given"),
        (lambda: categorical(0), "n: 0 was given"),
        (
            lambda: shared_scale(
                model("actor", (lambda key: 0.0, lambda k, o: jnp.zeros((len(o), 4)))), 2
            ).apply({"mean": 0.0, "log_scale": jnp.zeros(2)}, {}, jnp.zeros((3, 1))),
            r"actor: its output is \[3, 4\]; allowed: \[B, 2\]",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
