"""Policies against scipy, and against numerical densities."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

import gacf
from gacf.methods.actor_critic import policies, policy_of
from gacf.methods.actor_critic.policies import (
    categorical,
    gaussian,
    shared_scale,
    squashed_gaussian,
)
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


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
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


MASKED = np.array([[0.2, -0.3, -np.inf], [-np.inf, 1.0, -np.inf], [-2.0, 0.5, 3.0]])
LEAST = float(np.finfo(np.float32).min)


@pytest.mark.long
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("mask", [-np.inf, -1e9, LEAST])
def test_masked_actions_are_left_out(mask):
    policy: Any = categorical(3)
    logits = np.where(np.isinf(MASKED), mask, MASKED)
    p = np.exp(MASKED) / np.exp(MASKED).sum(axis=1, keepdims=True)
    allowed, action = np.array([0, 1, 2]), jnp.array([0, 1, 2])
    np.testing.assert_allclose(policy.entropy(logits), stats.entropy(p, axis=1), atol=1e-12)
    told = policy.log_prob(jnp.asarray(logits), action)
    np.testing.assert_allclose(told, np.log(p[np.arange(3), allowed]), atol=1e-12)
    assert policy.log_prob(jnp.asarray(logits), jnp.array([2, 0, 0]))[0] <= mask
    # ∂H/∂logit_j = −p_j (log p_j + H), and that of log p_i is 1(i = j) − p_j; 0 where p_j is
    slope = jax.grad(lambda x: jnp.sum(policy.entropy(x)))(jnp.asarray(logits))
    logs = np.log(np.where(p > 0, p, 1))
    np.testing.assert_allclose(slope, -p * (logs + stats.entropy(p, axis=1)[:, None]), atol=1e-12)
    score = jax.grad(lambda x: jnp.sum(policy.log_prob(x, action)))(jnp.asarray(logits))
    np.testing.assert_allclose(score, np.eye(3)[allowed] - p, atol=1e-12)
    many = jnp.repeat(jnp.asarray(logits), 500, axis=0)
    drawn, _ = policy.sample(many, policy.noise(KEY, len(many)))
    counts = np.stack([np.bincount(row, minlength=3) for row in np.reshape(drawn, (3, 500))])
    assert (
        not np.any(counts[p == 0]) and stats.chisquare(counts[0, :2], 500 * p[0, :2]).pvalue > 1e-3
    )


@pytest.mark.long
def test_a_row_in_which_all_is_masked_is_uniform():
    policy: Any = categorical(3)
    logits = jnp.array([[-jnp.inf, -jnp.inf, -jnp.inf], [0.0, 1.0, -jnp.inf]])

    @jax.jit
    def tell(logits, action):
        return policy.entropy(logits), policy.log_prob(logits, action)

    entropy, log_prob = tell(logits, jnp.array([2, 1]))
    assert float(entropy[0]) == pytest.approx(np.log(3), rel=1e-6)
    assert float(log_prob[0]) == pytest.approx(-np.log(3), rel=1e-6)
    for told in range(2):
        slope = jax.grad(lambda x, i=told: jnp.sum(tell(x, jnp.array([2, 1]))[i]))(logits)
        assert np.all(np.isfinite(slope)) and not np.any(slope[0])
    drawn, _ = policy.sample(jnp.tile(logits[:1], (900, 1)), policy.noise(KEY, 900))
    assert stats.chisquare(np.bincount(drawn, minlength=3)).pvalue > 1e-3


def exact(raw, mean, log_scale):
    """Log of the squashed normal density at tanh u, in double precision, from u."""
    raw = np.asarray(raw, np.float64)
    slope = np.log(4) - 2 * np.abs(raw) - 2 * np.log1p(np.exp(-2 * np.abs(raw)))
    return stats.norm.logpdf(raw, mean, np.exp(log_scale)) - slope


@pytest.mark.parametrize("log_scale", [-3.0, -1.0, 0.0, 1.5])
def test_log_probabilities_of_samples_are_exact_however_far_out(log_scale):
    policy: Any = squashed_gaussian(1)
    mean = np.linspace(-20, 20, 161).astype(np.float32)[:, None]
    output = jnp.concatenate([mean, np.full_like(mean, log_scale)], axis=1)
    noise = jax.random.normal(KEY, mean.shape)
    _, told = jax.jit(policy.sample)(output, noise)
    raw = mean.astype(np.float64) + np.exp(log_scale) * np.asarray(noise, np.float64)
    np.testing.assert_allclose(told, exact(raw, mean, log_scale)[:, 0], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("log_scale", [-1.0, 0.0, 1.5])
@pytest.mark.parametrize("mean", [-6.0, 0.0, 7.0])
def test_log_probabilities_of_given_actions_are_those_of_double_precision(mean, log_scale):
    policy: Any = squashed_gaussian(1)
    edges = 1 - np.float32(2.0) ** -np.arange(1, 22, dtype=np.float32)  # up to 1 − 4ε
    action = np.concatenate([-edges, np.linspace(-0.9, 0.9, 21), edges]).astype(np.float32)
    output = jnp.tile(jnp.array([[mean, log_scale]]), (len(action), 1))
    told = jax.jit(policy.log_prob)(output, action[:, None])
    wanted = exact(np.arctanh(action.astype(np.float64)), mean, log_scale)
    np.testing.assert_allclose(told, wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.usefixtures("x64")
def test_recorded_actions_have_a_density_whose_mass_is_one(dtype):
    """The mass of what lies inside, and of both ends as `log_prob` has them, is 1."""
    policy: Any = squashed_gaussian(1)
    width = 2 * float(np.finfo(dtype).eps)
    mean, log_scale = np.meshgrid([-20.0, 0.0, 7.5, 12.0, 20.0], [-2.0, 0.0, 1.0])
    output = jnp.stack([mean.ravel(), log_scale.ravel()], axis=1)
    told = jax.jit(policy.log_prob)
    ends = sum(np.exp(told(output, jnp.full((15, 1), end, dtype))) * width for end in (-1, 1))
    u = np.arctanh(1 - width)
    below, above = (stats.norm.cdf(x, mean, np.exp(log_scale)).ravel() for x in (-u, u))
    np.testing.assert_allclose(ends + above - below, 1, atol=1e-9)


def test_an_action_at_its_bound_draws_the_mean_outward_but_not_without_end():
    policy: Any = squashed_gaussian(1)
    slope = jax.jit(
        jax.vmap(jax.grad(lambda output: policy.log_prob(output[None], jnp.ones((1, 1)))[0]))
    )
    outputs = jnp.array([[-30.0, -3.0], [0.0, 0.0], [7.0, 0.0], [12.0, 0.0], [30.0, -20.0]])
    found = np.asarray(slope(outputs))
    assert np.all(np.isfinite(found)) and np.all(found[:3, 0] > 0)
    np.testing.assert_allclose(found[3:], 0, atol=1e-3)


@pytest.mark.parametrize("log_scale", [-19.0, -8.0, -1.0, 1.0])
def test_the_slope_at_a_bound_is_that_of_the_normal_tail(log_scale):
    """d/dμ log P(u > u_ε) = φ/(σ Φ), by scipy in double precision from the tail's ratio."""
    policy: Any = squashed_gaussian(1)
    mean = np.linspace(-15, 7, 23).astype(np.float32)
    output = jnp.stack([mean, np.full_like(mean, log_scale)], axis=1)
    one = jnp.ones((1, 1))
    slope = jax.jit(jax.vmap(jax.grad(lambda row: policy.log_prob(row[None], one)[0])))(output)
    z = (mean - np.arctanh(1 - 2.0**-22)) * np.exp(-log_scale)
    ratio = np.sqrt(2 / np.pi) / special.erfcx(-z / np.sqrt(2))
    np.testing.assert_allclose(slope[:, 0], ratio * np.exp(-log_scale), rtol=1e-4)
    np.testing.assert_allclose(slope[:, 1], -ratio * z, rtol=1e-4)


@pytest.mark.long
def test_actions_out_of_bounds_have_no_density_and_whole_numbers_are_actions():
    policy: Any = squashed_gaussian(1)
    output = jnp.array([[0.5, 0.0]] * 3)
    told = policy.log_prob(output, jnp.array([[1.5], [1.0], [-2.0]]))
    assert np.isneginf(told[0]) and np.isfinite(told[1]) and np.isneginf(told[2])
    whole = policy.log_prob(output, jnp.array([[1], [0], [-1]]))
    np.testing.assert_array_equal(whole, policy.log_prob(output, jnp.array([[1.0], [0.0], [-1.0]])))


def test_noise_that_is_inferred_makes_the_action_again():
    policy: Any = squashed_gaussian(1)
    output = jnp.array([[0.3, -1.0], [12.0, -1.0], [0.0, 0.0], [-3.0, 1.0]])
    action = jnp.array([[0.5], [1.0], [1.0], [-1.0]])
    noise = policy.infer(output, action)
    np.testing.assert_allclose(policy.sample(output, noise)[0], action, atol=3e-7)
    assert float(noise[1, 0]) == 0  # the likeliest noise of those that do


@pytest.mark.long
@pytest.mark.parametrize("make", [gaussian, squashed_gaussian])
@pytest.mark.parametrize(("start", "bound"), [(5.0, 2.0), (2.5, 2.0), (-23.0, -20.0)])
def test_a_scale_out_of_range_is_cut_and_finds_back(make, start, bound):
    """By the density of what a policy in the middle of the range does, as in cloning."""
    policy: Any = make(1)
    action = jnp.tanh(jnp.linspace(-0.5, 0.5, 8))[:, None] if start > 0 else jnp.full((8, 1), 1e-6)

    def loss(log_scale):
        output = jnp.stack([jnp.zeros(8), jnp.full(8, log_scale)], axis=1)
        return -jnp.mean(policy.log_prob(output, action))

    assert float(loss(start)) == float(loss(bound))
    slope = jax.grad(loss)
    assert np.sign(slope(start)) == np.sign(start)  # descent leads inward
    inside = bound - 1e-3 * np.sign(start)
    assert float(slope(start)) == pytest.approx(float(slope(inside)), rel=1e-2)

    @jax.jit
    def descend(at):
        return jax.lax.fori_loop(0, 400, lambda _, x: x - 0.02 * jnp.sign(slope(x)), at)

    assert policies.LOG_SCALES[0] < float(descend(start)) < policies.LOG_SCALES[1]
    # forward derivatives, which compatible critics need, are the same
    tangent = jax.jvp(loss, (start,), (1.0,))[1]
    assert float(tangent) == pytest.approx(float(slope(start)), rel=1e-5)


@pytest.mark.parametrize("start", [-20.1, 20.5, np.nan, np.inf])
def test_a_start_of_the_shared_scale_out_of_range_is_refused(start):
    with pytest.raises(ValueError, match=r"log_scale: .* allowed: a number in \[-20, 20\]"):
        gacf.ppo("Pendulum-v1", log_scale=start)


@pytest.mark.long
def test_a_wide_shared_scale_is_what_it_says():
    env = gacf.envs.make("Pendulum-v1")
    actor, policy = policy_of(
        env, (lambda key: jnp.zeros(1), lambda p, o: p[None] + 0 * o[:, :1]), 3.0
    )
    params, _ = actor.init(KEY, jnp.zeros((2, 3)))
    output, _ = actor.apply(params, {}, jnp.zeros((2, 3)))
    action, _ = policy.sample(output, jnp.ones((2, 1)))
    np.testing.assert_allclose(action, np.exp(3), rtol=1e-6)
    entropy: Any = policy.entropy
    slope = jax.grad(lambda p: jnp.sum(entropy(actor.apply(p, {}, jnp.zeros((2, 3)))[0])))
    np.testing.assert_allclose(slope(params)["log_scale"], 2)  # that of log σ, in two states
