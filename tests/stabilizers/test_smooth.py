from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gacf
from gacf import rules
from gacf.stabilizers import smooth

TARGET = jnp.array([[1.0, 0.0, 0.3, -0.0], [7.25, -3.1, 1e-30, 1e30]])


@pytest.mark.parametrize("form", [{}, {"prior": "mean"}, {"prior": 0.1}, {"one_sided": True}])
@pytest.mark.parametrize("traced", [False, True])
def test_none_is_off_to_the_bit(form, traced):
    if traced:
        moved = jax.jit(lambda amount: smooth(amount, **form)(TARGET))(0.0)
    else:
        moved = smooth(0.0, **form)(TARGET)
    assert np.asarray(moved).tobytes() == np.asarray(TARGET).tobytes()


@pytest.mark.parametrize("amount", [0.1, 0.25, 1.0])
def test_two_sided_against_the_formula(amount):
    labels = np.array([[1.0, 1.0], [0.0, 0.0]], np.float32)
    expected = np.where(labels == 1, 1 - amount / 2, amount / 2)
    np.testing.assert_allclose(smooth(amount)(jnp.asarray(labels)), expected, rtol=1e-6)


@pytest.mark.long
def test_toward_the_batch_mean_keeps_each_mean_and_shrinks_the_spread():
    target = jax.random.normal(jax.random.key(0), (2, 50)) + jnp.array([[0.0], [5.0]])
    moved = smooth(0.25, prior="mean")(target)
    np.testing.assert_allclose(moved.mean(-1), target.mean(-1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(moved.std(-1), 0.75 * target.std(-1), rtol=1e-5)


def test_one_sided_moves_ones_alone():
    target = jnp.array([1.0, 0.0, -1.0, 0.5])
    np.testing.assert_allclose(smooth(0.1, one_sided=True)(target), [0.9, 0, -1, 0.5], rtol=1e-6)


def test_one_program_serves_a_sweep_and_keeps_the_dtype():
    amounts = jnp.array([0.0, 0.5])
    low = jnp.array([1.0, 0.0], jnp.bfloat16)
    swept = jax.jit(jax.vmap(lambda amount: smooth(amount)(low)))(amounts)
    assert swept.dtype == jnp.bfloat16
    assert swept.tolist() == [[1, 0], [0.75, 0.25]]


def best_critic(real: Any, fake: Any, transform: Any) -> jax.Array:
    """D = σ(c) at its optimum, a logit a point, with just these batches of points 0, 1, 2."""
    table = (lambda key: jnp.zeros(3), lambda c, x: c[x.astype(int)])
    generator = (lambda key: jnp.zeros(()), lambda theta, z: z)
    game = gacf.gan(
        generator, table, lambda key, n: jnp.asarray(real, float), batch_size=len(real),
        noise=lambda key, n: jnp.asarray(fake, float), transform_target=transform,
    )  # fmt: skip
    algorithm = gacf.compose(game, rules.player_step("critic", optax.sgd(2.0)), still="actor")
    state = algorithm.init(jax.random.key(0))
    end = jax.lax.scan(lambda s, _: (algorithm.step(s)[0], None), state, length=400)[0]
    return jax.nn.sigmoid(end.params["critic"])


@pytest.mark.long
def test_the_best_critic_of_one_sided_labels_says_half_of_alpha_where_fakes_are_perfect():
    """D* = α p_data / (p_data + p_g), α = 1 − amount (Salimans et al. 2016, section 3.4)."""
    p, q = [0, 0, 1, 2], [0, 1, 2, 2]
    one_sided, plain = smooth(0.2, one_sided=True), smooth(0.0)
    same = jax.jit(lambda: best_critic(p, p, one_sided))()
    np.testing.assert_allclose(same, 0.8 / 2, atol=1e-4)
    apart = jax.jit(lambda: best_critic(p, q, one_sided))()
    np.testing.assert_allclose(apart, 0.8 * np.array([2 / 3, 1 / 2, 1 / 3]), atol=1e-3)
    # two-sided: (1 − amount) times the plain one, and half of it for both
    both = jax.jit(lambda: best_critic(p, q, smooth(0.2)))()
    np.testing.assert_allclose(both, 0.8 * np.array([2 / 3, 1 / 2, 1 / 3]) + 0.1, atol=1e-3)
    np.testing.assert_allclose(jax.jit(lambda: best_critic(p, p, plain))(), 0.5, atol=1e-4)


def test_errors():
    with pytest.raises(ValueError, match=r"amount: 1.5 was given; allowed: a number in \[0, 1\]"):
        smooth(1.5)
    with pytest.raises(ValueError, match=r"prior: 'median' is unknown; .*mean"):
        smooth(0.5, prior="median")
