"""Samples far from the origin and in tight clusters, against float64 on the same numbers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist

from gacf.metrics import fid, kid, mmd, modes, prdc, sliced_wasserstein
from gacf.metrics.distances import square_distances
from gacf.stabilizers import nearest_neighbours

KEY = jax.random.key(0)


def samples(kind: str, n: int = 150, m: int = 170, d: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """float32 samples: unit noise around one point, or narrow noise around one or two points."""
    draw = np.random.default_rng(0)
    if kind == "origin":
        center, width = np.zeros((1, d)), 1.0
    elif kind == "offset":
        center, width = np.full((1, d), 1000.0), 1.0
    elif kind == "tight":
        center, width = 100 * draw.normal(size=(1, d)), 1e-2
    else:
        center, width = 10 * draw.normal(size=(2, d)), 1e-3
    real, fake = (
        center[draw.integers(0, len(center), k)] + width * draw.normal(shift, size=(k, d))
        for k, shift in ((n, 0.0), (m, 0.5))
    )
    return real.astype(np.float32), fake.astype(np.float32)


KINDS = ("origin", "offset", "tight", "two clusters")


def brute_prdc(real: np.ndarray, fake: np.ndarray, k: int) -> dict[str, float]:
    def radius(x: np.ndarray) -> np.ndarray:
        return np.sort(cdist(x, x), 1)[:, k]  # the row itself comes first

    apart = cdist(real, fake)
    balls = apart < radius(real)[:, None]
    return {
        "precision": balls.any(0).mean(),
        "recall": (apart < radius(fake)).any(1).mean(),
        "density": balls.sum(0).mean() / k,
        "coverage": (apart.min(1) < radius(real)).mean(),
    }


def brute_mmd(real: np.ndarray, fake: np.ndarray, kernel: Any) -> float:
    xx, yy, xy = (kernel(a, b) for a, b in ((real, real), (fake, fake), (real, fake)))
    within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (xx, yy)]
    return float(sum(within) - 2 * xy.mean())


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_distances_and_neighbours(kind: str) -> None:
    real, fake = samples(kind)
    right = cdist(np.float64(real), np.float64(fake), "sqeuclidean")
    np.testing.assert_allclose(square_distances(real, fake), right, rtol=2e-6)
    right = brute_prdc(np.float64(real), np.float64(fake), 5)
    found = {name: float(x) for name, x in jax.jit(prdc)(real, fake).items()}
    assert found == pytest.approx(right, abs=1e-3)
    assert min(right.values()) > 0.1


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_gaussian_kernels(kind: str) -> None:
    real, fake = samples(kind)
    width = np.median(pdist(np.float64(real)))

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.exp(-cdist(x, y, "sqeuclidean") / (2 * width**2))

    right = brute_mmd(np.float64(real), np.float64(fake), kernel)
    assert float(jax.jit(mmd)(real, fake)) == pytest.approx(right, rel=1e-4, abs=2e-7)
    if kind == "tight":  # and so is its slope
        step = 1e-3 * np.eye(8)[:1]
        ahead, back = (
            brute_mmd(np.float64(real), np.float64(fake) + move, kernel) for move in (step, -step)
        )
        slope = jax.grad(lambda shift: mmd(real, fake + shift, width))(jnp.zeros((1, 8)))
        assert float(slope[0, 0]) == pytest.approx((ahead - back) / 2e-3, rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_cubic_kernels(kind: str) -> None:
    real, fake = samples(kind)

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x.astype(np.longdouble) @ y.T.astype(np.longdouble) / x.shape[1] + 1) ** 3

    right = brute_mmd(np.float64(real), np.float64(fake), kernel)
    assert float(jax.jit(kid)(real, fake)) == pytest.approx(right, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_projections(kind: str) -> None:
    real, fake = samples(kind, 160, 160)
    if kind == "two clusters":  # as many in each, or the distance between the two is all
        middle = np.median(real[:, 0])
        left = [x[x[:, 0] < middle] for x in (real, fake)]
        right = [x[x[:, 0] > middle] for x in (real, fake)]
        sizes = [min(map(len, side)) for side in (left, right)]
        real, fake = (
            np.concatenate([a[: sizes[0]], b[: sizes[1]]]) for a, b in zip(left, right, strict=True)
        )
    direction = np.float64(jax.random.normal(KEY, (8, 64), jnp.float32))
    direction /= np.linalg.norm(direction, axis=0)
    one, other = (np.sort(np.float64(x) @ direction, 0) for x in (real, fake))
    expected = np.sqrt(np.mean((one - other) ** 2))
    found = sliced_wasserstein(jnp.asarray(real), jnp.asarray(fake), KEY, projections=64)
    assert float(found) == pytest.approx(expected, rel=2e-3)


@pytest.mark.long
def test_what_was_exact_already_stays_so() -> None:
    """FID is computed in float64; modes and neighbours' entropy from differences."""
    real, fake = samples("origin")
    real, fake = (np.round(x * 2**10) / 2**10 for x in (real, fake))  # exact where they are moved
    assert fid(real + 4096, fake + 4096) == pytest.approx(fid(real, fake), rel=1e-9)
    here = nearest_neighbours(jnp.asarray(real))
    assert float(nearest_neighbours(jnp.asarray(real) + 4096)) == pytest.approx(float(here))
    means = jnp.asarray(real[:5])
    for name, value in modes(jnp.asarray(fake), means, 0.5).items():
        moved = modes(jnp.asarray(fake) + 4096, means + 4096, 0.5)[name]
        assert float(moved) == float(value)


@pytest.mark.long
def test_halves_and_whole_numbers_are_measured_in_float32() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (2, 40, 6), dtype=np.uint8)
    right = cdist(levels[0].astype(float), levels[1].astype(float), "sqeuclidean")
    np.testing.assert_allclose(square_distances(*map(jnp.asarray, levels)), right, rtol=1e-6)
    expected = float(kid(*map(jnp.asarray, levels.astype(np.float32))))
    assert float(kid(*map(jnp.asarray, levels))) == pytest.approx(expected)
