from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gacf.stabilizers import weight_clip

PARAMS = {"w": jnp.array([[0.3, -0.5], [0.2, 0.0]]), "b": jnp.array([0.45])}
CHANGE = {"w": jnp.array([[0.4, -9.0], [-0.1, 1e-9]]), "b": jnp.array([0.01])}


def test_parameters_stay_in_the_box():
    clip = weight_clip(0.5)
    change, _ = clip.update(CHANGE, clip.init(PARAMS), PARAMS)
    after = optax.apply_updates(PARAMS, change)
    np.testing.assert_allclose(after["w"], [[0.5, -0.5], [0.1, 1e-9]], rtol=1e-6)
    np.testing.assert_allclose(after["b"], [0.46], rtol=1e-6)
    # what starts outside is brought in
    outside = jax.tree.map(lambda p: p + 7, PARAMS)
    change, _ = clip.update(CHANGE, clip.init(outside), outside)
    for leaf in jax.tree.leaves(optax.apply_updates(outside, change)):
        np.testing.assert_allclose(leaf, np.clip(leaf, -0.5, 0.5), rtol=1e-5)


def test_what_is_inside_moves_as_it_would_to_the_bit():
    for bound in (10.0, jnp.inf, jnp.array(0.75)):
        clip = weight_clip(bound)
        small = jax.tree.map(lambda c: c * 0.01, CHANGE)
        change, _ = clip.update(small, clip.init(PARAMS), PARAMS)
        jax.tree.map(np.testing.assert_array_equal, change, small)


def test_a_wasserstein_critic_meets_its_bound():
    """max_w w E(x − y) over |w| <= c: the dual's value is c |E(x − y)|, whatever the steps."""
    gap = jnp.array([3.0, -0.2])
    move = optax.chain(optax.rmsprop(0.1), weight_clip(0.25))

    def step(carry, _):
        w, state = carry
        change, state = move.update(-gap, state, w)
        return (optax.apply_updates(w, change), state), None

    start = jnp.zeros(2)
    (w, _), _ = jax.lax.scan(step, (start, move.init(start)), length=50)
    np.testing.assert_allclose(w, [0.25, -0.25], rtol=1e-6)


def test_one_program_serves_a_sweep():
    def clipped(bound):
        clip = weight_clip(bound)
        return optax.apply_updates(PARAMS, clip.update(CHANGE, clip.init(PARAMS), PARAMS)[0])["b"]

    bounds = jnp.array([0.1, 0.5])
    np.testing.assert_allclose(jax.jit(jax.vmap(clipped))(bounds)[:, 0], [0.1, 0.46], rtol=1e-6)


def test_errors():
    with pytest.raises(ValueError, match="bound: 0 was given; allowed: a number > 0"):
        weight_clip(0)
    with pytest.raises(ValueError, match="params: None was given; weight_clip needs"):
        weight_clip(1.0).update(CHANGE, optax.EmptyState())
