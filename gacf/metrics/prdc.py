"""Precision, recall, density and coverage of a sample in a feature space."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gacf.core.checks import require
from gacf.core.types import Metrics, PyTree
from gacf.metrics.distances import ROWS, floating, square_distances_from


def _by_row(function: Callable[[jax.Array, jax.Array], PyTree], x: jax.Array) -> PyTree:
    """Computes `function(i, x[i])` for all rows, many at a time."""
    rows = (jnp.arange(x.shape[0]), x)
    return jax.lax.map(lambda row: function(*row), rows, batch_size=min(ROWS, x.shape[0]))


def _square_radii(x: jax.Array, k: int) -> jax.Array:
    """Squared distance of each row to its k-th nearest other row, [n]."""

    def radius(index: jax.Array, point: jax.Array) -> jax.Array:
        square = square_distances_from(point, x)
        others = jnp.where(jnp.arange(x.shape[0]) == index, jnp.inf, square)
        return -jax.lax.top_k(-others, k)[0][-1]

    return _by_row(radius, x)


def prdc(real: jax.Array, fake: jax.Array, k: int = 5) -> Metrics:
    """Fidelity and diversity by nearest neighbours.

    Each sample has an open ball that reaches to its k-th nearest neighbour of the same kind, not
    counting itself.

        precision   share of fakes inside some real ball
        recall      share of reals inside some fake ball
        density     mean over fakes of (number of real balls around it) / k
        coverage    share of reals with a fake in their ball

    Args:
        real: features [n, D], n > k.
        fake: features [m, D], m > k.
        k: the number of neighbours.

    Returns:
        The four metrics, float32 scalars. Only a few rows of distances are in memory at a time.

    Raises:
        ValueError: k < 1, or there are too few samples for k.

    Reference:
        Kynkäänniemi et al. 2019; Naeem et al. 2020, eqs. 3 to 6.

    Example:
        >>> import jax
        >>> x = jax.random.normal(jax.random.key(0), (50, 2))
        >>> {name: round(float(value), 2) for name, value in prdc(x, x + 100).items()}
        {'precision': 0.0, 'recall': 0.0, 'density': 0.0, 'coverage': 0.0}
    """
    least = min(real.shape[0], fake.shape[0])
    require("k", k, lambda k: 1 <= k < least and k == int(k), f"a whole number in [1, {least - 1}]")
    real, fake = floating(real), floating(fake)
    real_radii, fake_radii = _square_radii(real, k), _square_radii(fake, k)

    def of_real(index: jax.Array, point: jax.Array) -> tuple[jax.Array, jax.Array]:
        square = square_distances_from(point, fake)
        return jnp.any(square < fake_radii), jnp.min(square) < real_radii[index]

    def of_fake(index: jax.Array, point: jax.Array) -> jax.Array:
        return jnp.sum(square_distances_from(point, real) < real_radii)

    recalled, covered = _by_row(of_real, real)
    balls = _by_row(of_fake, fake)
    return {
        "precision": jnp.mean(balls > 0, dtype=jnp.float32),
        "recall": jnp.mean(recalled, dtype=jnp.float32),
        "density": jnp.mean(balls, dtype=jnp.float32) / k,
        "coverage": jnp.mean(covered, dtype=jnp.float32),
    }
