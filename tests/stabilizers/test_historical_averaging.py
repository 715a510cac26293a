from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gacf.stabilizers import historical_averaging


def test_gradient_of_the_penalty_along_a_path():
    path = jax.random.normal(jax.random.key(0), (6, 3))
    own = jax.random.normal(jax.random.key(1), (6, 3))
    drawn = historical_averaging(0.7)
    state: Any = drawn.init(path[0])
    got: Any
    for t in range(6):
        mean = np.asarray(path[: t + 1], np.float64).mean(0)
        penalty = jax.grad(lambda p, mean=mean: 0.7 * jnp.sum((p - jnp.asarray(mean)) ** 2))
        got, state = drawn.update(own[t], state, path[t])
        np.testing.assert_allclose(got, own[t] + penalty(path[t]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state.mean, path.mean(0), rtol=1e-5)
    assert int(state.count) == 6


def test_no_weight_is_off_to_the_bit_also_when_traced():
    params, gradient = jnp.array([1.0, -2.0]), jnp.array([0.1, -0.2])

    @jax.jit
    def after_two(weight):
        drawn = historical_averaging(weight)
        _, state = drawn.update(gradient, drawn.init(params), params)
        return drawn.update(gradient, state, params + 1)[0]

    np.testing.assert_array_equal(after_two(0.0), gradient)
    np.testing.assert_allclose(after_two(2.0), gradient + 2.0, rtol=1e-6)


def test_the_fixed_point_of_a_quadratic_is_its_minimum_which_it_nears_by_a_power_of_time():
    """Of a(θ − c)²/2 + w(θ − mean)²: θ − c = 2w/(a + 2w) (mean − c) ∝ t^(−a/(a + 2w)) → 0."""
    c, a = 3.0, 1.0

    def after(weight, steps):
        optimizer = optax.chain(historical_averaging(weight), optax.sgd(0.2))

        def step(carry, _):
            theta, state = carry
            change, state = optimizer.update(a * (theta - c), state, theta)
            return (theta + change, state), theta

        start = jnp.array(0.0)
        (_, state), path = jax.lax.scan(step, (start, optimizer.init(start)), None, steps)
        return path[-1], state[0].mean

    for weight in (0.0, 0.5, 1.5):
        run = jax.jit(after, static_argnums=1)
        (early, _), (late, mean) = run(weight, 1000), run(weight, 4000)
        share = 2 * weight / (a + 2 * weight)
        assert float(late - c) == pytest.approx(share * float(mean - c), rel=0.01, abs=1e-5)
        assert float(late - c) == pytest.approx(float(early - c) * 4 ** (share - 1), abs=2e-3)


def test_it_turns_an_outward_spiral_inwards():
    def radius(weight):
        optimizer = optax.chain(historical_averaging(weight), optax.sgd(0.1))

        def step(carry, _):
            z, state = carry
            change, state = optimizer.update(jnp.array([z[1], -z[0]]), state, z)
            return (z + change, state), None

        z = jnp.array([1.0, 1.0])
        (z, _), _ = jax.lax.scan(step, (z, optimizer.init(z)), None, 500)
        return float(jnp.linalg.norm(z))

    assert radius(0.0) == pytest.approx(2**0.5 * 1.01**250, rel=1e-3)  # spirals outwards
    assert radius(1.0) < 0.5 * 2**0.5


def test_errors():
    with pytest.raises(ValueError, match=r"weight: -1\.0 was given"):
        historical_averaging(-1.0)
    drawn = historical_averaging(1.0)
    with pytest.raises(ValueError, match="params: None was given"):
        drawn.update(jnp.array(1.0), drawn.init(jnp.array(1.0)))
