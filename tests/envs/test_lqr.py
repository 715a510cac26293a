"""The regulator as an environment, against the closed forms of the regulator as a game."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gacf import envs
from gacf.games.lqr import LQR, gain_gradient, value
from tests.envs.contract import KEY, origins, play_all

TWO = LQR([[0.9, 0.3], [-0.2, 0.8]], [[0.0], [1.0]], [[1.0, 0.2], [0.2, 0.5]], [[0.3]], 0.9)
GAIN = np.array([[0.1, 0.4]])


def regulator(spec=TWO, **options):
    a, b, q, r, _ = spec
    return envs.make("LQR", a=a, b=b, q=q, r=r, **options)


def returns(env, gain, key, steps, discount):
    """The first state and the discounted return of u = −Ks."""
    reset_key, play_key = jax.random.split(key)
    state, first = env.reset(reset_key)

    def step(carry, key):
        state, s, total, weight = carry
        state, seen = env.step(key, state, -gain @ s)
        return (state, seen.observation, total + weight * seen.reward, weight * discount), None

    carry = (state, first, jnp.zeros(()), jnp.ones(()))
    return first, jax.lax.scan(step, carry, jax.random.split(play_key, steps))[0][2]


@pytest.mark.long
def test_it_follows_its_equations_and_is_cut_short():
    env = regulator(noise=0.0, horizon=5)
    first, u, seen = jax.jit(lambda: play_all(env, 12))()
    s, u = origins(first, seen), np.asarray(u)
    a, b, q, r = TWO.matrices()
    np.testing.assert_allclose(seen.next_observation, s @ a.T + u @ b.T, rtol=1e-5, atol=1e-6)
    cost = np.sum(s @ q * s, -1) + np.sum(u @ r * u, -1)
    np.testing.assert_allclose(seen.reward, -cost, rtol=1e-5)
    np.testing.assert_array_equal(np.flatnonzero(seen.truncated), [4, 9])
    assert not np.any(seen.terminated)
    assert np.all(seen.observation[4] != seen.next_observation[4])
    assert np.all(seen.observation[4] != first)
    assert (env.observation.shape, env.action.shape, env.horizon) == ((2,), (1,), 5)
    assert np.isinf(env.action.low).all() and np.isinf(env.action.high).all()
    assert float(regulator(bound=3.0).action.high[0]) == 3


@pytest.mark.long
def test_noise_and_start_have_the_stated_deviations():
    env = envs.make("LQR", a=0.0, b=0.0, noise=0.3, spread=2.0, horizon=1)
    _, _, seen = jax.jit(lambda: play_all(env, 4000))()
    assert np.std(seen.next_observation) == pytest.approx(0.3, rel=5 / 8000**0.5)
    assert np.std(seen.observation) == pytest.approx(2.0, rel=5 / 8000**0.5)
    cross = np.mean(seen.next_observation * seen.observation)
    assert abs(cross) < 5 * 0.6 / 4000**0.5


@pytest.mark.long
def test_values_are_those_of_the_closed_form():
    noise, copies = 0.2, 2000
    env = regulator(noise=noise, horizon=200)
    play = functools.partial(returns, env, GAIN, steps=120, discount=TWO.discount)
    first, found = jax.jit(jax.vmap(play))(jax.random.split(KEY, copies))
    p, first = value(TWO, GAIN), np.asarray(first, np.float64)
    added = TWO.discount / (1 - TWO.discount) * noise**2 * np.trace(p)
    off = np.asarray(found) + np.sum(first @ p * first, -1) + added
    assert abs(off.mean()) < 5 * off.std() / copies**0.5
    assert off.std() / copies**0.5 < 0.1 * added  # else the noise's part would go unnoticed


@pytest.mark.long
def test_a_step_can_be_differentiated_in_state_action_and_gain():
    env = regulator(noise=0.0, horizon=200)
    play = functools.partial(returns, env, steps=120, discount=TWO.discount)

    def cost(gain):
        return -play(gain, KEY)[1]

    first = np.asarray(play(GAIN, KEY)[0], np.float64)
    total, _ = gain_gradient(TWO, GAIN, np.outer(first, first))
    np.testing.assert_allclose(jax.jit(jax.grad(cost))(jnp.asarray(GAIN)), total, rtol=1e-3)


def test_numbers_may_be_traced():
    @jax.jit
    @jax.vmap
    def after(a, noise):
        env = envs.make("LQR", a=a, noise=noise)
        state, _ = env.reset(KEY)
        return env.step(KEY, state, jnp.zeros(1))[1].next_observation[0]

    start = float(envs.make("LQR").reset(KEY)[1][0])
    np.testing.assert_allclose(
        after(jnp.array([0.0, 2.0]), jnp.zeros(2)), [0, 2 * start], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"a": [[1.0, 2.0]]}, r"a: shape \(1, 2\) was given; allowed: \(1, 1\)"),
        ({"a": np.eye(2)}, r"b: shape \(1, 1\) was given; allowed: \(2, 1\)"),
        ({"a": np.eye(2), "b": np.ones((2, 1))}, r"q: shape \(1, 1\) was given; allowed: \(2, 2\)"),
        ({"b": np.ones((1, 3))}, r"r: shape \(1, 1\) was given; allowed: \(3, 3\)"),
        ({"horizon": 0}, "horizon: 0 was given; allowed: a whole number >= 1"),
        ({"horizont": 5}, "LQR has no parameter 'horizont'; did you mean 'horizon'"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message) as error:
        envs.make("LQR", **options)
    assert "\n" not in str(error.value)
