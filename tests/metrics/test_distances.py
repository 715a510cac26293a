from __future__ import annotations

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.spatial.distance
import scipy.stats
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

from gacf.metrics import fid, kid, mmd, prdc, sliced_wasserstein

KEY = jax.random.key(0)


def two_samples(n=60, m=60, d=4, shift=0.5):
    real_key, fake_key = jax.random.split(KEY)
    mix = jax.random.normal(jax.random.key(9), (d, d))
    return (
        jax.random.normal(real_key, (n, d)) @ mix + 10,
        jax.random.normal(fake_key, (m, d)) * 1.3 + shift + 10,
    )


@pytest.mark.long
def test_fid_against_the_matrix_square_root():
    real, fake = (np.asarray(x, np.float64) for x in two_samples(80, 70))
    first, second = np.cov(real, rowvar=False), np.cov(fake, rowvar=False)
    apart = np.sum((real.mean(0) - fake.mean(0)) ** 2)
    root = scipy.linalg.sqrtm(first @ second)
    expected = apart + np.trace(first + second - 2 * np.real(root))
    assert fid(real, fake) == pytest.approx(expected, rel=1e-9)
    assert fid(fake, real) == pytest.approx(expected, rel=1e-9)


def test_fid_of_a_sample_with_itself_and_with_a_dead_feature_is_zero():
    real, _ = two_samples()
    assert fid(real, real) == pytest.approx(0, abs=1e-6)
    dead = np.asarray(real).copy()
    dead[:, 1] = 0.0
    assert fid(dead, dead) == pytest.approx(0, abs=1e-6)
    assert np.isnan(fid(real, real.at[3, 1].set(jnp.nan)))


def test_fid_errors():
    with pytest.raises(ValueError, match="4 samples of 4 features were given"):
        fid(np.zeros((4, 4)), np.zeros((9, 4)))
    with pytest.raises(ValueError, match=r"\(9, 3\) and \(9, 4\)"):
        fid(np.zeros((9, 3)), np.zeros((9, 4)))


def naive_prdc(real, fake, k):
    """A loop over pairs, straight from the definitions."""
    distance = lambda x, y: float(np.sqrt(np.sum((x - y) ** 2)))  # noqa: E731

    def radii(points):
        return [
            sorted(distance(p, q) for j, q in enumerate(points) if j != i)[k - 1]
            for i, p in enumerate(points)
        ]

    real_radii, fake_radii = radii(real), radii(fake)
    inside_real = np.array(
        [
            [distance(r, f) < radius for r, radius in zip(real, real_radii, strict=True)]
            for f in fake
        ]
    )
    inside_fake = np.array(
        [
            [distance(r, f) < radius for f, radius in zip(fake, fake_radii, strict=True)]
            for r in real
        ]
    )
    return {
        "precision": inside_real.any(1).mean(),
        "recall": inside_fake.any(1).mean(),
        "density": inside_real.sum() / (k * len(fake)),
        "coverage": inside_real.any(0).mean(),
    }


@pytest.mark.long
@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("sizes", [(40, 50), (50, 40)])
def test_prdc_against_a_naive_loop(k, sizes):
    real, fake = two_samples(*sizes)
    expected = naive_prdc(np.asarray(real, np.float64), np.asarray(fake, np.float64), k)
    found = {name: float(value) for name, value in prdc(real, fake, k).items()}
    assert found == pytest.approx(expected, rel=1e-6)
    assert 0 < found["precision"] < 1 and 0 < found["recall"] < 1


@pytest.mark.long
def test_prdc_excludes_itself_and_is_strict():
    line = jnp.arange(10.0)[:, None]
    found = prdc(line, line + 1, k=1)  # a fake at exactly the radius is outside: only hits count
    expected = naive_prdc(np.asarray(line), np.asarray(line + 1), 1)
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected)


@pytest.mark.long
def test_prdc_in_chunks_of_rows(monkeypatch):
    real, fake = two_samples(23, 31)
    whole = prdc(real, fake)
    monkeypatch.setattr(importlib.import_module("gacf.metrics.prdc"), "ROWS", 7)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), prdc(real, fake), whole)
    with pytest.raises(ValueError, match=r"k: 23 was given; allowed: a whole number in \[1, 22\]"):
        prdc(real, fake, k=23)


@pytest.mark.slow
def test_prdc_golden_value():
    real, fake = (jax.random.normal(key, (10_000, 1000)) for key in jax.random.split(KEY))
    found = {name: float(value) for name, value in prdc(real, fake).items()}
    golden = {"precision": 0.477, "recall": 0.471, "density": 1.056, "coverage": 0.974}
    # the published row is one draw; over draws density has a standard deviation of 0.06
    spread = {"precision": 0.04, "recall": 0.03, "density": 0.18, "coverage": 0.03}
    for name, value in golden.items():
        assert found[name] == pytest.approx(value, abs=spread[name]), name


@pytest.mark.long
def test_mmd_against_sklearn():
    real, fake = two_samples(40, 50)
    width = np.median(scipy.spatial.distance.pdist(np.asarray(real, np.float64)))
    for bandwidth in (None, 0.8):
        gamma = 1 / (2 * (width if bandwidth is None else bandwidth) ** 2)
        xx, yy = rbf_kernel(real, gamma=gamma), rbf_kernel(fake, gamma=gamma)
        xy = rbf_kernel(real, fake, gamma=gamma)
        off = lambda kernel: kernel[~np.eye(len(kernel), dtype=bool)].mean()  # noqa: E731
        expected = off(xx) + off(yy) - 2 * xy.mean()
        assert float(mmd(real, fake, bandwidth)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.long
def test_kid_against_sklearn():
    real, fake = (x - 10 for x in two_samples(40, 50))
    xx, yy, xy = (
        polynomial_kernel(a, b, degree=3, gamma=1 / 4, coef0=1)
        for a, b in ((real, real), (fake, fake), (real, fake))
    )
    off = lambda kernel: kernel[~np.eye(len(kernel), dtype=bool)].mean()  # noqa: E731
    expected = off(xx) + off(yy) - 2 * xy.mean()
    assert float(kid(real, fake)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("distance", [mmd, kid])
def test_kernel_distances_are_unbiased(distance):
    def of(key):
        first, second = jax.random.split(key)
        return distance(jax.random.normal(first, (20, 3)), jax.random.normal(second, (20, 3)))

    many = np.asarray(jax.jit(jax.vmap(of))(jax.random.split(KEY, 2000)))
    assert abs(many.mean()) < 4 * many.std() / np.sqrt(len(many))
    assert (many < 0).any()


@pytest.mark.long
def test_sliced_wasserstein_against_scipy():
    real, fake = (jnp.asarray(x[:, :1]) for x in two_samples())
    expected = scipy.stats.wasserstein_distance(np.asarray(real)[:, 0], np.asarray(fake)[:, 0])
    found = sliced_wasserstein(real, fake, KEY, projections=3, order=1.0)
    assert float(found) == pytest.approx(expected, rel=1e-4)


@pytest.mark.long
def test_sliced_wasserstein_of_a_shift_is_known():
    real, _ = two_samples(d=5)
    shift = jnp.array([[3.0, 0, 0, 4.0, 0]])
    found = sliced_wasserstein(real, real + shift, KEY, projections=20_000)
    assert float(found) == pytest.approx(5 / np.sqrt(5), rel=0.03)  # E (u·s)² = |s|² / D
    assert float(sliced_wasserstein(real, real[::-1], KEY)) == 0
    with pytest.raises(ValueError, match=r"shapes \(60, 5\) and \(59, 5\)"):
        sliced_wasserstein(real, real[1:], KEY)


@pytest.mark.long
def test_traceable_ones_are_vmapped():
    real, fake = two_samples(30, 30)
    stacked = jnp.stack([fake, real + 3])
    for distance in (prdc, mmd, kid, lambda x, y: sliced_wasserstein(x, y, KEY)):
        many = jax.jit(jax.vmap(distance, in_axes=(None, 0)))(real, stacked)
        for i in range(2):
            jax.tree.map(
                lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-3, atol=1e-5),
                many,
                distance(real, stacked[i]),
            )
