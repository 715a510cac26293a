from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gacf import data
from gacf.metrics import modes

KEY = jax.random.key(0)


def values(samples, mixture):
    return {name: float(x) for name, x in modes(samples, mixture.means, mixture.scale).items()}


@pytest.mark.parametrize("mixture", [data.ring(), data.grid()], ids=["ring", "grid"])
def test_a_perfect_model(mixture):
    n = 40_000
    found = values(mixture.sample(KEY, n), mixture)
    share = 1 - np.exp(-4.5)  # of a plane Gaussian within three standard deviations: 98.89 %
    assert found["high_quality"] == pytest.approx(share, abs=4 * np.sqrt(share / n / 90))
    assert found["modes"] == len(mixture.means)
    assert 0 <= found["reverse_kl"] < 1e-3


def test_against_counting_by_hand():
    mixture = data.ring(4, scale=0.1)
    samples = np.asarray(mixture.means)[[0, 0, 0, 1, 2]]
    samples = samples + np.array([[0, 0.29], [0, 0.31], [0.1, 0], [0.0, 0.0], [0.4, 0.4]])
    found = values(jnp.asarray(samples, jnp.float32), mixture)
    assert found["modes"] == 2
    assert found["high_quality"] == pytest.approx(3 / 5)
    histogram = np.bincount(
        np.argmin(((samples[:, None] - np.asarray(mixture.means)) ** 2).sum(-1), axis=1),
        minlength=4,
    )
    expected = stats.entropy(histogram / 5, np.full(4, 0.25))
    assert found["reverse_kl"] == pytest.approx(expected, rel=1e-5)


def test_collapse_to_one_mode():
    mixture = data.ring()
    found = values(jnp.tile(mixture.means[3:4], (100, 1)), mixture)
    assert found == {
        "modes": 1,
        "high_quality": 1,
        "reverse_kl": pytest.approx(np.log(8), rel=1e-6),
    }


def test_a_diverged_model_scores_nothing():
    mixture = data.ring()
    found = values(jnp.full((10, 2), jnp.nan), mixture)
    assert found["modes"] == 0 and found["high_quality"] == 0
    assert found["reverse_kl"] == pytest.approx(np.log(8), rel=1e-6)


def test_inside_vmap_scan_and_jit():
    mixture = data.ring()
    samples = jax.vmap(lambda key: mixture.sample(key, 50))(jax.random.split(KEY, 3))
    of = lambda x: modes(x, mixture.means, mixture.scale)  # noqa: E731
    batched = jax.jit(jax.vmap(of))(samples)
    scanned = jax.lax.scan(lambda c, x: (c, of(x)), None, samples)[1]
    for i in range(3):
        for many in (batched, scanned):
            jax.tree.map(
                lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-6),
                many,
                of(samples[i]),
            )
