from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gacf import data
from gacf.metrics import modes, stacked_modes

KEY = jax.random.key(0)


def values(samples, mixture):
    return {name: float(x) for name, x in modes(samples, mixture.means, mixture.scale).items()}


@pytest.mark.long
@pytest.mark.parametrize("mixture", [data.ring(), data.grid()], ids=["ring", "grid"])
def test_a_perfect_model(mixture):
    n = 40_000
    found = values(mixture.sample(KEY, n), mixture)
    share = 1 - np.exp(-4.5)  # of a plane Gaussian within three standard deviations: 98.89 %
    assert found["high_quality"] == pytest.approx(share, abs=4 * np.sqrt(share / n / 90))
    assert found["modes"] == len(mixture.means)
    assert 0 <= found["reverse_kl"] < 1e-3


@pytest.mark.long
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


@pytest.mark.long
def test_collapse_to_one_mode():
    mixture = data.ring()
    found = values(jnp.tile(mixture.means[3:4], (100, 1)), mixture)
    assert found == {
        "modes": 1,
        "high_quality": 1,
        "reverse_kl": pytest.approx(np.log(8), rel=1e-6),
    }


@pytest.mark.long
def test_a_diverged_model_scores_nothing():
    mixture = data.ring()
    found = values(jnp.full((10, 2), jnp.nan), mixture)
    assert found["modes"] == 0 and found["high_quality"] == 0
    assert found["reverse_kl"] == pytest.approx(np.log(8), rel=1e-6)


@pytest.mark.long
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


def by_brightness(images):
    """A classifier of single digits that reads the class off the first pixel."""
    return -jnp.abs(images[:, 0, 0] - jnp.arange(10.0)[None])


@pytest.mark.long
def test_stacked_modes_against_counting_by_hand():
    digits = np.array([[1, 2, 3], [1, 2, 3], [1, 2, 4], [0, 0, 0], [9, 9, 9], [3, 2, 1]])
    samples = np.zeros((6, 8, 8, 3), np.float32)
    samples[:, 0, 0] = digits + 0.2
    found = {
        name: float(x) for name, x in stacked_modes(jnp.asarray(samples), by_brightness).items()
    }
    share = np.array([2, 1, 1, 1, 1]) / 6
    assert found == {
        "modes": 5,
        "kl": pytest.approx(np.sum(share * np.log(1000 * share)), rel=1e-5),
    }


@pytest.mark.long
def test_real_stacked_digits_cover_a_thousand_modes():
    stacked = data.stacked_digits()
    images, wanted = stacked.labelled(KEY, 26_000)
    # by the labels themselves, that is with a perfect classifier
    known = (
        jnp.zeros((26_000, 8, 8, 3))
        .at[:, 0, 0]
        .set(jnp.stack([wanted // 100, wanted // 10 % 10, wanted % 10], axis=1).astype(jnp.float32))
    )
    found = stacked_modes(known, by_brightness)
    assert float(found["modes"]) == 1000
    # of a sample of n, KL from its own distribution is near (1000 - 1) / 2n
    assert float(found["kl"]) == pytest.approx(999 / 52_000, rel=0.3)
    assert images.shape == (26_000, 8, 8, 3)
