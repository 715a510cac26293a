from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


def test_errors():
    with pytest.raises(ValueError, match=r"amount: 1.5 was given; allowed: a number in \[0, 1\]"):
        smooth(1.5)
    with pytest.raises(ValueError, match=r"prior: 'median' is unknown; .*mean"):
        smooth(0.5, prior="median")
